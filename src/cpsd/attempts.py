"""What all attempts at a stage took: those that failed, were interrupted or killed as well."""

import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from cpsd.cost import most
from cpsd.errors import RunError
from cpsd.files import read_hashed_json, write_hashed_json
from cpsd.peak_memory import forget_peaks, peak_of_gpu, peak_of_process

ATTEMPTS_FILE = "attempts.json"
_MOST = 2**62
"""Above it is no number of seconds or bytes."""
PIECES = "attempts"
"""Folder of an unfinished stage with a folder for each piece of it that was attempted."""


@dataclass
class Attempts:
    """What attempts took so far.

    Args:
        seconds: wall time of those that are over.
        peak_memory: most bytes of the process.
        peak_gpu_memory: most bytes of tensors on a GPU.
        begun: when one began that never said how it ended, in seconds since 1970.
    """

    seconds: float = 0.0
    peak_memory: int | None = None
    peak_gpu_memory: int | None = None
    begun: float | None = None


@contextmanager
def attempt(folder: Path) -> Iterator[Attempts]:
    """Measure the block as a further attempt at the stage that works in ``folder``.

    When the block ends, by an error as well, what was yielded says what all attempts took. An
    attempt whose process was killed counts until it last wrote a file.
    """
    attempts = _earlier(folder)
    began, attempts.begun = time.monotonic(), time.time()
    _write(folder, attempts)
    forget_peaks()
    try:
        yield attempts
    finally:
        attempts.seconds += time.monotonic() - began
        attempts.peak_memory = most(attempts.peak_memory, peak_of_process())
        attempts.peak_gpu_memory = most(attempts.peak_gpu_memory, peak_of_gpu())
        attempts.begun = None
        # A disk that is full has its own message, from what the block wanted to write.
        with suppress(RunError):
            _write(folder, attempts)


def attempt_at_piece(folder: Path, name: str) -> AbstractContextManager[Attempts]:
    """Measure an attempt at a piece of the stage that works in ``folder``, as ``attempt`` does."""
    place = folder / PIECES / name
    place.mkdir(parents=True, exist_ok=True)
    return attempt(place)


def with_pieces(attempts: Attempts, folder: Path) -> Attempts:
    """Return ``attempts`` at a stage and those at its pieces: their work, not how long it was."""
    pieces = [_earlier(place) for place in sorted((folder / PIECES).glob("*"))]
    peaks, gpu_peaks = attempts.peak_memory, attempts.peak_gpu_memory
    for piece in pieces:
        peaks = most(peaks, piece.peak_memory)
        gpu_peaks = most(gpu_peaks, piece.peak_gpu_memory)
    return Attempts(
        attempts.seconds + sum(piece.seconds for piece in pieces), peaks, gpu_peaks, attempts.begun
    )


def _earlier(folder: Path) -> Attempts:
    """Return what earlier attempts took; nothing where that cannot be read."""
    try:
        content = read_hashed_json(folder / ATTEMPTS_FILE)
    except RunError:
        return Attempts()
    keys = set(vars(Attempts()))
    if (
        not isinstance(content, dict)
        or set(content) != keys
        or not all(value is None or _is_number(value) for value in content.values())
        or content["seconds"] is None
    ):
        return Attempts()
    attempts = Attempts(**content)
    if attempts.begun is not None:
        files = [path for path in folder.rglob("*") if path.is_file()]
        last = max(path.stat().st_mtime for path in files)
        attempts.seconds += max(0.0, last - attempts.begun)
    return attempts


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and abs(value) < _MOST  # and no NaN


def _write(folder: Path, attempts: Attempts) -> None:
    write_hashed_json(folder / ATTEMPTS_FILE, vars(attempts))
