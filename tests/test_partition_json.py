"""Partition files: ours by name, and the published index files."""

import json
from pathlib import Path
from typing import Any

import pytest

from cpsd.errors import PartitionError
from cpsd.labels import LabelSpace
from cpsd.partition import (
    LabelPartition,
    read_partition,
    read_published_partition,
    write_partition,
)

LABELS = LabelSpace(("ant", "bee", "cat", "dog", "eel", "fox"))


@pytest.mark.parametrize("strategy", ["co-occurrence", "dis-occurrence", "random", "whole"])
def test_a_written_partition_is_read_as_it_was(tmp_path: Path, strategy: str) -> None:
    parts = ((0, 4), (1, 2), (3, 5))
    partition = LabelPartition(strategy, LABELS, parts, seed=2**62 + 1, normalized_cut=1 / 3)
    path = tmp_path / "partitions" / "a.json"
    write_partition(partition, path)
    assert read_partition(path) == read_partition(path, LABELS) == partition
    content = json.loads(path.read_text())
    assert content["parts"] == [list(partition.part_labels(i)) for i in range(3)]
    assert (content["strategy"], content["num_parts"]) == (strategy, 3)
    assert (content["seed"], content["hash"]) == (2**62 + 1, partition.hash)
    assert content["normalized_cut"] == partition.normalized_cut


def test_labels_may_come_in_another_order(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    write_partition(LabelPartition("random", LABELS, ((0, 1), (2, 3, 4, 5))), path)
    reordered = LabelSpace(tuple(reversed(LABELS.names)))
    read = read_partition(path, reordered)
    assert read.labels == reordered
    assert read.parts == ((4, 5), (0, 1, 2, 3))


def write_content(path: Path, **changes: Any) -> Path:
    """Write a sound hand-made file, but for ``changes``; a key set to None is left out."""
    content = {
        "strategy": "co-occurrence",
        "labels": list(LABELS),
        "parts": [["fox", "ant", "bee"], ["cat", "dog", "eel"]],
        **changes,
    }
    kept = {key: value for key, value in content.items() if value is not None}
    path.write_text(json.dumps(kept))
    return path


def test_a_hand_made_file_needs_strategy_and_parts_only(tmp_path: Path) -> None:
    path = write_content(tmp_path / "a.json", labels=None, normalized_cut=0.1)
    assert read_partition(path, LABELS).parts == ((0, 1, 5), (2, 3, 4))
    alone = read_partition(path)
    assert alone.labels.names == ("fox", "ant", "bee", "cat", "dog", "eel")
    assert alone.parts == ((0, 1, 2), (3, 4, 5))
    assert alone.normalized_cut is None  # nothing says that it belongs to these parts


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"parts": [["ant", "bee"], ["cat", "dgo", "eel", "fox"]]}, "'dgo'.*Did you mean 'dog'"),
        ({"parts": [["ant", "bee"], ["Cat", "dog", "eel", "fox"]]}, "'Cat'.*Did you mean 'cat'"),
        ({"parts": [["ant", "bee"], ["cat", "dog"]]}, "'eel', 'fox' in no part"),
        ({"parts": [["ant", "bee"], ["bee", "cat", "dog", "eel", "fox"]]}, "'bee' in more than"),
        ({"parts": [["ant", "bee"], ["bee", "cat"]], "labels": None}, "'bee' in more than"),
        ({"parts": [[], list(LABELS)]}, "is empty"),
        ({"parts": "ant"}, "'parts' must be a list of lists of label names"),
        ({"parts": [["ant", 2]]}, "'parts' must be a list of lists of label names"),
        ({"parts": None}, "has no 'parts'"),
        ({"strategy": None}, "has no 'strategy'"),
        ({"strategy": "cluster"}, "'strategy' is 'cluster'; it must be one of co-occurrence"),
        ({"num_parts": 3}, "'num_parts' is 3; it must be 2"),
        ({"seed": "x"}, "'seed' is 'x'; it must be a whole number"),
        ({"normalized_cut": "x"}, "'normalized_cut' is 'x'; it must be a number"),
        ({"labels": "ant"}, "'labels' is 'ant'; it must be a list of names"),
        ({"sed": 3}, "unknown key 'sed'. Did you mean 'seed'"),
        ({"hash": "0123"}, "its hash is 0123, but .* If the edit was meant, remove the line"),
    ],
)
def test_a_wrong_file_is_refused_with_what_is_wrong(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    path = write_content(tmp_path / "mine.json", **changes)
    with pytest.raises(PartitionError, match=message) as caught:
        read_partition(path, LABELS)
    assert "mine.json" in str(caught.value)


def test_an_edited_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    write_partition(LabelPartition("random", LABELS, ((0, 1), (2, 3, 4, 5))), path)
    content = json.loads(path.read_text())
    content["parts"][0].append(content["parts"][1].pop())
    path.write_text(json.dumps(content))
    with pytest.raises(PartitionError, match="edited or damaged"):
        read_partition(path)


def test_a_partition_of_other_labels_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    write_partition(LabelPartition("random", LABELS, ((0, 1), (2, 3, 4, 5))), path)
    with pytest.raises(PartitionError, match=r"a.json: .*'gnu' in no part"):
        read_partition(path, LabelSpace((*LABELS.names, "gnu")))
    with pytest.raises(PartitionError, match=r"a.json: The label 'fox' is not among the 5 labels"):
        read_partition(path, LabelSpace(LABELS.names[:5]))


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b"\xff\xfe"])
def test_what_is_no_partition_is_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(content)
    with pytest.raises(PartitionError, match=r"a\.json"):
        read_partition(path)
    with pytest.raises(PartitionError, match=r"a\.json"):
        read_published_partition(path, LABELS, strategy="co-occurrence")
    with pytest.raises(PartitionError, match=r"There is no partition file .*b\.json"):
        read_partition(tmp_path / "b.json")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([{"0": 0, "1": 1}, {"2": 0, "3": 1, "4": 2}], "'fox' in no part"),
        ([{"0": 0, "1": 1}, {"2": 1, "3": 0, "4": 2, "5": 3}], "part 1: positions must count"),
        ([{"0": 0, "1": 0}, {"2": 0, "3": 1, "4": 2, "5": 3}], "part 0: positions must count"),
        ([{"ant": 0}], "part 0: .*'ant'"),
        ({"0": 0}, "must be a list of parts"),
    ],
)
def test_a_wrong_published_file_is_refused(tmp_path: Path, content: object, message: str) -> None:
    path = tmp_path / "idx.json"
    path.write_text(json.dumps(content))
    with pytest.raises(PartitionError, match=message):
        read_published_partition(path, LABELS, strategy="co-occurrence")


@pytest.mark.dataset
@pytest.mark.parametrize(
    ("name", "strategy"),
    [("idx_coocurrence5_0", "co-occurrence"), ("idx_cluster5_0", "dis-occurrence")],
)
def test_published_files_hold_the_published_parts(shared: Path, name: str, strategy: str) -> None:
    content = json.loads((shared / "reference" / "coco2014_label_graph.json").read_text())
    labels = LabelSpace(tuple(content["labels"]))
    path = shared / "reference" / f"{name}.json"
    partition = read_published_partition(path, labels, strategy=strategy)
    group = content["partitions"][strategy]["5"]["label_group"]
    expected = {tuple(i for i, g in enumerate(group) if g == part) for part in range(5)}
    assert set(partition.parts) == expected
    assert [str(label) for label in partition.parts[1]] == list(json.loads(path.read_text())[1])
