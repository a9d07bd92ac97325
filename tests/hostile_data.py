"""Readers of data, with sound files to mangle: pictures, tables, COCO, VOC, NUS-WIDE, packs."""

import contextlib
import io
import json
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from cpsd.config import DataConfig
from cpsd.data.bad_pictures import PictureCheck, without_bad_pictures
from cpsd.data.check import check_data
from cpsd.data.images import content_hash, read_image
from cpsd.data.pack import open_pack
from cpsd.data.pack_writing import write_pack
from cpsd.data.pixels import read_pixels
from cpsd.data.records import Records
from cpsd.errors import UserError
from cpsd.labels import LabelSpace

LABELS = LabelSpace(("ant", "bee", "cow"))
SIZE = 8
PICTURES: tuple[tuple[str, dict[str, Any]], ...] = (
    ("PNG", {}),
    ("JPEG", {"quality": 80}),
    ("GIF", {"mode": "P"}),
    ("TIFF", {"compression": "tiff_lzw"}),
    ("WEBP", {"lossless": True}),
    ("BMP", {}),
    ("PPM", {}),
)


def picture(kind: str, mode: str = "RGB", **options: Any) -> bytes:
    """Return a small picture as a file of a kind."""
    y, x = np.mgrid[0:12, 0:16]
    pixels = np.stack([16 * x, 20 * y, 8 * (x + y)], axis=-1).astype(np.uint8)
    stream = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(stream, kind, **options)
    return stream.getvalue()


def lay_pictures(folder: Path) -> None:
    """Lay pictures where the tables and data sets below say that they are."""
    for name in ("a.png", "b.png", "c.png"):
        for parent in ("", "train2014", "JPEGImages", "Flickr"):
            place = folder / parent / (name if parent != "JPEGImages" else f"{name[0]}.jpg")
            place.parent.mkdir(exist_ok=True)
            place.write_bytes(picture("PNG"))


def read_pictures(folder: Path) -> object:
    path = folder / "a.png"
    results: list[object] = []
    for read in (read_image, content_hash, lambda p: read_pixels(p, SIZE)):
        try:
            results.append(read(path))
        except UserError as error:
            results.append(error)
    return results


def text(*lines: str) -> bytes:
    return "\n".join(lines).encode()


def as_json(value: object) -> bytes:
    return json.dumps(value).encode()


CSV = (
    text("image,labels,split", "a.png,ant; bee,train", "b.png,?cow,val", "c.png,,test"),
    text("image,ant,bee,unknown", "a.png,1,0,bee", "b.png,?,-1,", "c.png,true,absent,*"),
    text("\ufeffimage,labels\r", '"a.png","ant; ""bee"""\r', "../b.png,=cmd()\r", "/etc/x,nan"),
)
JSON_LINES = (
    text(
        as_json({"image": "a.png", "labels": ["ant"], "split": "train"}).decode(),
        as_json({"image": "b.png", "labels": {"ant": 1, "bee": None}, "unknown": "cow"}).decode(),
        as_json({"image": "c.png", "labels": None, "split": "test-night"}).decode(),
    ),
)
INSTANCES = {
    "images": [{"id": i, "file_name": f"{name}.png"} for i, name in enumerate("abc")],
    "annotations": [{"id": 1, "image_id": 0, "category_id": 3, "bbox": [0, 0, 2, 2]}],
    "categories": [{"id": 3, "name": "ant"}, {"id": 4, "name": "bee"}],
}
ANNOTATION = text(
    "<annotation><filename>a.jpg</filename>",
    "<object><name>ant</name><difficult>0</difficult></object>",
    "<object><name>bee</name><difficult>1</difficult></object></annotation>",
)


def data(**settings: Any) -> Callable[[Path], object]:
    """Return what checks a data set in all ways: rows, splits, pictures."""

    def read(folder: Path) -> object:
        settled: dict[str, Any] = {
            key: str(folder / value) if key in ("table", "root", "label_list") else value
            for key, value in settings.items()
        }
        return check_data(DataConfig(**settled), seed=0)

    return read


def lay_voc(folder: Path) -> None:
    lay_pictures(folder)
    for name in ("ImageSets/Main", "Annotations"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    (folder / "ImageSets/Main/train.txt").write_text("a\nb\nc\n")
    for name in "abc":
        (folder / f"Annotations/{name}.xml").write_bytes(ANNOTATION)


def lay_nuswide(folder: Path) -> None:
    lay_pictures(folder)
    for name in ("ImageList", "TrainTestLabels"):
        (folder / name).mkdir(exist_ok=True)
    for part in ("Train", "Test"):
        (folder / f"ImageList/{part}Imagelist.txt").write_text("a.png\nb.png\n")
        for label in LABELS:
            (folder / f"TrainTestLabels/Labels_{label}_{part}.txt").write_text("0\n1\n")
    (folder / "Concepts81.txt").write_text("\n".join(LABELS))


def some_records(folder: Path) -> Records:
    return Records(
        paths=("a.png", "b.png", "c.png"),
        targets=np.eye(3, dtype=np.int8),
        labels=LABELS,
        splits=("train", "validation", "test"),
        root=folder,
        origins=("row 2", "row 3", "row 4"),
    )


def lay_pack(folder: Path) -> None:
    lay_pictures(folder)
    write_pack(folder / "pack", some_records(folder), SIZE)


def read_pack(folder: Path) -> object:
    packed = open_pack(folder / "pack", some_records(folder))
    return [packed(row) for row in range(3)]


MEMORY = "pictures.npz"


def read_memory(folder: Path) -> object:
    check = PictureCheck(
        lambda records: lambda row: read_image(records.image_path(row)), memory=folder / MEMORY
    )
    skipping = DataConfig(on_bad_image="skip")
    return without_bad_pictures(some_records(folder), skipping, check)


@cache
def memory() -> bytes:
    with tempfile.TemporaryDirectory() as place:
        lay_pictures(Path(place))
        (Path(place) / "b.png").write_bytes(b"")
        with contextlib.suppress(UserError):
            read_memory(Path(place))
        return (Path(place) / MEMORY).read_bytes()
