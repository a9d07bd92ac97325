"""The data check: what is in a data set, and everything that is wrong with it.

It takes the same path as `cpsd.data.sources.load_records`, but notes what that refuses and goes on,
and it decodes every picture. Nothing is raised for what is wrong with the data.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from cpsd.addresses import with_addresses
from cpsd.config import DataConfig
from cpsd.data.bad_pictures import Places, kind_of, picture_faults
from cpsd.data.fetching import with_copies
from cpsd.data.images import content_hash
from cpsd.data.records import TEST, TRAIN, UNASSIGNED, VALIDATION, Records
from cpsd.data.rows import Problem, ProblemKind, gather, read_label_list
from cpsd.data.sources import (
    case_twins,
    choose_without_positive,
    comma_notices,
    labels_without_positive,
    open_source,
    unlearnable_notices,
    with_unlabelled,
)
from cpsd.data.splits import draw_splits, first_rows, name_splits, split_clashes
from cpsd.errors import DataError
from cpsd.labels import UNKNOWN

LEFT_OUT = "left out"
"""What the counts call the pictures that `config.without_positive` drops."""


@dataclass(frozen=True)
class SplitCounts:
    """How many pictures a split has, and of which kind.

    ``pictures`` = ``with_positive`` + ``without_positive`` + ``unlabelled``; ``faulty`` of them
    have a problem.
    """

    split: str
    pictures: int
    with_positive: int
    without_positive: int
    unlabelled: int
    faulty: int


@dataclass(frozen=True)
class CheckReport:
    """What a data set holds and what is wrong with it.

    Args:
        source: the table or folder that was checked.
        num_rows: all rows: the pictures of ``counts`` and ``num_without_picture``.
        num_without_picture: rows of which no picture could be made out.
        labels: the labels.
        counts: one a split.
        problems: everything that is wrong: in the order of the pictures, then what concerns no one
            picture.
        notices: plain sentences on what was done.
    """

    source: str
    num_rows: int
    num_without_picture: int
    labels: tuple[str, ...]
    counts: tuple[SplitCounts, ...]
    problems: tuple[Problem, ...]
    notices: tuple[str, ...]

    def kinds(self) -> dict[ProblemKind, int]:
        """Return how many problems there are of every kind that there is."""
        return dict(Counter(problem.kind for problem in self.problems))


class _Files(NamedTuple):
    """What decoding found out: a hash ``(N, 32)`` of every row's picture, or why there is none."""

    hashes: NDArray[np.uint8]
    problems: list[Problem]


def check_data(
    config: DataConfig, *, seed: int, progress: Callable[[int, int], None] | None = None
) -> CheckReport:
    """Account for every row of a data set.

    Args:
        config: what to check.
        seed: the run's seed, for splits that would be drawn.
        progress: told how many pictures of how many were decoded, now and then.

    Raises:
        ConfigError: the settings name nothing to check, or contradict each other.
        AddressError: an address is malformed or cannot be reached.
    """
    name = str(config.table if config.format == "table" else config.root)
    try:
        config = with_copies(config)
        source = open_source(config)
        gathered = gather(source, read_label_list(config.label_list))
    except DataError as error:
        return _report_unreadable(name, error)
    problems, notices = list(gathered.problems), list(source.notices)
    records = gathered.records
    num_rows = gathered.num_rows
    without_picture = num_rows - (len(records) if records else 0)
    if records is None:
        labels = source.names
        return CheckReport(
            name, num_rows, without_picture, labels, (), tuple(problems), tuple(notices)
        )
    if config.unlabelled is not None:
        try:
            records, more = with_unlabelled(records, config.unlabelled)
            notices += more
        except DataError as error:
            problems.append(Problem("source", config.unlabelled, str(error)))
    num_rows = without_picture + len(records)
    records, more_problems, more_notices = _splits(records, config, name=name, seed=seed)
    problems += more_problems
    notices += more_notices
    files = _decode(records, config, progress)
    problems += [*files.problems, *_same_content(records, files.hashes)]
    problems += _about_labels(records, name)
    return CheckReport(
        source=name,
        num_rows=num_rows,
        num_without_picture=without_picture,
        labels=records.labels.names,
        counts=_counts(records, {problem.origin for problem in problems}),
        problems=_in_order(problems, records),
        notices=(
            *notices,
            *comma_notices(records, config.separator),
            *unlearnable_notices(records),
        ),
    )


def _report_unreadable(name: str, error: DataError) -> CheckReport:
    return CheckReport(name, 0, 0, (), (), (Problem("source", name, str(error)),), ())


def _splits(
    records: Records, config: DataConfig, *, name: str, seed: int
) -> tuple[Records, list[Problem], list[str]]:
    """Return the records in the splits a run would put them into, and what is wrong with those."""
    problems: list[Problem] = []
    notices: list[str] = []
    try:
        records, wrong = name_splits(records, config.test_split)
    except DataError as error:
        problems.append(Problem("source", name, str(error)))
        config = replace(config, test_split=None)
        records, wrong = name_splits(records, None)
    problems += [*wrong, *split_clashes(records), *_duplicates(records)]
    misnamed = {problem.origin for problem in wrong}
    named = np.array([origin not in misnamed for origin in records.origins])
    kept = named.copy()
    try:
        _, said = choose_without_positive(records, config)
        notices += said
        if config.without_positive == "drop":
            kept &= ~records.without_positive()
        rows = np.flatnonzero(kept)
        drawn, more = draw_splits(records.select(rows), config, seed=seed)
        notices += more
    except DataError as error:
        return records, [*problems, Problem("source", name, str(error))], notices
    splits = np.array(records.splits, dtype=object)
    splits[rows] = drawn.splits
    splits[named & ~kept] = LEFT_OUT
    if TRAIN not in splits:
        problems.append(Problem("source", name, "no picture is in the split train."))
    return records.with_splits(list(splits)), problems, notices


def _duplicates(records: Records) -> list[Problem]:
    """Return a problem for every row whose picture an earlier row of the same split names."""
    first: dict[tuple[int, str], int] = {}
    problems = []
    for i, picture in enumerate(first_rows(records).tolist()):
        j = first.setdefault((picture, records.splits[i] or TRAIN), i)
        if j != i:
            same = bool((records.targets[i] == records.targets[j]).all())
            detail = f"{records.paths[i]} stands already in {records.origins[j]}"
            detail += "." if same else ", with other labels."
            problems.append(Problem("duplicate", records.origins[i], detail))
    return problems


def _decode(
    records: Records, config: DataConfig, progress: Callable[[int, int], None] | None
) -> _Files:
    """Decode every picture once, and return a hash a row and what cannot be used."""
    places, first_N = Places(records, config), first_rows(records)
    hashes = np.zeros((len(records), 32), dtype=np.uint8)

    def decode(row: int) -> None:
        places.status(row)
        hashes[row] = np.frombuffer(bytes.fromhex(content_hash(records.image_path(row))), np.uint8)

    distinct = np.unique(first_N).tolist()
    places.fetch(distinct, progress)
    found = picture_faults(records, decode, distinct, progress)
    problems = [
        Problem(kind_of(fault), records.origins[row], with_addresses(str(fault)))
        for row, first in enumerate(first_N.tolist())
        if (fault := found.get(first)) is not None
    ]
    return _Files(hashes[first_N], problems)


def _same_content(records: Records, hashes: NDArray[np.uint8]) -> list[Problem]:
    """Return a problem for every picture that is another file of another split, pixel by pixel."""
    first_N = first_rows(records).tolist()
    first: dict[bytes, int] = {}
    problems = []
    for i, content in enumerate(hashes):
        if not content.any() or records.splits[i] == LEFT_OUT:
            continue
        j = first.setdefault(content.tobytes(), i)
        if records.splits[i] != records.splits[j] and first_N[i] != first_N[j]:
            detail = (
                f"{records.paths[i]}, in {records.splits[i]}, is the same picture as "
                f"{records.paths[j]}, in {records.splits[j]} ({records.origins[j]})."
            )
            problems.append(Problem("two splits", records.origins[i], detail))
    return problems


def _about_labels(records: Records, name: str) -> list[Problem]:
    problems = [
        Problem("case", name, f"the labels {' and '.join(map(repr, twins))} differ only in case.")
        for twins in case_twins(records.labels)
    ]
    known = (records.targets != UNKNOWN).any(axis=1)
    for split in dict.fromkeys(records.splits):
        if split in (UNASSIGNED, LEFT_OUT) or not known[records.indices(split)].any():
            continue
        if names := labels_without_positive(records, split):
            missed = ", ".join(f"'{name}'" for name in names)
            detail = f"no picture has the label{'s' * (len(names) > 1)} {missed}."
            problems.append(Problem("no positive", f"split {split}", detail))
    return problems


def _counts(records: Records, faulty_origins: set[str]) -> tuple[SplitCounts, ...]:
    unlabelled = (records.targets == UNKNOWN).all(axis=1)
    without = records.without_positive()
    faulty = np.array([origin in faulty_origins for origin in records.origins], dtype=bool)
    order = {TRAIN: 0, VALIDATION: 1, TEST: 2}
    counts = []
    for split in sorted(dict.fromkeys(records.splits), key=lambda s: order.get(s, len(order))):
        rows = records.indices(split)
        counts.append(
            SplitCounts(
                split=split,
                pictures=len(rows),
                with_positive=int((~unlabelled & ~without)[rows].sum()),
                without_positive=int(without[rows].sum()),
                unlabelled=int(unlabelled[rows].sum()),
                faulty=int(faulty[rows].sum()),
            )
        )
    return tuple(counts)


def _in_order(problems: list[Problem], records: Records) -> tuple[Problem, ...]:
    place = {origin: i for i, origin in enumerate(records.origins)}
    return tuple(sorted(problems, key=lambda problem: place.get(problem.origin, len(place))))
