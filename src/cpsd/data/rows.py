"""Rows: a data set while it is being read, a picture at a time.

A format turns its files into a `Source`, a stream of rows with what is wrong with each of them;
`gather` puts the stream together. Reading in earnest stops at the first problem (`refuse`), the
data check lists them all: both see the same problems because they take the same path.
"""

from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from cpsd.data.records import Records
from cpsd.data.texts import Names, Numbered, Texts
from cpsd.errors import DataError, did_you_mean
from cpsd.labels import ABSENT, PRESENT, UNKNOWN, LabelSpace, Targets

LABEL_LISTS = ("coco", "nuswide")
"""Label lists inside the package, both in alphabetical order."""
_ROWS_AT_ONCE = 100_000
_LABEL_LISTS = resources.files("cpsd") / "label_lists"

ProblemKind = Literal[
    "source",  # the whole data set, or a file of it other than a picture
    "row",  # a row that says something that cannot be understood
    "label",  # a label that is not in the list
    "split",  # a split that is none
    "missing",  # a picture that is not there
    "outside",  # a picture that lies outside the data root
    "truncated",  # a picture that ends too early
    "unreadable",  # a picture that cannot be decoded
    "duplicate",  # a picture that stands in two rows
    "two splits",  # a picture that is in two splits
    "no positive",  # labels without a positive picture in a split
    "case",  # labels that differ only in upper and lower case
]


@dataclass(frozen=True)
class Problem:
    """Something that is wrong with a data set, and where."""

    kind: ProblemKind
    origin: str
    detail: str


class Fault(NamedTuple):
    """What is wrong with a row, found while it was read."""

    kind: ProblemKind
    detail: str


class Row(NamedTuple):
    """A picture as its source describes it, before labels have columns.

    A tuple and not a dataclass: tables have millions of rows.
    """

    path: str
    """The picture's path with forward slashes; empty where the row names none."""
    origin: str
    split: str = ""
    present: Sequence[str] = ()
    absent: Sequence[str] = ()
    unknown: Sequence[str] = ()
    others: int = ABSENT
    """The target of every label that the row does not name."""
    faults: tuple[Fault, ...] = ()


@dataclass(frozen=True)
class Source:
    """A data set that is about to be read.

    Args:
        name: what messages call it (a file or folder).
        root: the folder that the pictures' paths are relative to.
        rows: the rows, read as they are asked for.
        names: all labels there are, where the source declares them; rows may be without some.
        notices: plain sentences about what is not used.
    """

    name: str
    root: Path
    rows: Iterable[Row]
    names: tuple[str, ...] = ()
    notices: tuple[str, ...] = ()


@dataclass(frozen=True)
class Gathered:
    """All that a source holds: records of the rows that name a picture, and every problem.

    ``records`` is None where no row names a picture or no label is known. Rows with problems
    are among the records (as far as they could be understood); ``num_rows`` counts all rows.
    """

    records: Records | None
    problems: tuple[Problem, ...]
    num_rows: int


class _Gathering:
    """Rows on their way to records, while the labels are still being found."""

    def __init__(self, names: Iterable[str], *, fixed: bool) -> None:
        self.index = {name: i for i, name in enumerate(names)}
        self.fixed = fixed
        self.problems: list[Problem] = []
        self.paths = Texts()
        self.split_numbers: dict[str, int] = {}
        self.splits = array("i")
        self.origins = Numbered()
        self.others = array("b")
        # Flat arrays, one entry a label that a row names: a tenth of the memory of tuples.
        self.columns, self.values = array("i"), array("b")
        self.num_named = array("i")
        self._unlisted: dict[str, str] = {}

    def unlisted(self, name: str) -> str:
        """Return what to say of a label that is not in the list; found once, not once a row."""
        if name not in self._unlisted:
            near = did_you_mean(name, self.index)
            self._unlisted[name] = f"the label '{name}' is not in the list of labels.{near}"
        return self._unlisted[name]

    def add(self, row: Row) -> None:
        """Take in a row: its picture if it names one, its labels, and what is wrong with it."""
        self.problems += [Problem(fault.kind, row.origin, fault.detail) for fault in row.faults]
        before = len(self.columns)
        for value, names in ((ABSENT, row.absent), (UNKNOWN, row.unknown), (PRESENT, row.present)):
            for name in names:
                column = self.index.get(name)
                if column is None:
                    if self.fixed:
                        self.problems.append(Problem("label", row.origin, self.unlisted(name)))
                        continue
                    column = self.index[name] = len(self.index)
                if row.path:
                    self.columns.append(column)
                    self.values.append(value)
        if row.path:
            self.paths.append(row.path)
            number = self.split_numbers.setdefault(row.split, len(self.split_numbers))
            self.splits.append(number)
            self.num_named.append(len(self.columns) - before)
            self.origins.append(row.origin)
            self.others.append(row.others)

    def records(self, root: Path) -> Records:
        """Return the records, with labels sorted by name unless they were fixed."""
        found = list(self.index)
        names = found if self.fixed else sorted(found)
        final = {name: c for c, name in enumerate(names)}
        rank = np.array([final[name] for name in found], dtype=np.intp)
        splits = list(self.split_numbers)
        return Records(
            paths=self.paths,
            targets=self._targets(rank),
            labels=LabelSpace(tuple(names)),
            splits=Names(splits[number] for number in self.splits),
            root=root,
            origins=self.origins,
        )

    def _targets(self, rank: NDArray[np.intp]) -> Targets:
        """Return the targets; ``rank`` says in which column a label that was found stands."""
        targets = np.empty((len(self.paths), len(rank)), dtype=np.int8)
        targets[:] = np.asarray(self.others)[:, None]
        columns, values = np.asarray(self.columns), np.asarray(self.values)
        begin = 0
        # By pieces: places of ten million rows at once would take more memory than the targets.
        for first in range(0, len(targets), _ROWS_AT_ONCE):
            num_named = np.asarray(self.num_named[first : first + _ROWS_AT_ONCE])
            rows = first + np.repeat(np.arange(len(num_named)), num_named)
            some = slice(begin, begin + len(rows))
            targets[rows, rank[columns[some]]] = values[some]
            begin += len(rows)
        return targets


def gather(source: Source, labels: LabelSpace | None = None) -> Gathered:
    """Read all rows of ``source`` and give every label its column.

    Args:
        source: the data set; its rows are read once.
        labels: the labels and their order; without it, all names found, sorted.

    Raises:
        DataError: there are no rows, or a file cannot be read on.
    """
    gathering = _Gathering(labels or source.names, fixed=labels is not None)
    for name in source.names:
        if name not in gathering.index:
            gathering.problems.append(Problem("label", source.name, gathering.unlisted(name)))
    for name in labels or ():
        if source.names and name not in source.names:
            detail = f"there is no label '{name}', which is in the list of labels."
            detail += did_you_mean(name, source.names)
            gathering.problems.append(Problem("label", source.name, detail))
    num_rows = 0
    for row in source.rows:
        num_rows += 1
        gathering.add(row)
    problems = tuple(gathering.problems)
    if not num_rows:
        raise DataError(f"{source.name} names no picture; it needs at least one row.")
    if not gathering.index and not problems:
        raise DataError(f"{source.name} names no label in any of its {num_rows:,} rows.")
    usable = bool(gathering.index and gathering.paths)
    return Gathered(gathering.records(source.root) if usable else None, problems, num_rows)


def refuse(problems: Sequence[Problem]) -> None:
    """Stop at the first of ``problems``, if there is one.

    Raises:
        DataError: the first problem, and how many more there are.
    """
    if not problems:
        return
    message = f"{problems[0].origin}: {problems[0].detail}"
    if len(problems) > 1:
        message += f" And {len(problems) - 1:,} more; see 'cpsd data check'."
    raise DataError(message)


def read_strictly(source: Source, labels: LabelSpace | None = None) -> Records:
    """Return the records of ``source``, in which nothing may be wrong.

    Raises:
        DataError: there are no rows, or something is wrong with one.
    """
    gathered = gather(source, labels)
    refuse(gathered.problems)
    assert gathered.records is not None, "a source without problems has records"
    return gathered.records


def read_label_list(path: str | None) -> LabelSpace | None:
    """Return the labels of a text file with a label a line, or None where no file is named.

    Args:
        path: the file, or where there is none of that name one of ``LABEL_LISTS`` by its name.

    Raises:
        DataError: no such file, not UTF-8, no label in it, or one that stands twice.
    """
    if path is None:
        return None
    packaged = _LABEL_LISTS / f"{path}.txt"
    source = packaged if path in LABEL_LISTS and not Path(path).is_file() else Path(path)
    try:
        lines = source.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8 at byte {error.start + 1}; save it so.") from error
    except OSError as error:
        raise DataError(f"Cannot read the list of labels {path}: {error.strerror}.") from error
    names = tuple(line.strip() for line in lines if line.strip())
    if not names:
        raise DataError(f"{path} holds no label; it needs a label a line.")
    try:
        return LabelSpace(names)
    except DataError as error:
        raise DataError(f"{path}: {error}") from error
