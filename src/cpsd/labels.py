"""The label space: which labels there are, in which order, and what a target says.

Targets are ``(N, C)`` int8 arrays: ``PRESENT`` 1, ``ABSENT`` 0, ``UNKNOWN`` -1.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from cpsd.errors import DataError, did_you_mean

PRESENT = 1
ABSENT = 0
UNKNOWN = -1

Targets = NDArray[np.int8]
"""``(N, C)`` int8; 1 present, 0 absent, -1 unknown."""


@dataclass(frozen=True)
class LabelSpace:
    """The labels of a predictor: distinct names in a fixed order.

    Args:
        names: the label names; column ``c`` of targets and logits belongs to ``names[c]``.

    Raises:
        DataError: no label, an empty name, or a name that stands twice.

    Example:
        >>> labels = LabelSpace(("cat", "dog"))
        >>> labels.index("dog"), len(labels), list(labels)
        (1, 2, ['cat', 'dog'])
    """

    names: tuple[str, ...]
    _index: dict[str, int] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        index = {name: i for i, name in enumerate(self.names)}
        if not self.names:
            raise DataError("There is no label: a label space needs at least one name.")
        if not all(name.strip() for name in self.names):
            raise DataError("A label has an empty name; give every label a name.")
        for name in self.names:
            if "\0" in name or any("\ud800" <= letter <= "\udfff" for letter in name):
                raise DataError(
                    f"The label {name[:100]!a} holds a NUL or half a character; rename it."
                )
        if len(index) < len(self.names):
            doubled = next(name for name in self.names if self.names.count(name) > 1)
            raise DataError(f"The label '{doubled}' stands twice in the list of labels.")
        object.__setattr__(self, "_index", index)

    def __len__(self) -> int:
        return len(self.names)

    def __iter__(self) -> Iterator[str]:
        return iter(self.names)

    def __contains__(self, name: object) -> bool:
        return name in self._index

    def index(self, name: str) -> int:
        """Return the column of ``name``.

        Raises:
            DataError: no such label; the nearest name is offered.
        """
        if name not in self._index:
            raise DataError(
                f"The label '{name}' is not among the {len(self)} labels."
                + did_you_mean(name, self.names)
            )
        return self._index[name]

    def indices(self, names: Iterable[str]) -> NDArray[np.intp]:
        """Return the columns of ``names``, in the order of ``names``."""
        return np.array([self.index(name) for name in names], dtype=np.intp)

    def select(self, columns: Sequence[int] | NDArray[np.intp]) -> "LabelSpace":
        """Return the label space of the given columns, in the given order."""
        return LabelSpace(tuple(self.names[c] for c in columns))
