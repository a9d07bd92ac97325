"""What every topic of ``make bench`` is written with: rows of the table, and arms timed in turn.

A topic is a module beside this one with a function ``measure(*, smoke: bool) -> list[Row]``. It
leaves the process as it found it (threads, seeds, environment), starts a process of its own where
it measures memory or start-up, and takes about eighty seconds; with ``smoke`` a second or two, on
the smallest data that run all of it, for its figures are thrown away.
"""

import re
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

_MUST = re.compile(r"(<=|>=) (\d+(?:\.\d+)?)")


@dataclass(frozen=True)
class Row:
    """A line of the table.

    Args:
        what: is measured, with its size: ``student step / plain step (ResNet-50, 224 px)``.
        value: of this run.
        unit: ``x`` for a ratio, else ``s``, ``MB``, ``rows/s``.
        must: ``<= 1.05`` or ``>= 3``, in the same unit; None for what is shown beside.
        bound: what bounds it, with the bound itself: ``decode: 1.7 x``; empty where nothing known.
        of_bound: how much of that bound is reached, 1 for all of it; None where it is not known.

    Raises:
        ValueError: ``must`` is neither ``<= NUMBER`` nor ``>= NUMBER``.
    """

    what: str
    value: float
    unit: str
    must: str | None = None
    bound: str = ""
    of_bound: float | None = None

    def __post_init__(self) -> None:
        if self.must is not None and not _MUST.fullmatch(self.must):
            raise ValueError(f"must is '{self.must}'; it has to be '<= NUMBER' or '>= NUMBER'.")

    @property
    def met(self) -> bool | None:
        """Whether the value is what it must be; None where nothing is asked of it.

        Example:
            >>> Row("step", 1.04, "x", must="<= 1.05").met, Row("speed", 2.0, "x").met
            (True, None)
        """
        if self.must is None:
            return None
        comparison, limit = self.must.split()
        return self.value <= float(limit) if comparison == "<=" else self.value >= float(limit)


def alternate(
    arms: Mapping[str, Callable[[], object]], rounds: int, *, warm_up: int = 1
) -> dict[str, float]:
    """Return the median seconds of each arm, all timed in turn within this process.

    What else the machine does slows neighbouring calls alike, so the ratio of two medians holds
    where each of them does not. Every second round goes backwards: no arm always has the cache that
    another left.

    Args:
        arms: by name, what to time; on a GPU each has to synchronise before it returns.
        rounds: timed calls of each arm.
        warm_up: rounds before those, not timed.

    Raises:
        ValueError: no round.
    """
    if rounds < 1:
        raise ValueError(f"rounds is {rounds}; it must be at least 1.")
    seconds: dict[str, list[float]] = {name: [] for name in arms}
    for turn in range(warm_up + rounds):
        names = list(arms) if turn % 2 == 0 else list(reversed(arms))
        for name in names:
            begun = time.perf_counter()
            arms[name]()
            if turn >= warm_up:
                seconds[name].append(time.perf_counter() - begun)
    return {name: statistics.median(values) for name, values in seconds.items()}
