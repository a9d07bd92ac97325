import csv
import itertools
import json
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from sklearn.datasets import load_digits

from cpsd.data.digits import CONTEXTS, LABELS, digit_pools, write_digits
from cpsd.errors import DataError, RunError

SIZES = {"train": 24, "validation": 6, "test": 8, "test_unseen": 8}
RECORDED_PIXELS = [[157, 138, 144], [173, 132, 166], [188, 134, 150]]


def read_table(table: Path) -> dict[str, list[list[str]]]:
    """Split -> the labels of each of its pictures, read without the package."""
    splits: dict[str, list[list[str]]] = {}
    with table.open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            splits.setdefault(row["split"], []).append(row["labels"].split("; "))
    return splits


def all_files(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


@pytest.fixture(scope="module")
def splits(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[list[str]]]:
    folder = tmp_path_factory.mktemp("digits") / "data"
    sizes = {"train": 800, "validation": 0, "test": 0, "test_unseen": 800}
    return read_table(write_digits(folder, seed=3, **sizes))


def mean_lift(pictures: list[list[str]]) -> dict[bool, float]:
    """How much oftener two labels meet than if they were independent, within and across contexts.

    Summed over the pairs of either kind: what is seen, over what independence would show.
    """
    count = dict.fromkeys(LABELS, 0)
    together = dict.fromkeys(itertools.combinations(LABELS, 2), 0)
    for labels in pictures:
        for label in labels:
            count[label] += 1
        for first, second in itertools.combinations(sorted(labels, key=LABELS.index), 2):
            together[first, second] += 1
    lift = {}
    for within in (True, False):
        pairs = [
            pair
            for pair in together
            if any(pair[0] in context and pair[1] in context for context in CONTEXTS) == within
        ]
        expected = sum(count[a] * count[b] / len(pictures) for a, b in pairs)
        lift[within] = sum(together[pair] for pair in pairs) / expected
    return lift


def test_labels_are_every_digit_in_every_ink_and_each_has_one_context() -> None:
    assert sorted(LABELS) == sorted(f"{ink} {d}" for ink in ("red", "blue") for d in range(10))
    assert sorted(name for context in CONTEXTS for name in context) == sorted(LABELS)


def test_folder_holds_the_pictures_the_table_names(tmp_path: Path) -> None:
    table = write_digits(tmp_path / "a" / "digits", seed=0, **SIZES)
    assert table == tmp_path / "a" / "digits" / "labels.csv"
    with table.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["image", "labels", "split"]
    sizes = {"train": 24, "validation": 6, "test": 8, "test-unseen": 8}
    assert {split: sum(r["split"] == split for r in rows) for split in sizes} == sizes
    named = {row["image"] for row in rows}
    assert named | {"labels.csv", "boxes.csv", "digits.json"} == set(all_files(table.parent))
    for row in rows:
        labels = row["labels"].split("; ")
        assert 2 <= len(labels) == len(set(labels)) <= 5
        assert set(labels) <= set(LABELS)
        with Image.open(table.parent / row["image"]) as picture:
            assert (picture.size, picture.mode) == ((48, 48), "RGB")
            assert np.asarray(picture).std() > 10  # something is on it
    assert [path.name for path in table.parent.parent.iterdir()] == ["digits"]  # nothing left over


def test_files_depend_on_the_seed_alone(tmp_path: Path) -> None:
    first, second, other = (
        all_files(write_digits(tmp_path / name, seed=seed, **SIZES).parent)
        for name, seed in (("first", 5), ("second", 5), ("other", 6))
    )
    assert first == second
    assert first["labels.csv"] != other["labels.csv"]
    assert first["images/train-00000.jpg"] != other["images/train-00000.jpg"]


def test_a_split_does_not_depend_on_the_size_of_another(tmp_path: Path) -> None:
    small = write_digits(tmp_path / "small", seed=5, **SIZES).parent
    large = write_digits(tmp_path / "large", seed=5, **{**SIZES, "train": 30}).parent
    for name in ("images/validation-00003.jpg", "images/test-unseen-00007.jpg"):
        assert (small / name).read_bytes() == (large / name).read_bytes()


def test_same_data_is_left_as_it_is(tmp_path: Path) -> None:
    table = write_digits(tmp_path / "digits", seed=0, **SIZES)
    picture = table.parent / "images" / "train-00000.jpg"
    picture.write_bytes(b"touched")
    assert write_digits(tmp_path / "digits", seed=0, **SIZES) == table
    assert picture.read_bytes() == b"touched"


def read_boxes_table(folder: Path) -> dict[tuple[str, str], tuple[int, int, int, int]]:
    with (folder / "boxes.csv").open(newline="", encoding="utf-8") as file:
        return {
            (row["image"], row["label"]): (
                int(row["left"]), int(row["top"]), int(row["right"]), int(row["bottom"])
            )
            for row in csv.DictReader(file)
        }  # fmt: skip


def test_every_label_has_its_box_in_the_picture(tmp_path: Path) -> None:
    table = write_digits(tmp_path / "digits", seed=0, **SIZES)
    boxes = read_boxes_table(table.parent)
    with table.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    pairs = [(row["image"], label) for row in rows for label in row["labels"].split("; ")]
    assert list(boxes) == pairs
    for left, top, right, bottom in boxes.values():
        assert 0 <= left < right <= 48
        assert 0 <= top < bottom <= 48
        assert 6 <= bottom - top <= 36
        assert 3 <= right - left <= 36


def test_boxes_hold_the_ink_of_their_labels(tmp_path: Path) -> None:
    folder = write_digits(tmp_path / "digits", seed=0, **SIZES).parent
    redder = {"red": list[float](), "blue": list[float]()}
    boxes = read_boxes_table(folder)
    for (image, label), (left, top, right, bottom) in boxes.items():
        with Image.open(folder / image) as picture:
            pixels = np.asarray(picture).astype(np.float64)
        red_less_blue = pixels[..., 0] - pixels[..., 2]
        alone = sum(name == image for name, _ in boxes) == 2  # company blurs what is measured
        if alone:
            inside = red_less_blue[top:bottom, left:right].mean()
            redder[label.split()[0]].append(inside - np.median(red_less_blue))
    assert min(len(values) for values in redder.values()) >= 10
    assert np.mean(np.array(redder["red"]) > 5) > 0.9
    assert np.mean(np.array(redder["blue"]) < -5) > 0.9


def test_a_folder_from_before_there_were_boxes_gets_them(tmp_path: Path) -> None:
    folder = write_digits(tmp_path / "digits", seed=0, **SIZES).parent
    before = all_files(folder)
    (folder / "boxes.csv").unlink()
    (folder / "images" / "train-00000.jpg").write_bytes(b"touched")
    write_digits(folder, seed=0, **SIZES)
    assert all_files(folder) == {**before, "images/train-00000.jpg": b"touched"}


def test_pictures_are_those_of_before_there_were_boxes(tmp_path: Path) -> None:
    # Recorded with the release before; a change of Pillow's encoder shows here too.
    folder = write_digits(tmp_path / "digits", seed=0, **SIZES).parent
    with Image.open(folder / "images" / "test-00003.jpg") as picture:
        rows = np.asarray(picture)[[4, 24, 40], [7, 20, 33]]
    np.testing.assert_allclose(rows, RECORDED_PIXELS, atol=3)


def test_an_empty_folder_is_used(tmp_path: Path) -> None:
    (tmp_path / "digits").mkdir()
    assert write_digits(tmp_path / "digits", seed=0, **SIZES).is_file()


@pytest.mark.parametrize("mark", [None, "not JSON", "[]", json.dumps({"data": "digits"})])
def test_a_folder_with_something_else_is_refused_untouched(
    tmp_path: Path, mark: str | None
) -> None:
    (tmp_path / "holiday.jpg").write_bytes(b"precious")
    if mark is not None:
        (tmp_path / "digits.json").write_text(mark, encoding="utf-8")
    before = all_files(tmp_path)
    with pytest.raises(DataError, match=r"holds .*; name a new or an empty folder") as caught:
        write_digits(tmp_path, seed=0, **SIZES)
    assert str(tmp_path) in str(caught.value)
    assert all_files(tmp_path) == before


def test_digits_of_another_seed_are_not_overwritten(tmp_path: Path) -> None:
    before = all_files(write_digits(tmp_path / "digits", seed=0, **SIZES).parent)
    with pytest.raises(DataError, match="another seed or other sizes"):
        write_digits(tmp_path / "digits", seed=1, **SIZES)
    assert all_files(tmp_path / "digits") == before


def test_a_file_in_the_folders_place_is_refused(tmp_path: Path) -> None:
    (tmp_path / "digits").write_text("notes", encoding="utf-8")
    with pytest.raises(DataError, match="is a file"):
        write_digits(tmp_path / "digits", seed=0, **SIZES)


def test_a_negative_size_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="'validation' of the digits has size -1"):
        write_digits(tmp_path / "digits", seed=0, validation=-1)
    assert not list(tmp_path.iterdir())


def test_nothing_is_left_behind_when_writing_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(self: Image.Image, *args: object, **kwargs: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Image.Image, "save", full)
    with pytest.raises(RunError, match=r"Cannot write .*digits: the disk is full\."):
        write_digits(tmp_path / "digits", seed=0, **SIZES)
    assert not list(tmp_path.iterdir())


def test_handwritten_digits_of_the_splits_are_disjoint_and_of_their_kind() -> None:
    target: NDArray[np.int64] = load_digits().target
    pools = digit_pools(7)
    everything = [int(s) for pool in pools.values() for samples in pool for s in samples]
    assert sorted(everything) == list(range(1797))  # each sample in exactly one pool
    for pool in pools.values():
        for digit, samples in enumerate(pool):
            assert len(samples) >= 20
            assert set(target[samples]) == {digit}


def test_labels_keep_company_in_train_but_not_in_test_unseen(
    splits: dict[str, list[list[str]]],
) -> None:
    train, unseen = mean_lift(splits["train"]), mean_lift(splits["test-unseen"])
    assert train[True] > 2 > 0.8 > train[False]
    assert 0.8 < unseen[True] < 1.1  # below one: no label stands twice in a picture
    assert 0.8 < unseen[False] < 1.1


def test_labels_are_long_tailed_and_as_frequent_in_test_unseen(
    splits: dict[str, list[list[str]]],
) -> None:
    train, unseen = (
        np.array([sum(label in labels for labels in splits[split]) for label in LABELS])
        for split in ("train", "test-unseen")
    )
    assert train.max() > 3 * train.min() > 0
    assert unseen.min() > 0
    assert np.corrcoef(train, unseen)[0, 1] > 0.9
    mean_labels = [sum(map(len, splits[s])) / 800 for s in ("train", "test-unseen")]
    assert mean_labels == pytest.approx([3.0, 3.0], abs=0.15)
