"""Pictures that cannot be used: all found before anything is learned, then told or left out.

A header says nothing about a file that was cut short, so every picture is decoded once. What was
found is remembered by the file's length and time, so that a run that goes on decodes none again.
Where decoded pictures stay in memory, or a pack holds them, looking costs next to nothing.
"""

import csv
import io
import os
import stat
from collections import Counter
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

import numpy as np

from cpsd.addresses import address_of, local_place, place_in, with_addresses
from cpsd.config import DataConfig
from cpsd.copies import fetch
from cpsd.csv_cells import as_text
from cpsd.data.images import (
    MissingPictureError,
    OutsidePictureError,
    PictureError,
    TruncatedPictureError,
)
from cpsd.data.kept_pixels import hand_over
from cpsd.data.pack import in_pack
from cpsd.data.picture_memory import PictureMemory
from cpsd.data.records import SKIPPED, TRAIN, VALIDATION, Records, Skipped
from cpsd.data.rows import ProblemKind
from cpsd.data.splits import first_rows
from cpsd.errors import DataError
from cpsd.files import write_text

Progress = Callable[[int, int], None]
Decode = Callable[[int], object]
"""Decodes the picture of a row; raises ``PictureError``."""

# Decoding leaves Python's lock, so threads help; pictures are handed out in chunks because all of
# a large data set's tasks at once would fill the memory.
_CHUNK = 512
WORTH_REMEMBERING = 1000
"""So many good pictures take a second or more to look at."""
_SHOWN = 20  # pictures named in a message before the rest is counted
_REMEDIES: dict[str, str] = {
    "missing": "restore the file, or set data.root to the folder that the paths are relative to",
    "outside": "move it into the data root, or set data.outside_root to 'follow'",
    "truncated": "copy or download the file again",
    "unreadable": "save it as JPEG or PNG",
}


@dataclass(frozen=True)
class PictureCheck:
    """How the pictures of a data set are looked at before they are used.

    Args:
        decoder: makes of records what decodes a row. Without it pictures are only looked for, and
            what ``memory`` says of them is believed.
        memory: file that remembers what was found.
        told_in: file for the complete list, where that is long.
        pack: a pack whose pictures need no look.
        progress: told how many pictures of how many were decoded.
    """

    decoder: Callable[[Records], Decode] | None = None
    memory: Path | None = None
    told_in: Path | None = None
    pack: Path | None = None
    progress: Progress | None = None


def without_bad_pictures(
    records: Records, config: DataConfig, check: PictureCheck
) -> tuple[Records, tuple[str, ...]]:
    """Return the records without what cannot be used, and sentences on it.

    A picture that is left out keeps its row, in the split ``skipped``: rows are what views are
    drawn by, so those of all others stay as they are.

    Raises:
        DataError: there is a bad picture and ``config.on_bad_image`` is ``fail``; the message and
            the file ``check.told_in`` have them all. Or nothing is left of a split.
    """
    faults = _faults(records, config, check)
    if not faults:
        return records, ()
    told = _told(records, faults, check.told_in)
    if config.on_bad_image == "fail":
        raise DataError(f"{told}\nMend them, or leave them out with --on-bad-image skip.")
    left = _left_out(records, faults)
    hand_over(records, left)
    for split in (TRAIN, VALIDATION, *records.test_splits()):
        if len(records.indices(split)) and not len(left.indices(split)):
            raise DataError(f"No usable picture is left in the split '{split}'. {told}")
    counts = Counter(skipped.split for skipped in left.skipped.values())
    by_split = ", ".join(f"{count:,} of {split}" for split, count in counts.items())
    return left, (f"Bad pictures were left out: {by_split}. {told}",)


def picture_faults(
    records: Records, decode: Decode, rows: Iterable[int], progress: Progress | None = None
) -> dict[int, PictureError]:
    """Return by row why pictures of ``rows`` cannot be decoded; several are looked at at a time.

    Args:
        records: the data set.
        decode: told the row of every picture that it shall decode.
        rows: which.
        progress: told how many of how many are done.
    """
    todo, found = list(rows), dict[int, PictureError]()

    def look(row: int) -> PictureError | None:
        try:
            decode(row)
        except PictureError as error:
            return error
        return None

    done = 0
    pool = ThreadPoolExecutor(max_workers=_cores())
    try:
        for start in range(0, len(todo), _CHUNK):
            chunk = todo[start : start + _CHUNK]
            for row, fault in zip(chunk, pool.map(look, chunk), strict=True):
                done += 1
                if fault is not None:
                    found[row] = fault
                if progress is not None:
                    progress(done, len(todo))
    finally:
        # After Ctrl-C, nobody waits for the rest of a chunk.
        pool.shutdown(cancel_futures=True)
    return found


class Places:
    """Where pictures may lie: under the data root, and under the folder of unlabelled pictures.

    Args:
        records: the data set.
        config: how it is read.
    """

    def __init__(self, records: Records, config: DataConfig) -> None:
        self._records = records
        further = [local_place(config.unlabelled)] if config.unlabelled else []
        folders = [records.root, *further]
        self._allowed = [os.path.join(os.path.realpath(folder), "") for folder in folders]  # noqa: PTH118
        self._any = config.outside_root == "follow"
        self._real: dict[str, str] = {}

    def status(self, row: int) -> os.stat_result:
        """Return what the system says of a picture's file, which nobody has opened yet.

        Raises:
            PictureError: it is not there, is no file, or lies elsewhere.
        """
        path = place_in(self._records.root, self._records.paths[row])
        try:
            if not self._any and not self._inside(path):
                raise OutsidePictureError(
                    f"The picture {path} lies outside the data root, the folder "
                    f"'{self._records.root}'; move it there, or set data.outside_root to 'follow'."
                )
            status = os.stat(path)  # noqa: PTH116
        except PictureError:
            raise
        except (FileNotFoundError, NotADirectoryError) as error:
            raise MissingPictureError(f"There is no picture {path}; check the path.") from error
        except OSError as error:
            raise PictureError(f"The picture {path} cannot be read ({error.strerror}).") from error
        except ValueError as error:  # a NUL, or half a character
            raise MissingPictureError(f"{path!a} can be no file's name.") from error
        if not stat.S_ISREG(status.st_mode):
            raise PictureError(f"The picture {path} is a folder or device, not a file.")
        return status

    def fetch(self, rows: Iterable[int], progress: Progress | None = None) -> None:
        """Copy the pictures of ``rows`` that lie at addresses, but for those that lie elsewhere.

        Raises:
            AddressError: an address cannot be reached.
        """
        paths = (place_in(self._records.root, self._records.paths[row]) for row in rows)
        copies = [path for path in paths if address_of(path) is not None]
        fetch([path for path in copies if self._any or self._inside(path)], progress)

    def _inside(self, path: str) -> bool:
        """Return whether a path stays inside, links followed; folders are looked at once each."""
        folder, name = os.path.split(path)
        if folder not in self._real:
            self._real[folder] = os.path.realpath(folder)
        real = os.path.join(self._real[folder], name)  # noqa: PTH118
        if name in ("", "..", ".") or os.path.islink(real):  # noqa: PTH114
            real = os.path.realpath(real)
        return any(real.startswith(allowed) for allowed in self._allowed)


def kind_of(error: PictureError) -> ProblemKind:
    """Return what the data check calls a fault."""
    if isinstance(error, MissingPictureError):
        return "missing"
    if isinstance(error, OutsidePictureError):
        return "outside"
    return "truncated" if isinstance(error, TruncatedPictureError) else "unreadable"


def _faults(records: Records, config: DataConfig, check: PictureCheck) -> dict[int, PictureError]:
    """Return by row what is wrong with the pictures that cannot be used."""
    places, memory = Places(records, config), PictureMemory(check.memory)
    first_N = first_rows(records)
    packed_N = np.zeros(len(records), dtype=np.bool_)
    for pack in (check.pack, config.pack):
        if pack is not None:
            packed_N |= in_pack(Path(pack), records)
    found: dict[int, PictureError] = {}
    looked_at: list[int] = []
    marks: dict[int, bytes] = {}
    distinct = np.unique(first_N).tolist()
    places.fetch(distinct, check.progress)
    for row in distinct:
        try:
            status = places.status(row)
        except PictureError as error:
            found[row] = error
            continue
        if packed_N[row]:
            continue
        mark = PictureMemory.mark(records.paths[row], status)
        remembered = memory.fault(mark) if config.on_bad_image == "skip" else None
        if remembered is not None:
            found[row] = remembered
        elif mark not in memory:
            looked_at.append(row)
            marks[row] = mark
    if check.decoder is not None and looked_at:
        faults = picture_faults(records, check.decoder(records), looked_at, check.progress)
        good = [marks[row] for row in looked_at if row not in faults]
        if config.on_bad_image == "skip":
            memory.remember(good, {marks[row]: fault for row, fault in faults.items()})
        elif len(good) >= WORTH_REMEMBERING:
            memory.remember(good, {})  # of those that the user shall mend, nothing
        found |= faults
    is_bad = np.zeros(len(records), dtype=np.bool_)
    is_bad[list(found)] = True
    return {row: found[int(first_N[row])] for row in np.flatnonzero(is_bad[first_N]).tolist()}


def _told(records: Records, faults: dict[int, PictureError], file: Path | None) -> str:
    """Return sentences on every bad picture; where there are many, the file has them all."""
    rows = sorted(faults)
    counts = Counter(kind_of(faults[row]) for row in rows)
    kinds = ", ".join(
        f"{count:,} {kind} ({_REMEDIES[kind]})"
        for kind in get_args(ProblemKind)
        if (count := counts[kind])
    )
    said = [f"{records.origins[row]}: {_why(faults[row])}" for row in rows[:_SHOWN]]
    whole = f"{len(rows):,} of {len(records):,} pictures cannot be used: {kinds}."
    if len(rows) > _SHOWN:
        said.append(f"And {len(rows) - _SHOWN:,} more.")
        if file is not None:
            _write_list(file, records, faults)
            said[-1] = f"And {len(rows) - _SHOWN:,} more; {file} has them all."
    return "\n".join([whole, *said])


def _why(fault: PictureError) -> str:
    """Return what is wrong with a picture, which goes by its address where it is a copy."""
    return with_addresses(str(fault))


def _write_list(file: Path, records: Records, faults: dict[int, PictureError]) -> None:
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(("row", "split", "picture", "kind", "what is wrong", "what would do"))
    for row in sorted(faults):
        kind, path = kind_of(faults[row]), records.paths[row]
        cells = (records.origins[row], records.splits[row], path, kind, _why(faults[row]))
        table.writerow(map(as_text, (*cells, _REMEDIES[kind])))
    write_text(file, text.getvalue())


def _left_out(records: Records, faults: dict[int, PictureError]) -> Records:
    splits = np.array(records.splits, dtype=object)
    skipped = {
        row: Skipped(splits[row], kind_of(fault), _why(fault)) for row, fault in faults.items()
    }
    splits[list(faults)] = SKIPPED
    return records.with_skipped(list(splits), skipped)


def _cores() -> int:
    known = hasattr(os, "sched_getaffinity")
    return len(os.sched_getaffinity(0)) if known else os.cpu_count() or 1
