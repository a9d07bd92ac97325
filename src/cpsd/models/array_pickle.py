"""Pickled NumPy arrays from files that are not trusted: arrays of numbers, and nothing else.

A pickle is a program that calls what it names. Here it may name only what NumPy writes for an
array, and each of these names is answered by a stand-in that notes what it is told; NumPy itself
sees a type code, a shape and bytes, once they have been checked.
"""

import pickle
import re
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from cpsd.errors import ModelError

_NUMBER = re.compile(r"[fiu][1248]")


class _NotAnArrayError(Exception):
    """The pickle names or holds something that no array of numbers needs."""


class _Type:
    """Stands in for ``numpy.dtype``."""

    def __init__(self, code: object, *_: object) -> None:
        self.code = code
        self.byte_order: object = "<"

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.byte_order = state[1]

    def checked(self) -> np.dtype[Any]:
        """Return the type once it is a plain number's."""
        if not isinstance(self.code, str) or not _NUMBER.fullmatch(self.code):
            raise _NotAnArrayError(f"an array of {self.code!r}")
        return np.dtype(self.code).newbyteorder(">" if self.byte_order == ">" else "<")


class _Array:
    """Stands in for ``numpy.ndarray``: a shape, a type, an order and bytes."""

    def __init__(self) -> None:
        self.state: tuple[Any, ...] = ()

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, shape, kind, fortran, data = state
        self.state = (shape, kind, "F" if fortran else "C", data)

    def checked(self) -> NDArray[Any]:
        """Return the array once it is one of numbers."""
        if len(self.state) != 4:
            raise _NotAnArrayError("an array without content")
        shape, kind, order, data = self.state
        if isinstance(data, str):  # how Python 2 wrote bytes
            data = data.encode("latin1")
        if not isinstance(kind, _Type) or not isinstance(data, bytes | bytearray):
            raise _NotAnArrayError("an array whose content is not numbers")
        if not isinstance(shape, tuple) or not all(type(length) is int for length in shape):
            raise _NotAnArrayError("an array without a shape")
        return np.frombuffer(data, kind.checked()).reshape(shape, order=order)


def _reconstruct(*_: object) -> _Array:
    """Stand in for NumPy's function of that name; the array's state follows."""
    return _Array()


def _from_buffer(data: object, kind: object, shape: object, order: object) -> _Array:
    """Stand in for NumPy's ``_frombuffer``, which protocol 5 uses."""
    array = _Array()
    array.state = (shape, kind, "F" if order == "F" else "C", data)
    return array


_STAND_INS: dict[tuple[str, str], object] = {
    ("numpy", "dtype"): _Type,
    ("numpy", "ndarray"): _Array,
    **{
        (f"{core}.multiarray", "_reconstruct"): _reconstruct
        for core in ("numpy.core", "numpy._core")
    },
    **{(f"{core}.numeric", "_frombuffer"): _from_buffer for core in ("numpy.core", "numpy._core")},
}


class _ArrayUnpickler(pickle.Unpickler):
    """Reads a pickle of ``size`` bytes.

    A text that is said once can be encoded any number of times; no array needs more bytes than
    the file has.
    """

    def __init__(self, file: BinaryIO, *, size: int) -> None:
        super().__init__(file, encoding="latin1")  # Arrays of Python 2 have their bytes as text.
        self._left = size

    def _encode(self, text: str, encoding: str) -> bytes:
        """Stand in for ``codecs.encode``, by which old protocols write bytes."""
        self._left -= len(text)
        if encoding != "latin1" or self._left < 0:
            raise _NotAnArrayError("texts that are no array's bytes")
        return text.encode("latin1")

    def find_class(self, module: str, name: str) -> Any:  # noqa: ANN401 - as the base class has it
        """Return the stand-in for a name that arrays need; no other is looked up."""
        try:
            if (module, name) == ("_codecs", "encode"):
                return self._encode
            return _STAND_INS[module, name]
        except KeyError:
            raise _NotAnArrayError(f"'{module}.{name}'") from None


def read_array_pickle(path: Path) -> NDArray[Any]:
    """Return the array that the file ``path`` holds as a pickle.

    Raises:
        ModelError: the file cannot be read, is damaged, or holds anything but an array of numbers;
            nothing in it is run.
    """
    try:
        with path.open("rb") as file:
            return _unpickled(file, path.stat().st_size)
    except OSError as error:
        raise ModelError(f"{path} cannot be read: {error.strerror}.") from error
    except _NotAnArrayError as error:
        raise ModelError(
            f"{path} holds {error}, not one NumPy array of numbers; anything else in a pickle is "
            "never loaded. Save the array as .npy."
        ) from error
    # A damaged pickle fails in as many ways as it has opcodes; all of them mean the same here.
    except Exception as error:
        raise ModelError(f"{path} is damaged or holds no pickled NumPy array.") from error


def _unpickled(file: BinaryIO, size: int) -> NDArray[Any]:
    content = _ArrayUnpickler(file, size=size).load()
    if not isinstance(content, _Array):
        raise _NotAnArrayError(f"an object of type {type(content).__name__}")
    return content.checked()
