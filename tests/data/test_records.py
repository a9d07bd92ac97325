from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cpsd.data.records import Records
from cpsd.errors import DataError
from cpsd.labels import LabelSpace


def records(**changes: Any) -> Records:
    base = Records(
        paths=("a.png", "sub/b.png", "c.png", "d.png", "e.png"),
        targets=np.array([[1, 0], [0, 0], [-1, -1], [-1, 0], [0, 1]], dtype=np.int8),
        labels=LabelSpace(("cat", "dog")),
        splits=("train", "test-night", "test", "train", ""),
        root=Path("pictures"),
        origins=tuple(f"labels.csv, row {row}" for row in range(2, 7)),
    )
    return replace(base, **changes)


def test_rows_of_a_split_are_ascending() -> None:
    assert records().indices("train").tolist() == [0, 3]
    assert records().indices("").tolist() == [4]
    assert records().indices("validation").tolist() == []


def test_the_test_split_comes_first_and_only_test_splits_count() -> None:
    splits = ("test-z", "testing", "test-a", "test", "test-z")
    assert records(splits=splits).test_splits() == ("test", "test-z", "test-a")
    assert records(splits=("train",) * 5).test_splits() == ()


def test_a_selection_keeps_rows_together_in_the_order_asked_for() -> None:
    chosen = records().select(np.array([4, 1]))
    assert chosen.paths == ("e.png", "sub/b.png")
    assert chosen.targets.tolist() == [[0, 1], [0, 0]]
    assert chosen.splits == ("", "test-night")
    assert chosen.origins == ("labels.csv, row 6", "labels.csv, row 3")
    assert chosen.image_path(1) == Path("pictures/sub/b.png")
    assert chosen.labels == records().labels
    assert len(records().select([])) == 0


def test_an_absolute_path_stands_for_itself(tmp_path: Path) -> None:
    path = tmp_path / "x.png"
    assert records(paths=(str(path), "b", "c", "d", "e")).image_path(0) == path


def test_without_positive_needs_something_known() -> None:
    assert records().without_positive().tolist() == [False, True, False, True, False]


def test_with_splits_changes_nothing_else() -> None:
    changed = records().with_splits(["train"] * 5)
    assert changed.splits == ("train",) * 5
    assert replace(changed, splits=records().splits).fingerprint() == records().fingerprint()


@pytest.mark.parametrize(
    "change",
    [
        {"paths": ("a.png", "sub/b.png", "c.png", "d.png", "f.png")},
        {"targets": np.array([[1, 0], [0, 0], [-1, -1], [0, 0], [0, 1]], dtype=np.int8)},
        {"labels": LabelSpace(("dog", "cat"))},
        {"splits": ("train", "test-night", "test", "train", "train")},
    ],
)
def test_the_fingerprint_covers_what_a_result_depends_on(change: dict[str, Any]) -> None:
    assert records(**change).fingerprint() != records().fingerprint()


def test_the_fingerprint_does_not_depend_on_where_the_data_lie() -> None:
    moved = records(
        root=Path("elsewhere"),
        origins=("",) * 5,
        targets=np.asfortranarray(records().targets),
    )
    assert moved.fingerprint() == records().fingerprint()
    shuffled = records().select([1, 0, 2, 3, 4])
    assert shuffled.fingerprint() != records().fingerprint()


def test_names_cannot_run_into_each_other_in_the_fingerprint() -> None:
    one = records(paths=("a", "bc", "c", "d", "e")).fingerprint()
    other = records(paths=("ab", "c", "c", "d", "e")).fingerprint()
    assert one != other


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"paths": ("a.png",)}, "5, 2.* do not fit 1 pictures and 2 labels"),
        ({"labels": LabelSpace(("cat",))}, "do not fit 5 pictures and 1 labels"),
        ({"splits": ("train",)}, "one split and one origin"),
        ({"origins": ()}, "one split and one origin"),
        ({"targets": np.full((5, 2), 2, dtype=np.int8)}, "nothing else"),
    ],
)
def test_parts_that_do_not_fit_are_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        records(**change)
