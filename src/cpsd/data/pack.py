"""Packs: the pixels of a data set at one size, stored once and mapped into memory.

    PACK/
      pixels.npy      (N, S, S, 3) uint8
      files.npy       what each row was made of: length, time and SHA-256 of the file; a checksum
      pictures.txt    N paths as the data write them, with NUL between them
      manifest.json   size, number, how pixels are made, and whether the pack is whole

A pack gives the very pixels that decoding gives. Where the pictures on disk are not those that it
was made of, it is refused.
"""

import hashlib
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cpsd.array_files import read_npy
from cpsd.data.packed_pixels import PIXELS, PIXELS_VERSION, PackedPixels
from cpsd.data.records import Records
from cpsd.errors import DataError, RunError
from cpsd.files import read_json

MANIFEST, FILES, PICTURES = "manifest.json", "files.npy", "pictures.txt"
FILE = np.dtype(
    [("length", "<i8"), ("modified", "<i8"), ("sha256", "u1", (32,)), ("checksum", "<u4")]
)
"""A row of ``files.npy``; all of it zero where the picture is not packed yet."""

_ANEW = "Start 'cpsd data pack' for it again, or leave data.pack out."


def open_pack(folder: Path, records: Records) -> PackedPixels:
    """Return the pixels of ``records`` in the pack at ``folder``.

    Raises:
        DataError: there is no whole pack, a picture is not in it, or has changed since.
    """
    manifest = read_manifest(folder)
    if manifest is None:
        raise DataError(
            f"There is no pack {folder}; 'cpsd data pack' makes one, with the same data and "
            f"--out {folder}."
        )
    if not manifest.get("whole"):
        raise DataError(f"The pack {folder} is not finished. {_ANEW}")
    if manifest.get("pixels_version") != PIXELS_VERSION:
        raise DataError(
            f"The pack {folder} holds pixels as another release of cpsd makes them of the same "
            f"pictures. {_ANEW}"
        )
    files, paths = _rows(folder, manifest)
    position_of = {path: position for position, path in enumerate(paths)}
    positions = np.array([position_of.get(path, -1) for path in records.paths], dtype=np.intp)
    used = [row for row in range(len(records)) if row not in records.skipped]
    missing = [row for row in used if positions[row] < 0]
    if missing:
        raise DataError(_told(records, missing, f"is not in the pack {folder}", "are not"))
    changed = [row for row in used if not is_of(records.image_path(row), files[positions[row]])]
    if changed:
        raise DataError(_told(records, changed, f"has changed since {folder} was packed", "have"))
    return PackedPixels(folder, int(manifest["size"]), positions)


def in_pack(folder: Path, records: Records) -> NDArray[np.bool_]:
    """Return which pictures ``(N,)`` the pack at ``folder`` holds as they are now.

    None where there is no pack, or a damaged one: who opens it is told.
    """
    held_N = np.zeros(len(records), dtype=np.bool_)
    try:
        manifest = read_manifest(folder)
        files, paths = _rows(folder, manifest or {})
    except (DataError, RunError):
        return held_N
    position_of = {path: position for position, path in enumerate(paths)}
    for row, path in enumerate(records.paths):
        position = position_of.get(path)
        with suppress(OSError):  # a picture that is missing
            held_N[row] = position is not None and is_of(records.image_path(row), files[position])
    return held_N


def read_manifest(folder: Path) -> dict[str, Any] | None:
    """Return what the manifest of a pack says, None where there is none.

    Raises:
        RunError: it cannot be read.
    """
    path = folder / MANIFEST
    if not path.exists():
        return None
    content = read_json(path)
    if not isinstance(content, dict):
        raise RunError(f"{path} is damaged: remove the pack, and make it again.")
    return content


def is_of(picture: Path, packed: np.void) -> bool:
    """Return whether a row of ``files.npy`` was made of what lies at ``picture`` now.

    A file of the same length and time is the same; one of another time is read and compared.
    """
    stat = picture.stat()
    if stat.st_size != packed["length"]:
        return False
    return bool(
        stat.st_mtime_ns == packed["modified"] or file_hash(picture) == packed["sha256"].tobytes()
    )


def file_hash(path: Path) -> bytes:
    """Return the SHA-256 of a file's bytes."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").digest()


def paths_text(paths: list[str]) -> bytes:
    """Return what ``pictures.txt`` holds of ``paths``; file names may be any bytes."""
    return "\0".join(paths).encode(errors="surrogateescape")


def _rows(folder: Path, manifest: dict[str, Any]) -> tuple[NDArray[np.void], list[str]]:
    """Return the files and paths of a pack, whose files are as long as they should be."""
    damaged = f"The pack {folder} is damaged: remove it, and make it again with 'cpsd data pack'."
    try:
        size, text = int(manifest["size"]), (folder / PICTURES).read_bytes()
        files, pixels = read_npy(folder / FILES), read_npy(folder / PIXELS, mapped=True)
    except (KeyError, OSError, ValueError, TypeError, OverflowError) as error:
        raise DataError(damaged) from error
    paths = text.decode(errors="surrogateescape").split("\0")
    fits = files.dtype == FILE and pixels.dtype == np.uint8
    if not fits or pixels.shape != (len(paths), size, size, 3) or len(files) != len(paths):
        raise DataError(damaged)
    return files, paths


def _told(records: Records, rows: list[int], what: str, more: str) -> str:
    """Return a sentence about the first of ``rows`` and how many there are."""
    first = rows[0]
    return (
        f"{records.origins[first]}: the picture {records.paths[first]} {what} ({len(rows):,} of "
        f"{len(records):,} {more}). {_ANEW}"
    )
