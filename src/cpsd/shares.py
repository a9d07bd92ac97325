"""What part of every batch a device has where several train one network side by side."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import cycle, islice
from typing import TypeVar

Item = TypeVar("Item")


@dataclass(frozen=True)
class Share:
    """One device's part of every batch: every ``of``-th picture from ``index`` on.

    Args:
        index: of the device, from 0.
        of: devices in all.
    """

    index: int = 0
    of: int = 1

    def take(self, items: Sequence[Item]) -> Sequence[Item]:
        """Return the part of ``items``; parts differ in length by one at most.

        Example:
            >>> Share(1, of=2).take("abcde")
            'bd'
        """
        return items[self.index :: self.of]

    def take_as_many(self, items: Sequence[Item]) -> Sequence[Item]:
        """Return the part of ``items``, some of which are repeated so that all parts are as long.

        Example:
            >>> Share(1, of=2).take_as_many(["a", "b", "c"])
            ['b', 'a']
        """
        if self.of == 1:
            return items
        length = -(-len(items) // self.of) * self.of
        return self.take([*islice(cycle(items), length)])


WHOLE = Share()
"""The share of a device that trains on its own."""
