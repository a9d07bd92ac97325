"""A tiny data set in any of the formats, made of the embedded digits, for smoke runs.

A smoke run is to exercise the reader of its recipe too, so the pictures and labels of
`cpsd.data.digits` are laid out here as COCO, PASCAL VOC and NUS-WIDE are.
"""

import csv
import json
import shutil
import tempfile
import xml.etree.ElementTree as ET
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from cpsd.config import DataConfig, DataFormat
from cpsd.data.digits import LABELS, write_digits
from cpsd.data.records import TEST, TRAIN, VALIDATION
from cpsd.errors import DataError

SIZES = {TRAIN: 16, VALIDATION: 8, TEST: 8}
"""Pictures in each split; a format without validation has these in train."""

_MARK_NAME = "smoke-data.json"
_TABLE_NAME = "labels.csv"
_SEED = 0


class _Picture(NamedTuple):
    file: Path
    labels: tuple[str, ...]
    split: str


def write_smoke_data(folder: Path, data: DataConfig) -> DataConfig:
    """Write a tiny data set of the format ``data.format`` into ``folder``.

    The files are the same every time; a folder written by an earlier call is written again.

    Args:
        folder: absent, empty, or written by an earlier call.
        data: its format, year and what it says of splits are taken over.

    Returns:
        What reads the folder.

    Raises:
        DataError: the folder holds something else.
    """
    mark = folder / _MARK_NAME
    if folder.exists() and not mark.is_file() and (folder.is_file() or any(folder.iterdir())):
        raise DataError(f"{folder} is needed for made-up data, but holds other files; remove it.")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    # First, so that a folder that was left half written is known as one of ours.
    mark.write_text(json.dumps({"data": "smoke", "format": data.format}), encoding="utf-8")
    read_by = DataConfig(
        format=data.format,
        root=str(folder),
        year=data.year,
        validation_fraction=data.validation_fraction,
        test_fraction=data.test_fraction,
        limit=data.limit,
        without_positive=data.without_positive,
        difficult=data.difficult,
    )
    with tempfile.TemporaryDirectory(prefix="cpsd-") as name:
        _WRITERS[data.format](folder, _digits(Path(name) / "digits"), data.year)
    if data.format == "table":
        return replace(read_by, table=str(folder / _TABLE_NAME))
    return replace(read_by, test_split=data.test_split)


def _digits(folder: Path) -> list[_Picture]:
    """Return pictures of digits, written into ``folder``."""
    table = write_digits(
        folder, seed=_SEED, train=SIZES[TRAIN], validation=SIZES[VALIDATION], test=SIZES[TEST],
        test_unseen=0,
    )  # fmt: skip
    with table.open(encoding="utf-8", newline="") as file:
        return [
            _Picture(folder / row["image"], tuple(row["labels"].split("; ")), row["split"])
            for row in csv.DictReader(file)
        ]


def _write_table(folder: Path, pictures: Sequence[_Picture], year: int | None) -> None:
    _copy(pictures, folder / "images")
    with (folder / _TABLE_NAME).open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(["image", "labels", "split"])
        for picture in pictures:
            row = [f"images/{picture.file.name}", "; ".join(picture.labels), picture.split]
            table.writerow(row)


def _write_coco(folder: Path, pictures: Sequence[_Picture], year: int | None) -> None:
    categories = [{"id": i, "name": label} for i, label in enumerate(LABELS, start=1)]
    number = {category["name"]: category["id"] for category in categories}
    (folder / "annotations").mkdir()
    for split, those in _in_two(pictures, "train", "val").items():
        name = f"{split}{year or 2014}"
        _copy(those, folder / name)
        content = {
            "images": [{"id": i, "file_name": p.file.name} for i, p in enumerate(those)],
            "annotations": [
                {"id": 100 * i + j, "image_id": i, "category_id": number[label]}
                for i, picture in enumerate(those)
                for j, label in enumerate(picture.labels)
            ],
            "categories": categories,
        }
        path = folder / "annotations" / f"instances_{name}.json"
        path.write_text(json.dumps(content), encoding="utf-8")


def _write_voc(folder: Path, pictures: Sequence[_Picture], year: int | None) -> None:
    lists = folder / f"VOC{year or 2007}" / "ImageSets" / "Main"
    annotations = lists.parents[1] / "Annotations"
    lists.mkdir(parents=True)
    annotations.mkdir()
    _copy(pictures, lists.parents[1] / "JPEGImages")
    for split, name in {TRAIN: "train", VALIDATION: "val", TEST: "test"}.items():
        names = [picture.file.stem for picture in pictures if picture.split == split]
        (lists / f"{name}.txt").write_text("".join(f"{n}\n" for n in names), encoding="utf-8")
    for picture in pictures:
        annotation = ET.Element("annotation")
        for label in picture.labels:
            entry = ET.SubElement(annotation, "object")
            ET.SubElement(entry, "name").text = label
            ET.SubElement(entry, "difficult").text = "0"
        ET.ElementTree(annotation).write(annotations / f"{picture.file.stem}.xml")


def _write_nuswide(folder: Path, pictures: Sequence[_Picture], year: int | None) -> None:
    for name in ("ImageList", "TrainTestLabels"):
        (folder / name).mkdir()
    _write_lines(folder / "Concepts81.txt", LABELS)
    for split, those in _in_two(pictures, "Train", "Test").items():
        _copy(those, folder / "Flickr" / "digits")
        names = [f"digits\\{picture.file.name}" for picture in those]
        _write_lines(folder / "ImageList" / f"{split}Imagelist.txt", names)
        for label in LABELS:
            values = [str(int(label in picture.labels)) for picture in those]
            _write_lines(folder / "TrainTestLabels" / f"Labels_{label}_{split}.txt", values)


_WRITERS: dict[DataFormat, Callable[[Path, Sequence[_Picture], int | None], None]] = {
    "table": _write_table,
    "coco": _write_coco,
    "voc": _write_voc,
    "nus-wide": _write_nuswide,
}


def _in_two(pictures: Sequence[_Picture], train: str, test: str) -> dict[str, list[_Picture]]:
    """Return the pictures of test and all others, under the names of a format."""
    return {
        train: [picture for picture in pictures if picture.split != TEST],
        test: [picture for picture in pictures if picture.split == TEST],
    }


def _copy(pictures: Sequence[_Picture], folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for picture in pictures:
        shutil.copyfile(picture.file, folder / picture.file.name)


def _write_lines(path: Path, lines: Sequence[str]) -> None:
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
