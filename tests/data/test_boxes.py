from pathlib import Path

import numpy as np
import pytest

from cpsd.data.boxes import Box, read_boxes
from cpsd.data.records import Records
from cpsd.errors import DataError
from cpsd.labels import LabelSpace

HEADER = "image,label,left,top,right,bottom\n"


def records_in(folder: Path) -> Records:
    return Records(
        paths=("a/1.jpg", "2.jpg"),
        targets=np.array([[1, 1], [0, 1]], dtype=np.int8),
        labels=LabelSpace(("cat", "dog, small")),
        splits=("test", "test"),
        root=folder,
        origins=("row 2", "row 3"),
    )


def test_boxes_are_by_picture_and_label(tmp_path: Path) -> None:
    text = (
        HEADER
        + 'a/1.jpg,cat,1,2,3,4\na\\1.jpg, "dog, small" ,0,0,5.5,6\n2.jpg,"dog, small",-1,0,9,9\n'
        + "a/1.jpg,cat,5,6,7,8\nother.jpg,cat,1,2,3,4\n2.jpg,horse,1,2,3,4\n"
    ).replace(', "dog, small" ,', ',"dog, small ",')
    (tmp_path / "boxes.csv").write_text(text, encoding="utf-8-sig")
    assert read_boxes(records_in(tmp_path)) == {
        ("a/1.jpg", "cat"): [(1, 2, 3, 4), (5, 6, 7, 8)],
        ("a/1.jpg", "dog, small"): [(0, 0, 5.5, 6)],
        ("2.jpg", "dog, small"): [(-1, 0, 9, 9)],
    }


def test_data_without_boxes_have_none(tmp_path: Path) -> None:
    assert read_boxes(records_in(tmp_path)) == {}


def test_shares_are_cut_to_the_picture() -> None:
    assert Box(-5, 10, 50, 30).as_shares(40, 40) == (0, 0.25, 1, 0.75)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ("a/1.jpg,cat,1,2,3\n", r"boxes\.csv, row 2: 1, 2, 3,  is no box; four numbers"),
        ("2.jpg,cat,1,2,3,4\n2.jpg,cat,1,x,3,4\n", r"row 3: 1, x, 3, 4 is no box"),
        ("2.jpg,cat,1,2,inf,4\n", "four numbers are needed"),
        ("2.jpg,cat,3,2,3,4\n", "left must be less than right"),
        ("2.jpg,cat,1,9,3,4\n", "left must be less than right"),
        ('2.jpg,"cat,1,9,3,4\n', r"boxes\.csv cannot be read"),
    ],
)
def test_rows_that_are_no_boxes_are_named(tmp_path: Path, rows: str, message: str) -> None:
    (tmp_path / "boxes.csv").write_text(HEADER + rows, encoding="utf-8")
    with pytest.raises(DataError, match=message):
        read_boxes(records_in(tmp_path))


def test_a_missing_column_is_named(tmp_path: Path) -> None:
    (tmp_path / "boxes.csv").write_text("image,label,x,y\n", encoding="utf-8")
    with pytest.raises(DataError, match="has no column 'left'; it needs image, label, left"):
        read_boxes(records_in(tmp_path))
