"""A stage of a run: what it makes, what it needs, and where in a run directory its files are."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from cpsd.cost import Cost

MARKS = ".stages"
PARTIAL = ".partial"


class StageState(Enum):
    """Where a stage stands in a run directory."""

    NEW = "to do"
    STARTED = "to go on"
    DONE = "done"
    CHANGED = "settings changed"
    """Finished or begun under other settings."""


Pieces = Mapping[str, Callable[[], object]]
"""Parts of a stage's work that do not need each other, by name."""


def undivided(folder: Path) -> Pieces:
    """Return the pieces of a stage that has none."""
    return {}


@dataclass(frozen=True)
class Stage:
    """One step of a run.

    Args:
        name: ``teachers/co-occurrence``.
        fingerprint: hash of every setting and input that the result depends on.
        outputs: what it makes, relative to the run directory.
        work: does it, writing into the folder it is given, and says what it cost.
        needs: names of the stages whose outputs it reads.
        trains: the processes that train together do its work together.
        pieces: what may be done apart, anywhere and at once, before ``work`` puts it together; what
            is there already is not among them.
        computes: whether pictures go through networks in it, and a GPU is of use.
        replaces: files that it made under other settings, which go when it is done.
    """

    name: str
    fingerprint: str
    outputs: tuple[str, ...]
    work: Callable[[Path], Cost]
    needs: tuple[str, ...] = ()
    trains: bool = False
    pieces: Callable[[Path], Pieces] = undivided
    computes: bool = False
    replaces: tuple[str, ...] = ()

    @property
    def mark(self) -> str:
        """The file that says that it is done, relative to the run directory."""
        return f"{MARKS}/{self.name.replace('/', '.')}.json"

    @property
    def begun(self) -> str:
        """The folder with what it has so far, relative to the run directory."""
        return f"{PARTIAL}/{self.name.replace('/', '.')}"
