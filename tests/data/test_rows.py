"""Lists of labels; what else is in rows is held by the formats' tests."""

import json
from pathlib import Path

import pytest

from cpsd.data.rows import LABEL_LISTS, read_label_list
from cpsd.errors import DataError


@pytest.mark.parametrize(("name", "size"), [("coco", 80), ("nuswide", 81)])
def test_packaged_lists_are_alphabetical(name: str, size: int) -> None:
    labels = read_label_list(name)
    assert labels is not None
    assert name in LABEL_LISTS
    assert len(labels) == size
    assert list(labels) == sorted(labels)


@pytest.mark.dataset
def test_the_coco_list_is_the_published_order(shared: Path) -> None:
    graph = json.loads((shared / "reference/coco2014_label_graph.json").read_text())
    labels = read_label_list("coco")
    assert labels is not None
    assert list(labels) == graph["labels"]


def test_a_file_of_a_packaged_name_goes_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "coco").write_text("palm\ncoconut\n")
    monkeypatch.chdir(tmp_path)
    labels = read_label_list("coco")
    assert labels is not None
    assert labels.names == ("palm", "coconut")


def test_another_name_is_a_file_that_is_not_there() -> None:
    with pytest.raises(DataError, match="Cannot read the list of labels cocoa"):
        read_label_list("cocoa")
