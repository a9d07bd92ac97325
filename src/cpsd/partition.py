"""Label partitions: all labels in disjoint parts, one sub-task teacher each."""

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from cpsd import normalized_cut as cuts
from cpsd.errors import DataError, PartitionError
from cpsd.files import write_json
from cpsd.graph import LabelGraph, co_occurrence_affinity, dis_occurrence_affinity
from cpsd.labels import LabelSpace
from cpsd.partition_json import checked_content, read_content
from cpsd.seeds import derive_seed
from cpsd.strategies import RANDOM, WHOLE, base_strategy, shuffled_cut, strategy_fault

_AFFINITIES = {
    "co-occurrence": co_occurrence_affinity,
    "dis-occurrence": dis_occurrence_affinity,
}
_MOST_PARTS = 5
"""The paper's number of parts (CPSD, section 4.1)."""


@dataclass(frozen=True)
class LabelPartition:
    """Labels in disjoint parts that together hold every label.

    Labels ascend inside a part, whatever order was given. Parts stay in their order, which numbers
    the teachers; a cut numbers them by their first label.

    Args:
        strategy: co-occurrence, dis-occurrence, random, or whole.
        labels: the C labels.
        parts: label indices of every part.
        seed: of the cut; None where there was none.
        normalized_cut: of the parts in the strategy's affinity; None where it has none.

    Raises:
        PartitionError: a part is empty, or a label is in no part, in two, or unknown.

    Example:
        >>> labels = LabelSpace(("cat", "dog", "cow"))
        >>> LabelPartition("random", labels, ((2, 1), (0,))).parts
        ((1, 2), (0,))
    """

    strategy: str
    labels: LabelSpace
    parts: tuple[tuple[int, ...], ...]
    seed: int | None = None
    normalized_cut: float | None = None

    def __post_init__(self) -> None:
        if not all(self.parts):
            raise PartitionError(f"A part of the {self.strategy} partition is empty.")
        columns = list(chain.from_iterable(self.parts))
        for column in columns:
            if not 0 <= column < len(self.labels):
                raise PartitionError(
                    f"The {self.strategy} partition has label number {column}, but there are "
                    f"labels 0 to {len(self.labels) - 1} only."
                )
        counts = np.bincount(columns, minlength=len(self.labels))
        for wrong, what in ((counts > 1, "in more than one place"), (counts < 1, "in no part")):
            if wrong.any():
                names = [self.labels.names[i] for i in np.flatnonzero(wrong)]
                raise PartitionError(
                    f"The {self.strategy} partition has {_listed(names)} {what}; "
                    "every label must be in exactly one part."
                )
        ordered = tuple(tuple(sorted(int(i) for i in part)) for part in self.parts)
        object.__setattr__(self, "parts", ordered)

    @classmethod
    def whole(cls, labels: LabelSpace) -> "LabelPartition":
        """Return the partition that has all labels in one part."""
        return cls(WHOLE, labels, (tuple(range(len(labels))),))

    @property
    def num_parts(self) -> int:
        """How many parts there are."""
        return len(self.parts)

    @property
    def hash(self) -> str:
        """SHA-256 of the labels and the parts in their order, not of how they were found."""
        content = json.dumps([list(self.labels.names), [list(part) for part in self.parts]])
        return hashlib.sha256(content.encode()).hexdigest()

    def part_labels(self, index: int) -> LabelSpace:
        """Return the labels of a part."""
        return self.labels.select(self.parts[index])


def default_num_parts(num_labels: int, min_labels: int) -> int:
    """Return the paper's 5 parts, or as many as ``min_labels`` leaves room for, at least 1.

    Example:
        >>> default_num_parts(80, 2), default_num_parts(7, 2), default_num_parts(1, 2)
        (5, 3, 1)
    """
    return max(1, min(_MOST_PARTS, num_labels // min_labels))


def partition_labels(
    graph: LabelGraph,
    strategy: str,
    *,
    seed: int,
    num_parts: int | None = None,
    min_labels: int = 2,
    starts: int = 16,
) -> LabelPartition:
    """Cut the labels into parts (CPSD, section 3.2); the same arguments give the same parts.

    Args:
        graph: the counts.
        strategy: ``co-occurrence`` puts labels that appear together into one part,
            ``dis-occurrence`` labels that avoid each other; both by a small normalized cut of their
            affinity. Controls: ``random`` has parts of equal size, to within one label;
            ``shuffled-<cut>`` parts as large as those of that cut, with labels drawn at random;
            ``whole`` cuts nothing, whatever ``num_parts`` says. ``random-2`` is another ``random``.
        seed: of the cut.
        num_parts: how many parts; by default the paper's 5, or fewer where there are few labels.
            One part holds all labels, however few they are.
        min_labels: smallest number of labels in a part.
        starts: how many starts the search for a small cut has.

    Raises:
        PartitionError: no such strategy, or more parts than the labels allow.
    """
    fault = strategy_fault(strategy)
    if fault is not None:
        raise PartitionError(fault[0].upper() + fault[1:])
    if base_strategy(strategy) == WHOLE:
        return replace(LabelPartition.whole(graph.labels), strategy=strategy)
    num_labels = len(graph.labels)
    if num_parts is None:
        num_parts = default_num_parts(num_labels, min_labels)
    _require_room(num_labels, num_parts, min_labels)
    cut, sizes = shuffled_cut(strategy), None
    if base_strategy(strategy) == RANDOM:
        sizes = [len(part) for part in np.array_split(np.arange(num_labels), num_parts)]
    elif cut is not None:
        limits = {"num_parts": num_parts, "min_labels": min_labels, "starts": starts}
        sizes = [len(part) for part in partition_labels(graph, cut, seed=seed, **limits).parts]
        seed = derive_seed(seed, strategy)
    if sizes is not None:
        return replace(random_partition(graph.labels, sizes, seed=seed), strategy=strategy)
    affinity = _AFFINITIES[strategy](graph)
    assignment = cuts.cut_graph(
        affinity,
        num_parts,
        seed=seed,
        min_size=min_labels if num_parts > 1 else 1,
        starts=starts,
    )
    parts = tuple(sorted(tuple(np.flatnonzero(assignment == p).tolist()) for p in range(num_parts)))
    value = cuts.normalized_cut(affinity, assignment)
    return LabelPartition(strategy, graph.labels, parts, seed=seed, normalized_cut=value)


def random_partition(labels: LabelSpace, sizes: Sequence[int], *, seed: int) -> LabelPartition:
    """Return parts of the given sizes with labels drawn at random, as a control.

    Raises:
        PartitionError: a size is below 1, or the sizes do not add up to the number of labels.

    Example:
        >>> labels = LabelSpace(("cat", "dog", "cow"))
        >>> sorted(len(part) for part in random_partition(labels, [1, 2], seed=0).parts)
        [1, 2]
    """
    if not sizes or min(sizes) < 1 or sum(sizes) != len(labels):
        raise PartitionError(
            f"Parts of {', '.join(map(str, sizes)) or 'no'} labels do not fit {len(labels)} "
            "labels: sizes must be at least 1 and add up to the number of labels."
        )
    rng = np.random.default_rng(derive_seed(seed, "random partition"))
    drawn = np.split(rng.permutation(len(labels)), np.cumsum(sizes)[:-1])
    parts = tuple(sorted(tuple(sorted(part.tolist())) for part in drawn))
    return LabelPartition("random", labels, parts, seed=seed)


def write_partition(partition: LabelPartition, path: Path) -> None:
    """Write a partition file (``cpsd.partition_json``), whole or not at all.

    Raises:
        RunError: the file cannot be written.
    """
    content = {
        "strategy": partition.strategy,
        "num_parts": partition.num_parts,
        "seed": partition.seed,
        "normalized_cut": partition.normalized_cut,
        "hash": partition.hash,
        "labels": list(partition.labels),
        "parts": [list(partition.part_labels(i)) for i in range(partition.num_parts)],
    }
    write_json(path, content)


def read_partition(path: Path, labels: LabelSpace | None = None) -> LabelPartition:
    """Read a partition file (``cpsd.partition_json``).

    A file without a hash was made by hand: nothing says that its cut value belongs to its parts, so
    that is left out.

    Args:
        path: the file.
        labels: the labels, in the order that the partition shall have; by default the file's, or
            where it has none, the order in which its parts name them.

    Raises:
        PartitionError: the file cannot be read, its hash is not that of its parts, or its labels
            are not the given ones, each in one part.
    """
    content = checked_content(read_content(path), path)
    parts: list[list[str]] = content["parts"]
    try:
        named = LabelSpace(tuple(content.get("labels") or labels or chain.from_iterable(parts)))
        partition = _from_names(content, named)
        if "hash" in content and content["hash"] != partition.hash:
            raise PartitionError(
                f"its hash is {content['hash']}, but its labels and parts give {partition.hash}: "
                "it was edited or damaged. If the edit was meant, remove the line 'hash'."
            )
        if labels is None or labels == named:
            return partition
        return _from_names(content, labels)
    except (PartitionError, DataError) as error:
        raise PartitionError(f"{path}: {error}") from error


def read_published_partition(path: Path, labels: LabelSpace, *, strategy: str) -> LabelPartition:
    """Read a published index file: a list of parts, each ``{"label index": position}``.

    Args:
        path: the file.
        labels: the labels that the indices stand for (alphabetical order for COCO).
        strategy: what the parts were cut by; the file does not say.

    Raises:
        PartitionError: the file is not of that form, or its parts do not fit the labels.
    """
    content = read_content(path)
    shape = "a list of parts, each an object of label index and position"
    if not isinstance(content, list) or not all(isinstance(part, dict) for part in content):
        raise PartitionError(f"{path} is not a published partition: it must be {shape}.")
    parts = []
    for number, positions in enumerate(content):
        try:
            part = [int(key) for key in positions]
        except ValueError as error:
            raise PartitionError(f"{path}, part {number}: {error}; it must be {shape}.") from error
        ascending = {str(column): position for position, column in enumerate(sorted(part))}
        if positions != ascending:
            raise PartitionError(
                f"{path}, part {number}: positions must count the part's labels from 0 in "
                "ascending order of their index."
            )
        parts.append(tuple(part))
    try:
        return LabelPartition(strategy, labels, tuple(parts))
    except PartitionError as error:
        raise PartitionError(f"{path}: {error}") from error


def _require_room(num_labels: int, num_parts: int, min_labels: int) -> None:
    for name, value in (("num_parts", num_parts), ("min_labels", min_labels)):
        if value < 1:
            raise PartitionError(f"{name} is {value}; it must be at least 1.")
    if num_parts > 1 and num_parts * min_labels > num_labels:
        most = max(1, num_labels // min_labels)
        raise PartitionError(
            f"{num_labels} labels cannot be cut into {num_parts} parts of at least {min_labels} "
            f"{'label' if min_labels == 1 else 'labels'}: ask for at most {most} "
            f"{'part' if most == 1 else 'parts'}"
            + (", or allow smaller parts." if min_labels > 1 else ".")
        )


def _from_names(content: dict[str, Any], labels: LabelSpace) -> LabelPartition:
    """Build the partition of a file whose parts name ``labels``."""
    return LabelPartition(
        content["strategy"],
        labels,
        tuple(tuple(labels.indices(part).tolist()) for part in content["parts"]),
        seed=content.get("seed"),
        normalized_cut=content.get("normalized_cut") if "hash" in content else None,
    )


def _listed(names: Iterable[str]) -> str:
    quoted = [f"'{name}'" for name in names]
    return ", ".join(quoted[:5]) + (f" and {len(quoted) - 5} more" if len(quoted) > 5 else "")
