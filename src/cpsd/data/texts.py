"""Many texts in few objects: what a table of a million pictures is held in.

A Python string takes fifty bytes beside its characters, and reading one writes to its reference
count, so that a forked worker comes to own a copy of every page it looks at. A buffer has neither.

Shapes: N texts.
"""

import operator
from abc import abstractmethod
from array import array
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Self, SupportsIndex, overload

import numpy as np
from numpy.typing import NDArray

Rows = Sequence[int] | NDArray[np.intp]
_HOW = ("utf-8", "surrogatepass")
"""File names that are not UTF-8 come as surrogates."""


class _Compact(Sequence[str]):
    """What all kinds share: they are compared, sliced and shown as tuples of their texts."""

    @abstractmethod
    def take(self, rows: Rows) -> Self:
        """Return the texts of ``rows``, in the given order."""

    @abstractmethod
    def _text(self, index: int) -> str:
        """Return the text at ``index``, from 0 on."""

    @overload
    def __getitem__(self, index: SupportsIndex) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> Self: ...
    def __getitem__(self, index: SupportsIndex | slice) -> str | Self:
        size = len(self)
        if isinstance(index, slice):
            return self.take(np.arange(size)[index])
        place = operator.index(index)
        if not -size <= place < size:
            raise IndexError(f"there is no text {place} among {size}")
        return self._text(place % size)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Sequence) or isinstance(other, str):
            return NotImplemented
        return len(self) == len(other) and all(a == b for a, b in zip(self, other, strict=True))

    __hash__ = None  # type: ignore[assignment] # as of a list: equal to tuples and hashed as none

    def __repr__(self) -> str:
        return repr(tuple(self))


class Texts(_Compact):
    """Texts that mostly differ, one after the other in a buffer.

    Example:
        >>> paths = Texts(["a.jpg", "sub/b.jpg"])
        >>> paths[1], len(paths), paths == ("a.jpg", "sub/b.jpg")
        ('sub/b.jpg', 2, True)
    """

    def __init__(self, texts: Iterable[str] = ()) -> None:
        self._buffer = bytearray()
        self._ends = array("q", [0])
        for text in texts:
            self.append(text)

    def append(self, text: str) -> None:
        """Take in one more text, while they are being read."""
        self._buffer += text.encode(*_HOW)
        self._ends.append(len(self._buffer))

    def __len__(self) -> int:
        return len(self._ends) - 1

    def _text(self, index: int) -> str:
        return self._buffer[self._ends[index] : self._ends[index + 1]].decode(*_HOW)

    def __iter__(self) -> Iterator[str]:
        begin = 0
        for end in self._ends[1:]:
            yield self._buffer[begin:end].decode(*_HOW)
            begin = end

    def take(self, rows: Rows) -> Self:
        """Return the texts of ``rows``, in the given order."""
        return type(self)(self[int(row)] for row in rows)


class Numbered(_Compact):
    """Texts that mostly are what the text before was but for a number at the end: rows of a file.

    Example:
        >>> origins = Numbered(["labels.csv, row 2", "labels.csv, row 3", "extra.jpg"])
        >>> origins[1], len(origins)
        ('labels.csv, row 3', 3)
    """

    _NO_NUMBER = -1
    _MOST_DIGITS = 18  # of what fits into eight bytes

    def __init__(self, texts: Iterable[str] = ()) -> None:
        self._numbers = array("q")
        # What stands before the number, once for all texts in a row that share it.
        self._heads, self._begins = Texts(), array("q")
        self._last: str | None = None
        for text in texts:
            self.append(text)

    def append(self, text: str) -> None:
        """Take in one more text, while they are being read."""
        head = text.rstrip("0123456789")
        digits = text[len(head) :]
        number = self._NO_NUMBER
        if digits and len(digits) <= self._MOST_DIGITS and (digits[0] != "0" or digits == "0"):
            number = int(digits)
        else:
            head = text
        if head != self._last:
            self._heads.append(head)
            self._begins.append(len(self._numbers))
            self._last = head
        self._numbers.append(number)

    def __len__(self) -> int:
        return len(self._numbers)

    def _text(self, index: int) -> str:
        head = self._heads[bisect_right(self._begins, index) - 1]
        number = self._numbers[index]
        return head if number == self._NO_NUMBER else f"{head}{number}"

    def __iter__(self) -> Iterator[str]:
        return map(self._text, range(len(self)))

    def take(self, rows: Rows) -> Self:
        """Return the texts of ``rows``, in the given order."""
        return type(self)(self[int(row)] for row in rows)


class Names(_Compact):
    """Texts of which there are few: a small number for each, and each distinct one once.

    Example:
        >>> splits = Names(["train", "test", "train"])
        >>> splits.distinct, splits.equal("train").tolist()
        (('train', 'test'), [True, False, True])
    """

    def __init__(self, texts: Iterable[str] = ()) -> None:
        numbers: dict[str, int] = {}
        codes = np.fromiter((numbers.setdefault(t, len(numbers)) for t in texts), dtype=np.int32)
        self._names = tuple(numbers)
        self._codes_N = codes.astype(np.min_scalar_type(max(len(numbers) - 1, 0)))

    def __len__(self) -> int:
        return len(self._codes_N)

    def _text(self, index: int) -> str:
        return self._names[int(self._codes_N[index])]

    def __iter__(self) -> Iterator[str]:
        return map(self._names.__getitem__, self._codes_N)

    def take(self, rows: Rows) -> Self:
        """Return the texts of ``rows``, in the given order."""
        taken = type(self)()
        taken._names = self._names
        taken._codes_N = self._codes_N[np.asarray(rows, dtype=np.intp)]
        return taken

    @property
    def distinct(self) -> tuple[str, ...]:
        """The different texts that there are, in order of appearance."""
        codes, first = np.unique(self._codes_N, return_index=True)
        return tuple(self._names[code] for code in codes[np.argsort(first)])

    def equal(self, text: str) -> NDArray[np.bool_]:
        """Return which ``(N,)`` are ``text``."""
        if text not in self._names:
            return np.zeros(len(self), dtype=np.bool_)
        return np.asarray(self._codes_N == self._names.index(text))

    def renamed(self, names: Mapping[str, str]) -> "Names":
        """Return the texts with others in their place; ``names`` has every one that there is."""
        new = Names(names[name] for name in self.distinct)
        code_of = {name: new._names.index(names[name]) for name in self.distinct}
        codes = np.array([code_of.get(name, 0) for name in self._names], dtype=np.int32)
        new._codes_N = codes.astype(np.min_scalar_type(len(new._names)))[self._codes_N]
        return new
