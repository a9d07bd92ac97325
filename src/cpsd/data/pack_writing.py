"""Writing a pack: row by row, each whole before it is said to be there; what is there is kept."""

import os
import shutil
import zlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from cpsd.data.kept_pixels import kept_pixels
from cpsd.data.pack import (
    FILE,
    FILES,
    MANIFEST,
    PICTURES,
    file_hash,
    is_of,
    paths_text,
    read_manifest,
)
from cpsd.data.packed_pixels import PIXELS, PIXELS_VERSION
from cpsd.data.pixels import Pixels, read_pixels
from cpsd.data.records import Records
from cpsd.errors import DataError, RunError
from cpsd.files import TEMPORARY_SUFFIX, plain_file_errors, write_json, written_whole

# Decoding leaves Python's lock, so threads help. Rows are synced to disk in chunks; an interrupted
# command does its last one again.
_CHUNK = 128
_NAMES = frozenset({MANIFEST, FILES, PICTURES, PIXELS})


def bytes_needed(num_images: int, size: int) -> int:
    """Return what a pack takes on disk.

    Example:
        >>> bytes_needed(82_783, 448) // 10**6
        49848
    """
    return num_images * (size * size * 3 + FILE.itemsize)


def packed_rows(records: Records) -> list[int]:
    """Return the rows that a pack of ``records`` is made of: the first of each usable picture."""
    first: dict[str, int] = {}
    for row, path in enumerate(records.paths):
        if row not in records.skipped:
            first.setdefault(path, row)
    return list(first.values())


def write_pack(
    folder: Path,
    records: Records,
    size: int,
    *,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> int:
    """Store the pixels of all pictures of ``records``; return how many were decoded.

    An interrupted call is gone on with. Of a whole pack every row is looked at, and made again
    where its picture has changed or its pixels are damaged.

    Args:
        folder: where to; made when it is not there.
        records: the pictures.
        size: S.
        progress: told how many pictures of how many are done.

    Raises:
        DataError: a picture cannot be read.
        RunError: the folder holds something else, or there is no room for the pack.
    """
    rows = packed_rows(records)
    settings = {
        "format_version": 1,
        "size": size,
        "num_images": len(rows),
        "pixels_version": PIXELS_VERSION,
    }
    num_decoded = 0
    with plain_file_errors(folder):
        _claim(folder, [records.paths[row] for row in rows], settings)
        _require_room(folder, bytes_needed(len(rows), size))
        _make_files(folder, len(rows), size)
        write_json(folder / MANIFEST, {**settings, "whole": False})
        files = np.load(folder / FILES)
        stored = np.load(folder / PIXELS, mmap_mode="r")
        with (
            (folder / PIXELS).open("r+b") as pixels_file,
            (folder / FILES).open("r+b") as files_file,
            ThreadPoolExecutor() as pool,
        ):
            for start in range(0, len(rows), _CHUNK):
                chunk = range(start, min(start + _CHUNK, len(rows)))
                places = [records.image_path(rows[at]) for at in chunk]
                known = pool.map(_is_whole, places, files[chunk], stored[start : chunk.stop])
                todo = [at for at, whole in zip(chunk, known, strict=True) if not whole]
                made = list(pool.map(lambda at: _packed(records, rows[at], size), todo))
                # A row's pixels are on the disk before its file says that they are.
                _write(pixels_file, len(rows), todo, [pixels for pixels, _ in made])
                _write(files_file, len(rows), todo, [file for _, file in made])
                num_decoded += len(todo)
                progress(chunk.stop, len(rows))
        write_json(folder / MANIFEST, {**settings, "whole": True})
    return num_decoded


def _claim(folder: Path, paths: list[str], settings: dict[str, int]) -> None:
    """Make the folder one for a pack of these pictures; what is there of another release goes."""
    folder.mkdir(parents=True, exist_ok=True)
    names = {path.name for path in folder.iterdir()}
    others = sorted(name for name in names - _NAMES if not name.endswith(TEMPORARY_SUFFIX))
    if others:
        raise RunError(
            f"{folder} holds other files, such as {others[0]}; name another folder with --out."
        )
    manifest, text = read_manifest(folder), paths_text(paths)
    if manifest is not None and manifest.get("size") != settings["size"]:
        raise RunError(
            f"{folder} holds a pack at {manifest.get('size')} pixels; name another folder with "
            "--out, or remove it."
        )
    known = {key: (manifest or {}).get(key) for key in settings} == settings
    if known and names >= _NAMES and (folder / PICTURES).read_bytes() == text:
        return
    for name in (MANIFEST, *_NAMES):
        (folder / name).unlink(missing_ok=True)
    with written_whole(folder / PICTURES) as temporary:
        temporary.write_bytes(text)


def _require_room(folder: Path, needed: int) -> None:
    """Stop before hours of work where the disk will be full.

    Raises:
        RunError: it will.
    """
    there = sum(path.stat().st_blocks * 512 for path in folder.iterdir())
    free = shutil.disk_usage(folder).free
    if needed > there + free:
        raise RunError(
            f"Cannot write {folder}: the pack takes {needed / 1e9:,.3f} GB and only "
            f"{(there + free) / 1e9:,.3f} GB are free. Free some space, name a folder on another "
            "disk with --out, or choose a smaller --image.size."
        )


def _make_files(folder: Path, num_images: int, size: int) -> None:
    """Make files as long as they will be, with nothing in them, unless they are there."""
    if not (folder / PIXELS).exists():
        shape = (num_images, size, size, 3)
        np.lib.format.open_memmap(folder / PIXELS, mode="w+", dtype=np.uint8, shape=shape)
    if not (folder / FILES).exists():
        with written_whole(folder / FILES) as temporary, temporary.open("wb") as stream:
            np.save(stream, np.zeros(num_images, dtype=FILE))


def _is_whole(picture: Path, file: np.void, pixels: Pixels) -> bool:
    """Return whether a row is there, of this picture as it is now, and undamaged."""
    if file["length"] == 0:
        return False
    try:
        return is_of(picture, file) and zlib.crc32(pixels.tobytes()) == file["checksum"]
    except OSError:
        return False  # making it anew will say what is wrong


def _packed(records: Records, row: int, size: int) -> tuple[Pixels, NDArray[np.void]]:
    """Return the pixels of a picture and its row of ``files.npy``."""
    path, kept = records.image_path(row), kept_pixels(records, size, memory_share=0)
    try:
        there = None if kept is None else kept.get(row)
        pixels = read_pixels(path, size) if there is None else there
        stat = path.stat()
    except DataError as error:
        raise DataError(f"{records.origins[row]}: {error}") from error
    file = np.zeros((), dtype=FILE)
    file["length"], file["modified"] = stat.st_size, stat.st_mtime_ns
    file["sha256"] = np.frombuffer(file_hash(path), dtype=np.uint8)
    file["checksum"] = zlib.crc32(pixels.tobytes())
    return pixels, file


def _write(
    stream: BinaryIO, num_rows: int, positions: list[int], rows: Sequence[NDArray[Any]]
) -> None:
    """Write rows of a ``.npy`` file into their places and onto the disk.

    Not through a memory map: a full disk would end the process instead of being told.
    """
    if not rows:
        return
    header = stream.seek(0, os.SEEK_END) - num_rows * rows[0].nbytes
    for position, row in zip(positions, rows, strict=True):
        stream.seek(header + position * row.nbytes)
        stream.write(row.tobytes())
    stream.flush()
    os.fsync(stream.fileno())
