"""Pieces of a run at an address: each fetches what it needs and sends what it makes, by itself.

    a worker's machine                       the address                       the driver's machine

    results to read      <-- whole files --  RUN/teachers/...           <--    copy of the run
    folder of the piece  -- what it has -->  RUN/.whole/made/WORKER/N   -->    .partial/<stage>

Files go round one way. A worker reads results that it has fetched as the last whole list names
them, and writes in a folder of its own. What it has is sent under names that are never used again;
the driver, which alone writes lists and puts results in place, is told of it and fetches it. So
no two write one file, and a worker that is lost, or cut off and still at work, can only have sent
what nobody looks at.
"""

import os
import platform
import re
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from cpsd.addresses import copies_folder, local_place
from cpsd.errors import RunError, UserError
from cpsd.files import is_another_process
from cpsd.folder_copy import FolderCopy
from cpsd.stage import MARKS, Stage
from cpsd.whole_files import MADE, WHOLE, Index, WholeFile, last_index

SECONDS_TO_FETCH = 90.0
"""How long a worker tries to fetch what the driver's lists name: they may change meanwhile."""
_OF_PIECE = re.compile(r"(?:manifest-)?(\d+)(?:\.\w+)?")
"""Files and folders of an unfinished stage that are one piece's and bear its number."""


@dataclass(frozen=True)
class Made:
    """What a piece has, beyond what it found when it began: whole, and at the address.

    Args:
        worker: that has sent it.
        files: by name relative to the run's address, in the order in which they were written.
        keys: where each lies, relative to the run's address.
        gone: names of files that are not there any more.
    """

    worker: str
    files: dict[str, WholeFile] = field(default_factory=dict)
    keys: dict[str, str] = field(default_factory=dict)
    gone: tuple[str, ...] = ()


class PieceCopy:
    """What a worker has of a run at an address: results to read, and a folder to work in.

    Args:
        address: where the lists of the run, or of the comparison that it belongs to, are.
        run: the run directory, relative to that address.
        worker: a name that no other worker has.
        folder: empty, to work in.
        tell: told what the piece has so far, whenever that was sent.
    """

    def __init__(
        self, address: str, run: str, worker: str, folder: Path, tell: Callable[[Made], object]
    ) -> None:
        self._run = PurePosixPath(run)
        # Not the copy of the run that this machine may have too: the driver may be working on it.
        place = local_place(address).relative_to(copies_folder())
        self._results = FolderCopy(address, copies_folder() / ".results" / place)
        self._begun = FolderCopy(address, folder)
        self._sent = FolderCopy(address, folder, lambda name, file: self._keys[name])
        self._keys: dict[str, str] = {}
        self._number = 0
        self._found: Index = {}
        self._tell = tell
        self.made = Made(worker)
        self.results = self._results.folder / run
        """The run directory to read in."""
        self.begun = folder / run
        """The run directory to work in: it has the unfinished stage and nothing else."""
        (self.begun / MARKS).mkdir(parents=True)

    def fetch_results(self, names: set[str]) -> None:
        """Fetch files and folders of the run for reading, by their names relative to it.

        Raises:
            RunError: they are not whole at the address.
        """
        self._fetch(self._results, lambda name: _is_in(name, self._run, names))

    def fetch_beside(self, name: str) -> Path:
        """Return where a file of the address is here, by its name relative to that, if it is.

        Raises:
            RunError: it is not whole.
        """
        self._fetch(self._results, lambda one: one == name)
        return self._results.folder / name

    def fetch_begun(self, stage: Stage, part: str | None) -> None:
        """Fetch what a stage has so far; of the files of its other pieces, none.

        Raises:
            RunError: it is not whole at the address.
        """
        folder = self._run / stage.begun

        def wanted(name: str) -> bool:
            path = PurePosixPath(name)
            if not path.is_relative_to(folder):
                return False
            return part is None or _may_be_of(path.relative_to(folder), part)

        self._found = self._fetch(self._begun, wanted)

    @contextmanager
    def telling_addresses(self) -> Iterator[None]:
        """Have errors name addresses in place of the folders of this machine."""
        try:
            yield
        except UserError as error:
            text = str(error)
            for copy in (self._results, self._begun):
                text = text.replace(str(copy.folder), copy.address)
            error.args = (text,)
            raise

    def _fetch(self, copy: FolderCopy, wanted: Callable[[str], bool]) -> Index:
        deadline = time.monotonic() + SECONDS_TO_FETCH
        while True:
            found = last_index(copy.address)
            files = {name: file for name, file in (found or (0, {}))[1].items() if wanted(name)}
            if found is not None and not (broken := copy.fetch(files)):
                return files
            if time.monotonic() > deadline:
                what = "it holds no run" if found is None else f"{broken[0]} is not whole there"
                raise RunError(
                    f"The machine {platform.node()} cannot read {copy.address}: {what}. Start the "
                    "same command again."
                )
            time.sleep(0.2)

    def send(self) -> bool:
        """Send what has changed, then tell of it; return whether it could be done.

        Raises:
            AddressError: the address cannot be reached or written to.
        """
        seen = self._sent.scan()
        as_it_is = {name: file for name in seen if (file := self._sent.as_it_is(name)) is not None}
        by_time = sorted(as_it_is, key=lambda name: seen[name][1])
        files = {n: as_it_is[n] for n in by_time if as_it_is[n] != self._found.get(n)}
        new = [name for name, file in files.items() if self.made.files.get(name) != file]
        for name in new:
            self._number += 1
            self._keys[name] = f"{WHOLE}/{MADE}/{self.made.worker}/{self._number}"
        try:
            self._sent.put_all(new, files, {})
        except FileNotFoundError:
            return False
        if self._sent.scan() != seen:
            return False
        gone = {*self._found, *self.made.files, *self.made.gone} - as_it_is.keys()
        keys = {name: self._keys[name] for name in files}
        made = Made(self.made.worker, files, keys, tuple(sorted(gone)))
        if made != self.made:
            self.made = made
            self._tell(made)
        return True


@contextmanager
def folder_of_piece(worker: str) -> Iterator[Path]:
    """Yield an empty folder among this machine's copies that goes with the block.

    What killed processes of this machine have left is removed.
    """
    pieces = copies_folder() / ".pieces"
    pieces.mkdir(parents=True, exist_ok=True)
    here = re.escape(platform.node())
    for left in list(pieces.iterdir()):
        owner = re.fullmatch(rf"{here}\.(\d+)\.\w+", left.name)
        if owner is not None and not is_another_process(int(owner[1])):
            shutil.rmtree(left, ignore_errors=True)
    folder = pieces / f"{platform.node()}.{os.getpid()}.{worker}"
    folder.mkdir()
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


class Collection:
    """Takes what workers have made into the copy of the run on the driver's machine.

    Args:
        address: of the run, or of the comparison that the runs belong to.
        folder: its copy here.
    """

    def __init__(self, address: str, folder: Path) -> None:
        self.address = address
        self.folder = folder
        self._keys: dict[str, str] = {}
        self._copy = FolderCopy(address, folder, lambda name, file: self._keys[name])
        self._last: dict[str, Made] = {}

    def take(self, made: Made) -> bool:
        """Have here what a worker has; return whether all of it was whole.

        Raises:
            AddressError: the address cannot be reached.
        """
        self._keys = made.keys
        is_whole = self._copy.fetch_all(made.files)
        if is_whole:
            for name in made.gone:
                (self.folder / name).unlink(missing_ok=True)
        before = self._last.get(made.worker, Made(made.worker))
        self._last[made.worker] = made
        self._copy.forget({*before.keys.values()} - {*made.keys.values()})
        return is_whole

    def close(self) -> None:
        """Remove all that workers have sent and that was taken."""
        for worker in [*self._last]:
            self.end(worker)

    def end(self, worker: str) -> None:
        """Remove what a worker has sent; it was taken, or is of no use."""
        self._last.pop(worker, None)
        self._copy.forget_folder(f"{WHOLE}/{MADE}/{worker}")


def _is_in(name: str, run: PurePosixPath, places: set[str]) -> bool:
    """Return whether a file is one of ``places`` of a run, or lies in one."""
    path = PurePosixPath(name)
    return any(path.is_relative_to(run / place) for place in places)


def _may_be_of(name: PurePosixPath, part: str) -> bool:
    """Return whether a file of an unfinished stage may be of the piece with the number ``part``.

    Example:
        >>> names = ("fingerprint", "t/1/model.json", "s/00001.npy", "0.ckpt", "attempts/2/a.json")
        >>> [_may_be_of(PurePosixPath(name), "1") for name in names]
        [True, True, True, False, False]
    """
    found = map(_OF_PIECE.fullmatch, name.parts)
    numbers = [int(match[1]) for match in found if match is not None]
    return not numbers or int(part) in numbers
