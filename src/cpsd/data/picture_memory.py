"""What is remembered of pictures that were looked at, so that nobody looks twice.

A picture is known by its path in the data set, its file's length and its time of change. The file
is a help and no result: where it is missing or damaged, pictures are looked at again.
"""

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from cpsd.array_files import read_npz
from cpsd.data.images import (
    PictureError,
    TruncatedPictureError,
)
from cpsd.files import written_whole

_BYTES = 16


class PictureMemory:
    """Which pictures were found good, and what was wrong with the others.

    Args:
        path: the file; None remembers nothing.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._good: frozenset[bytes] = frozenset()
        self._bad: dict[bytes, PictureError] = {}
        if path is not None:
            self._read(path)

    @staticmethod
    def mark(picture: str, status: os.stat_result) -> bytes:
        """Return what stands for a picture and its file as it is now."""
        known = f"{picture}\0{status.st_size}\0{status.st_mtime_ns}"
        return hashlib.blake2b(known.encode("utf-8", "surrogatepass"), digest_size=_BYTES).digest()

    def __contains__(self, mark: bytes) -> bool:
        return mark in self._good

    def fault(self, mark: bytes) -> PictureError | None:
        """Return what was wrong with a picture, None where nothing is known."""
        return self._bad.get(mark)

    def remember(self, good: Sequence[bytes], bad: Mapping[bytes, PictureError]) -> None:
        """Write down what was found beside what is known.

        Raises:
            RunError: the file cannot be written.
        """
        if self._path is None:
            return
        self._good |= frozenset(good)
        self._bad |= bad
        told = {
            mark.hex(): [isinstance(fault, TruncatedPictureError), str(fault)]
            for mark, fault in self._bad.items()
        }
        marks = np.frombuffer(b"".join(sorted(self._good)), dtype=np.uint8).reshape(-1, _BYTES)
        with written_whole(self._path) as temporary, temporary.open("wb") as stream:
            np.savez(stream, good=marks, bad=np.array(json.dumps(told)))

    def _read(self, path: Path) -> None:
        try:
            content = read_npz(path)
            good = [mark.tobytes() for mark in content["good"].reshape(-1, _BYTES).view(np.uint8)]
            told = json.loads(str(content["bad"]))
            bad = {
                bytes.fromhex(mark): (TruncatedPictureError if cut else PictureError)(str(fault))
                for mark, (cut, fault) in told.items()
            }
        # Whatever damaged bytes make the readers stumble on; they have no common root.
        except Exception:
            return
        self._good = frozenset(good)
        self._bad = bad
