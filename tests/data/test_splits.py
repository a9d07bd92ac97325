"""Splits: their names, and drawing them; counted here independently of the library."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cpsd.config import DataConfig
from cpsd.data.records import Records
from cpsd.data.splits import assign_splits, limit_splits, normalise_split, stratify
from cpsd.data.table import read_table
from cpsd.errors import ConfigError, DataError
from cpsd.labels import LabelSpace, Targets


def records_of(
    targets: Targets | list[list[int]],
    splits: list[str] | str = "",
    paths: list[str] | None = None,
) -> Records:
    targets = np.array(targets, dtype=np.int8)
    n, c = targets.shape
    return Records(
        paths=tuple(paths or [f"{i}.jpg" for i in range(n)]),
        targets=targets,
        labels=LabelSpace(tuple(f"label{i}" for i in range(c))),
        splits=(splits,) * n if isinstance(splits, str) else tuple(splits),
        root=Path("root"),
        origins=tuple(f"t.csv, row {i + 2}" for i in range(n)),
    )


def long_tailed(n: int, c: int, seed: int = 0) -> Targets:
    rng = np.random.default_rng(seed)
    return (rng.random((n, c)) < 0.5 / np.arange(1, c + 1)).astype(np.int8)


@pytest.mark.parametrize(
    ("written", "split"),
    [
        *dict.fromkeys(["train", "training", "Train", " TRAIN "], "train").items(),
        *dict.fromkeys(["val", "valid", "validation", "dev", "Val"], "validation").items(),
        *dict.fromkeys(["test", "TEST"], "test").items(),
        ("test-Night", "test-night"),
        ("", ""),
    ],
)
def test_names_of_splits(written: str, split: str) -> None:
    assert normalise_split(written) == split


@pytest.mark.parametrize("written", ["trainn", "test_2", "test-", "trainval", "holdout"])
def test_other_names_are_refused(written: str) -> None:
    with pytest.raises(DataError, match=written):
        normalise_split(written)
    with pytest.raises(DataError, match=rf"t\.csv, row 3: .*'{written}'.*And 1 more"):
        assign_splits(
            records_of([[1], [0], [0]], ["train", written, written]), DataConfig(), seed=0
        )


def test_test_split_may_have_any_name() -> None:
    config = DataConfig(test_split="holdout", validation_fraction=0)
    records, notices = assign_splits(records_of([[1], [0]], ["train", "holdout"]), config, seed=0)
    assert records.splits == ("train", "test")
    assert "'holdout'" in notices[0]


def test_named_splits_stay_as_they_are() -> None:
    records, notices = assign_splits(
        records_of([[1], [0], [0], [1]], ["train", "val", "Test", "test-b"]), DataConfig(), seed=0
    )
    assert records.splits == ("train", "validation", "test", "test-b")
    assert notices == ()


def test_test_split_val_draws_validation_from_train() -> None:
    splits = ["train"] * 80 + ["val"] * 15 + ["test"] * 5
    config = DataConfig(test_split="val")
    records, notices = assign_splits(records_of(long_tailed(100, 4), splits), config, seed=0)
    assert records.splits[80:95] == ("test",) * 15
    assert records.splits[95:] == ("test-other",) * 5
    assert set(records.splits[:80]) == {"train", "validation"}
    assert records.test_splits() == ("test", "test-other")
    assert any("'test-other'" in notice for notice in notices)
    assert any("of 80 pictures drawn from train with seed 0" in notice for notice in notices)


def test_a_test_split_that_is_not_there_is_refused() -> None:
    with pytest.raises(DataError, match=r"'vla'.*'train', 'val'\. Did you mean 'val'\?"):
        assign_splits(
            records_of([[1], [0]], ["train", "val"]), DataConfig(test_split="vla"), seed=0
        )


@pytest.mark.parametrize(
    ("splits", "drawn", "sizes"),
    [
        ("", {"validation", "test"}, {"train": 700, "validation": 100, "test": 200}),
        ("train", {"validation", "test"}, {"train": 700, "validation": 100, "test": 200}),
        ("val", {"test"}, {"train": 720, "test": 180}),
        ("test", {"validation"}, {"train": 810, "validation": 90}),
        ("test-night", {"validation"}, {"train": 810, "validation": 90}),
    ],
)
def test_missing_splits_are_drawn_in_proportion(
    splits: str, drawn: set[str], sizes: dict[str, int]
) -> None:
    targets = long_tailed(1000, 20)
    named = [splits if splits in ("", "train") or i % 10 == 0 else "train" for i in range(1000)]
    records, notices = assign_splits(records_of(targets, named), DataConfig(), seed=0)
    pool = np.array([name in ("", "train") for name in named])
    counts = Counter(np.array(records.splits)[pool].tolist())
    assert set(counts) == {"train", *drawn}
    assert all(abs(counts[name] - size) <= 0.02 * 1000 for name, size in sizes.items())
    assert {notice.split(":")[0] for notice in notices} == drawn
    for name in drawn:
        said = f"{name}: {counts[name]:,} of {int(pool.sum()):,} pictures drawn from train"
        assert any(notice.startswith(said) for notice in notices)
    # Every label is shared out as the pictures are, to within two pictures.
    for name, size in sizes.items():
        mine = np.array([s == name for s in records.splits]) & pool
        wanted = targets[pool].sum(axis=0) * size / pool.sum()
        assert np.abs(targets[mine].sum(axis=0) - wanted).max() <= 2


def test_a_rare_label_is_in_train_first() -> None:
    targets = np.zeros((100, 2), dtype=np.int8)
    targets[:, 0] = 1
    targets[17, 1] = 1
    for seed in range(5):
        records, _ = assign_splits(records_of(targets), DataConfig(), seed=seed)
        assert records.splits[17] == "train"


def test_drawing_depends_on_the_seed_alone() -> None:
    records = records_of(long_tailed(300, 5))
    np.random.seed(1)
    state = np.random.get_state(legacy=False)
    first, _ = assign_splits(records, DataConfig(), seed=3)
    assert str(np.random.get_state(legacy=False)) == str(state)
    np.random.seed(2)
    again, _ = assign_splits(records, DataConfig(), seed=3)
    other, _ = assign_splits(records, DataConfig(), seed=4)
    assert first.splits == again.splits
    assert first.splits != other.splits


def test_pictures_without_labels_stay_in_train() -> None:
    targets = long_tailed(200, 3)
    targets[::2] = -1
    records, notices = assign_splits(records_of(targets), DataConfig(), seed=0)
    assert set(records.splits[::2]) == {"train"}
    assert set(records.splits[1::2]) == {"train", "validation", "test"}
    assert all("of 100 pictures" in notice for notice in notices)


def test_rows_without_a_split_beside_named_ones_go_to_train() -> None:
    records, notices = assign_splits(
        records_of([[1], [0], [1], [-1]], ["train", "", "val", ""]),
        DataConfig(test_fraction=0),
        seed=0,
    )
    assert records.splits == ("train", "train", "validation", "train")
    assert notices == ("train: 1 pictures without a split were put into it.",)


def test_rows_of_one_picture_go_together() -> None:
    paths = [f"a/{i // 2}.jpg" if i % 2 else f"./a//x/../{i // 2}.jpg" for i in range(400)]
    for seed in range(3):
        records, notices = assign_splits(
            records_of(long_tailed(400, 3), paths=paths), DataConfig(), seed=seed
        )
        assert records.splits[::2] == records.splits[1::2]
        assert "of 200 pictures" in notices[0]


def test_a_picture_in_two_splits_is_refused() -> None:
    records = records_of(
        [[1], [0], [1]], ["train", "test", "val"], ["a.jpg", "sub/../a.jpg", "b.jpg"]
    )
    with pytest.raises(DataError, match=r"row 3: .*in test, but in train by t\.csv, row 2"):
        assign_splits(records, DataConfig(), seed=0)


def test_a_limit_draws_pictures_of_every_split() -> None:
    splits = ["train"] * 30 + ["validation"] * 3 + ["test"] * 10 + ["test-night"] * 4
    records = records_of(long_tailed(47, 3), splits)
    few, notices = limit_splits(records, 4, seed=0)
    assert Counter(few.splits) == {"train": 4, "validation": 3, "test": 4, "test-night": 4}
    assert notices == (
        "train: 4 of 30 pictures drawn with seed 0, because of data.limit.",
        "test: 4 of 10 pictures drawn with seed 0, because of data.limit.",
    )
    # In their order, whole rows, the same for a seed and not for another.
    order = [records.paths.index(path) for path in few.paths]
    assert order == sorted(order)
    np.testing.assert_array_equal(few.targets, records.targets[order])
    assert limit_splits(records, 4, seed=0)[0].paths == few.paths
    assert limit_splits(records, 4, seed=1)[0].paths != few.paths
    assert limit_splits(records, None, seed=0) == (records, ())


def test_one_label_is_enough() -> None:
    targets = (np.arange(100)[:, None] < 20).astype(np.int8)
    records, _ = assign_splits(records_of(targets), DataConfig(), seed=0)
    positives = Counter(records.splits[:20])
    assert positives == {"train": 14, "validation": 2, "test": 4}


@pytest.mark.parametrize("n", [3, 4, 5, 8])
def test_few_pictures_still_make_three_splits(n: int) -> None:
    for seed in range(5):
        records, _ = assign_splits(records_of([[1, 0]] * n), DataConfig(), seed=seed)
        assert set(records.splits) == {"train", "validation", "test"}


def test_too_few_pictures_are_refused() -> None:
    with pytest.raises(DataError, match="Only 2 pictures"):
        assign_splits(records_of([[1], [0]]), DataConfig(), seed=0)


def test_nothing_to_train_on_is_refused() -> None:
    with pytest.raises(DataError, match="No picture is in the split train"):
        assign_splits(records_of([[1], [0]], ["val", "test"]), DataConfig(), seed=0)


def test_shares_that_leave_nothing_are_refused() -> None:
    config = DataConfig(validation_fraction=0.5, test_fraction=0.5)
    with pytest.raises(ConfigError, match="add up to 1"):
        assign_splits(records_of(long_tailed(10, 2)), config, seed=0)


@settings(max_examples=40, deadline=None)
@given(
    n=st.integers(3, 40),
    c=st.integers(1, 6),
    seed=st.integers(0, 2**62),
    share=st.floats(0.05, 0.45),
)
def test_stratify_fills_every_fold(n: int, c: int, seed: int, share: float) -> None:
    targets = np.random.default_rng(seed).integers(-1, 2, (n, c)).astype(np.int8)
    folds = stratify(targets, [1 - 2 * share, share, share], seed=seed)
    assert folds.shape == (n,)
    assert set(folds.tolist()) == {0, 1, 2}


@pytest.mark.dataset
def test_stratifies_the_shared_photographs(shared: Path) -> None:
    records = read_table(shared / "data" / "mirflickr" / "labels.csv", DataConfig())
    split, notices = assign_splits(records, DataConfig(test_split="val"), seed=0)
    counts = Counter(split.splits)
    assert counts["test"] == 1925
    assert abs(counts["validation"] - 807.5) < 10
    train, validation = (split.targets[split.indices(s)] for s in ("train", "validation"))
    share = validation.sum(axis=0) / (train.sum(axis=0) + validation.sum(axis=0))
    assert np.abs(share - 0.1).max() < 0.005
    assert f"validation: {counts['validation']:,} of 8,075" in notices[-1]
