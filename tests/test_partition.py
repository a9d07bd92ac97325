"""Label partitions: what a partition is, and how labels are cut."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cpsd.errors import PartitionError
from cpsd.graph import LabelGraph, co_occurrence_affinity, dis_occurrence_affinity
from cpsd.labels import LabelSpace
from cpsd.normalized_cut import normalized_cut
from cpsd.partition import (
    LabelPartition,
    default_num_parts,
    partition_labels,
    random_partition,
)

LABELS = LabelSpace(("ant", "bee", "cat", "dog", "eel", "fox"))
STRATEGIES = ("co-occurrence", "dis-occurrence", "random")


def context_graph() -> LabelGraph:
    """Labels of two contexts: ant, cat, eel in one; bee, dog, fox in the other."""
    rng = np.random.default_rng(0)
    context = rng.integers(0, 2, 200)
    likely = np.arange(6) % 2 == context[:, None]
    targets = (rng.random((200, 6)) < np.where(likely, 0.6, 0.05)).astype(np.int8)
    return LabelGraph.from_targets(targets, LABELS)


def published_graph(content: dict[str, Any]) -> LabelGraph:
    return LabelGraph.from_counts(
        content["images_with_label"],
        content["images_with_both"],
        labels=LabelSpace(tuple(content["labels"])),
    )


def test_labels_ascend_inside_a_part_and_parts_keep_their_order() -> None:
    partition = LabelPartition("random", LABELS, ((5, 3), (2, 0, 4), (1,)))
    assert partition.parts == ((3, 5), (0, 2, 4), (1,))
    assert partition.num_parts == 3
    assert partition.part_labels(1).names == ("ant", "cat", "eel")


def test_the_hash_tells_labels_and_parts_apart_and_nothing_else() -> None:
    partition = LabelPartition("random", LABELS, ((0, 1, 2), (3, 4, 5)), seed=1)
    same = LabelPartition("co-occurrence", LABELS, ((2, 1, 0), (3, 5, 4)), normalized_cut=0.5)
    assert partition.hash == same.hash
    other_parts = LabelPartition("random", LABELS, ((0, 1), (2, 3, 4, 5)), seed=1)
    swapped = LabelPartition("random", LABELS, ((3, 4, 5), (0, 1, 2)), seed=1)
    renamed = LabelPartition("random", LabelSpace(tuple("abcdef")), partition.parts, seed=1)
    assert len({partition.hash, other_parts.hash, swapped.hash, renamed.hash}) == 4


def test_the_whole_is_one_part() -> None:
    assert LabelPartition.whole(LABELS).parts == ((0, 1, 2, 3, 4, 5),)
    assert partition_labels(context_graph(), "whole", num_parts=3, seed=0).num_parts == 1


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        (((0, 1), (2, 3)), "'eel', 'fox' in no part"),
        (((0, 1, 2), (2, 3, 4, 5)), "'cat' in more than one place"),
        (((0, 0, 1, 2), (3, 4, 5)), "'ant' in more than one place"),
        (((0, 1, 2), (), (3, 4, 5)), "part of the random partition is empty"),
        (((0, 1, 2, 3, 4, 5, 6),), "has label number 6, but there are labels 0 to 5"),
        (((-1, 0, 1, 2, 3, 4),), "has label number -1"),
        ((), "in no part"),
    ],
)
def test_parts_that_are_not_disjoint_and_complete_are_refused(
    parts: tuple[tuple[int, ...], ...], message: str
) -> None:
    with pytest.raises(PartitionError, match=message):
        LabelPartition("random", LABELS, parts)


@pytest.mark.parametrize(
    ("num_labels", "min_labels", "expected"),
    [(80, 2, 5), (10, 2, 5), (9, 2, 4), (3, 2, 1), (1, 2, 1), (4, 1, 4), (80, 30, 2)],
)
def test_default_number_of_parts(num_labels: int, min_labels: int, expected: int) -> None:
    assert default_num_parts(num_labels, min_labels) == expected


def test_co_occurrence_joins_a_context_and_dis_occurrence_divides_it() -> None:
    together = partition_labels(context_graph(), "co-occurrence", num_parts=2, seed=0)
    apart = partition_labels(context_graph(), "dis-occurrence", num_parts=3, seed=0)
    assert together.parts == ((0, 2, 4), (1, 3, 5))
    assert [sorted(label % 2 for label in part) for part in apart.parts] == [[0, 1]] * 3


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize(("num_parts", "min_labels"), [(1, 2), (1, 9), (2, 3), (3, 2), (6, 1)])
def test_every_strategy_gives_the_parts_asked_for(
    strategy: str, num_parts: int, min_labels: int
) -> None:
    graph = context_graph()
    partition, again = (
        partition_labels(graph, strategy, num_parts=num_parts, seed=3, min_labels=min_labels)
        for _ in range(2)
    )
    assert partition == again
    assert partition.num_parts == num_parts
    assert num_parts == 1 or min(map(len, partition.parts)) >= min_labels
    assert list(partition.parts) == sorted(partition.parts)
    assert (partition.strategy, partition.seed) == (strategy, 3)
    if strategy == "random":
        assert partition.normalized_cut is None
    elif num_parts == 1:
        assert partition.normalized_cut == 0


@pytest.mark.parametrize("strategy", ["co-occurrence", "dis-occurrence"])
def test_labels_never_seen_or_always_alone_are_cut_too(strategy: str) -> None:
    targets = np.zeros((8, 6), dtype=np.int8)
    targets[0:3, :2] = 1  # ant and bee together, cat alone, the others never seen
    targets[4, 2] = 1
    graph = LabelGraph.from_targets(targets, LABELS)
    for num_parts in (1, 2, 3):
        partition = partition_labels(graph, strategy, num_parts=num_parts, seed=0)
        assert partition.num_parts == num_parts
        assert min(map(len, partition.parts)) >= 2
        assert partition.normalized_cut is not None
        assert np.isfinite(partition.normalized_cut)


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize(
    ("num_parts", "min_labels", "message"),
    [
        (7, 1, "6 labels cannot be cut into 7 parts of at least 1 label: ask for at most 6 parts."),
        (4, 2, "into 4 parts of at least 2 labels: ask for at most 3 parts, or allow smaller"),
        (2, 9, "into 2 parts of at least 9 labels: ask for at most 1 part, or allow smaller"),
        (0, 2, "num_parts is 0; it must be at least 1"),
        (2, 0, "min_labels is 0; it must be at least 1"),
    ],
)
def test_more_parts_than_labels_allow_are_refused(
    strategy: str, num_parts: int, min_labels: int, message: str
) -> None:
    with pytest.raises(PartitionError, match=message):
        partition_labels(
            context_graph(), strategy, num_parts=num_parts, seed=0, min_labels=min_labels
        )


@pytest.mark.parametrize("cut", ["co-occurrence", "dis-occurrence"])
def test_shuffled_parts_are_as_large_as_those_of_the_cut(cut: str) -> None:
    graph = context_graph()
    settings: dict[str, int] = {"num_parts": 3, "min_labels": 1, "starts": 2}
    model = partition_labels(graph, cut, seed=3, **settings)
    names = [f"shuffled-{cut}", f"shuffled-{cut}-2"]
    first, second = (partition_labels(graph, name, seed=3, **settings) for name in names)
    for drawn, name in ((first, names[0]), (second, names[1])):
        assert sorted(map(len, drawn.parts)) == sorted(map(len, model.parts))
        assert (drawn.strategy, drawn.normalized_cut) == (name, None)
    assert len({model.parts, first.parts, second.parts}) == 3


def test_a_copy_of_whole_is_whole() -> None:
    graph = context_graph()
    copy = partition_labels(graph, "whole-12", seed=0)
    assert (copy.strategy, copy.num_parts) == ("whole-12", 1)
    assert copy.parts == partition_labels(graph, "whole", seed=0).parts


def test_an_unknown_strategy_is_refused_with_the_nearest() -> None:
    with pytest.raises(PartitionError, match="Did you mean 'co-occurrence'"):
        partition_labels(context_graph(), "cooccurrence", num_parts=2, seed=0)


def test_random_parts_have_the_sizes_given_and_depend_on_the_seed() -> None:
    drawn = [random_partition(LABELS, [1, 2, 3], seed=seed) for seed in range(20)]
    assert all(sorted(map(len, partition.parts)) == [1, 2, 3] for partition in drawn)
    assert len({partition.parts for partition in drawn}) > 10
    assert drawn[4] == random_partition(LABELS, [1, 2, 3], seed=4)
    balanced = partition_labels(context_graph(), "random", num_parts=4, seed=0, min_labels=1)
    assert sorted(map(len, balanced.parts)) == [1, 1, 2, 2]


@pytest.mark.parametrize("sizes", [[], [6, 0], [3, 4], [2, 3]])
def test_random_parts_of_impossible_sizes_are_refused(sizes: list[int]) -> None:
    with pytest.raises(PartitionError, match="do not fit 6 labels"):
        random_partition(LABELS, sizes, seed=0)


@pytest.mark.dataset
@pytest.mark.parametrize("strategy", ["co-occurrence", "dis-occurrence"])
@pytest.mark.parametrize("num_parts", [2, 3, 5, 8, 13])
def test_cuts_are_at_most_the_published_ones(shared: Path, strategy: str, num_parts: int) -> None:
    content = json.loads((shared / "reference" / "coco2014_label_graph.json").read_text())
    published = content["partitions"][strategy][str(num_parts)]["normalized_cut"]
    partition = partition_labels(published_graph(content), strategy, num_parts=num_parts, seed=1)
    assert partition.normalized_cut is not None
    assert partition.normalized_cut <= published + 1e-5
    assert min(map(len, partition.parts)) >= 2


@pytest.mark.dataset
@pytest.mark.parametrize("strategy", ["co-occurrence", "dis-occurrence"])
def test_our_normalized_cut_of_published_parts_is_the_published_one(
    shared: Path, strategy: str
) -> None:
    content = json.loads((shared / "reference" / "coco2014_label_graph.json").read_text())
    affinities = {
        "co-occurrence": co_occurrence_affinity,
        "dis-occurrence": dis_occurrence_affinity,
    }
    affinity = affinities[strategy](published_graph(content))
    for published in content["partitions"][strategy].values():
        cut = normalized_cut(affinity, np.array(published["label_group"]))
        assert cut == pytest.approx(published["normalized_cut"], abs=1e-5)
