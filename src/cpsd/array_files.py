"""NumPy's files from anywhere: what a header claims is held against what is there, first.

A header may promise terabytes, and an archive may unpack to a thousand times its size; nothing is
allocated for either.
"""

import math
import zipfile
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

MOST_UNPACKED = 500_000_000
"""Bytes that the arrays of an archive may have together; a label graph has a hundredth of it."""


class DamagedArrayError(ValueError):
    """A file is no array of numbers or texts, or is not whole."""


def read_npy(path: Path, *, mapped: bool = False) -> NDArray[Any]:
    """Return the array of a ``.npy`` file.

    Args:
        path: the file.
        mapped: map it into memory, not to be written to, in place of reading it.

    Raises:
        DamagedArrayError: it holds no array, objects, or other bytes than its header says.
        OSError: it cannot be read.
    """
    with path.open("rb") as stream:
        array = _read(stream, path.stat().st_size, read=not mapped)
    try:
        # As a plain array: numpy is slow at indexing its own memmap.
        return np.asarray(np.load(path, mmap_mode="r", allow_pickle=False)) if mapped else array
    except ValueError as error:
        raise DamagedArrayError(str(error)) from error


def read_npz(path: Path) -> dict[str, NDArray[Any]]:
    """Return the arrays of a ``.npz`` file by name.

    Raises:
        DamagedArrayError: it is no such archive, or an array of it is damaged or too large.
        OSError: it cannot be read.
    """
    arrays: dict[str, NDArray[Any]] = {}
    with path.open("rb") as file:
        try:
            with zipfile.ZipFile(file) as archive:
                members = archive.infolist()
                if sum(member.file_size for member in members) > MOST_UNPACKED:
                    raise DamagedArrayError("it unpacks to more than an archive of arrays may have")
                for member in members:
                    with archive.open(member) as stream:
                        name = member.filename.removesuffix(".npy")
                        arrays[name] = _read(stream, member.file_size)
        # Damaged archives fail in many ways, from zlib's to NotImplementedError.
        except (OSError, MemoryError, DamagedArrayError):
            raise
        except Exception as error:
            raise DamagedArrayError(str(error)) from error
    return arrays


def _read(stream: IO[bytes], size: int, *, read: bool = True) -> NDArray[Any]:
    """Return the array of a stream of ``size`` bytes, empty where it shall not be read."""
    try:
        version = np.lib.format.read_magic(stream)
        headers = {
            (1, 0): np.lib.format.read_array_header_1_0,
            (2, 0): np.lib.format.read_array_header_2_0,
        }
        shape, fortran_order, kind = headers[version](stream)
    # A header is a Python literal, which fails as such do.
    except Exception as error:
        raise DamagedArrayError(f"its header cannot be read ({error})") from error
    begin = stream.tell()
    if kind.hasobject or any(length < 0 for length in shape):
        raise DamagedArrayError("it holds no numbers")
    if math.prod(shape) * kind.itemsize != size - begin:
        raise DamagedArrayError("it has not as many bytes as its header says")
    if not read:
        return np.empty(0, dtype=kind)
    content = stream.read(size - begin)
    if len(content) != size - begin:
        raise DamagedArrayError("it ends too early")
    try:
        array = np.frombuffer(bytearray(content), dtype=kind)
        return array.reshape(shape, order="F" if fortran_order else "C")
    except ValueError as error:  # of a type without length, such as S0
        raise DamagedArrayError(str(error)) from error
