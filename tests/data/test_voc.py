"""PASCAL VOC folders, small ones written here."""

from pathlib import Path
from typing import Literal

import pytest

from cpsd.config import DataConfig
from cpsd.data.rows import gather
from cpsd.data.voc import read_voc, voc_source
from cpsd.errors import DataError

OBJECTS = {
    "01": [("dog", 0), ("cat", 1)],
    "02": [("dog", 1), ("dog", 0), ("cat", 0)],
    "03": [("dog", 1)],
    "04": [],
}


def annotation(objects: list[tuple[str, int]]) -> str:
    inside = "".join(
        f"<object><name>{name}</name><difficult>{difficult}</difficult>"
        "<part><name>head</name></part></object>"
        for name, difficult in objects
    )
    return f"<annotation><filename>../../elsewhere.jpg</filename>{inside}</annotation>"


def write(folder: Path, lists: dict[str, list[str]]) -> Path:
    (folder / "ImageSets" / "Main").mkdir(parents=True, exist_ok=True)
    (folder / "Annotations").mkdir(exist_ok=True)
    for name, images in lists.items():
        text = "".join(f"{image}\n" for image in images)
        (folder / "ImageSets" / "Main" / f"{name}.txt").write_text(text)
    for image, objects in OBJECTS.items():
        (folder / "Annotations" / f"{image}.xml").write_text(annotation(objects))
    return folder


LISTS = {"train": ["01"], "val": ["02"], "trainval": ["01", "02"], "test": ["03", "04"]}


@pytest.mark.parametrize(
    ("difficult", "expected"),
    [
        ("present", [[1, 1], [1, 1], [0, 1], [0, 0]]),
        ("unknown", [[-1, 1], [1, 1], [0, -1], [0, 0]]),
        ("absent", [[0, 1], [1, 1], [0, 0], [0, 0]]),
    ],
)
def test_what_becomes_of_difficult_objects(
    tmp_path: Path, difficult: Literal["present", "unknown", "absent"], expected: list[list[int]]
) -> None:
    records = read_voc(write(tmp_path, LISTS), DataConfig(difficult=difficult))
    assert records.labels.names == ("cat", "dog")
    assert records.paths == tuple(f"JPEGImages/{image}.jpg" for image in OBJECTS)
    assert records.splits == ("train", "val", "test", "test")
    assert records.targets.tolist() == expected


def test_the_folder_may_be_given_from_above(tmp_path: Path) -> None:
    folder = write(tmp_path / "VOCdevkit" / "VOC2007", LISTS)
    for root in (tmp_path, tmp_path / "VOCdevkit", folder):
        assert len(read_voc(root, DataConfig())) == 4
        assert read_voc(root, DataConfig(year=2007)).root == folder
        with pytest.raises(DataError, match="2012"):
            read_voc(root, DataConfig(year=2012))
    write(tmp_path / "VOCdevkit" / "VOC2012", LISTS)
    with pytest.raises(DataError, match=r"set data\.year"):
        read_voc(tmp_path, DataConfig())


def test_trainval_alone_is_train(tmp_path: Path) -> None:
    records = read_voc(write(tmp_path, {"trainval": ["01 1", "02 -1"]}), DataConfig())
    assert records.splits == ("train", "train")
    assert records.origins == ("trainval.txt, line 1", "trainval.txt, line 2")


def test_folders_that_are_not_voc_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="There is no folder"):
        read_voc(tmp_path / "none", DataConfig())
    with pytest.raises(DataError, match=r"no ImageSets/Main/train\.txt"):
        read_voc(tmp_path, DataConfig())


@pytest.mark.parametrize(
    ("content", "named"),
    [
        (None, "no annotation Annotations/01.xml"),
        (b"<annotation><object>", "Annotations/01.xml is not XML"),
        (b"<annotation>\xff</annotation>", "not UTF-8 at byte 13"),
        (b"<annotation><object></object></annotation>", "object 1 has no name"),
        (
            b"<annotation><object><name>a</name><difficult>x</difficult></object></annotation>",
            "'x' for 'difficult'",
        ),
        (
            b'<!DOCTYPE a [<!ENTITY b "bbbb">]><annotation>&b;</annotation>',
            "has a document type",
        ),
        (
            '<?xml version="1.0" encoding="UTF-16"?><!DOCTYPE a><a/>'.encode("utf-16"),
            "not UTF-8",
        ),
    ],
)
def test_bad_annotations_are_named(tmp_path: Path, content: bytes | None, named: str) -> None:
    write(tmp_path, LISTS)
    path = tmp_path / "Annotations" / "01.xml"
    path.unlink() if content is None else path.write_bytes(content)
    gathered = gather(voc_source(tmp_path, DataConfig()))
    assert [problem.origin for problem in gathered.problems] == ["train.txt, line 1"]
    assert named in gathered.problems[0].detail
    assert gathered.num_rows == 4


def test_a_list_cannot_name_files_elsewhere(tmp_path: Path) -> None:
    write(tmp_path / "voc", {"train": ["../../secret", "01"]})
    with pytest.raises(DataError, match=r"train\.txt, line 1: .*bare name"):
        read_voc(tmp_path / "voc", DataConfig())
