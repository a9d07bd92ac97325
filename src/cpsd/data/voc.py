"""PASCAL VOC: XML annotations and lists of pictures.

::

    ROOT/ImageSets/Main/{train,val,trainval,test}.txt    ROOT/Annotations/ID.xml
    ROOT/JPEGImages/ID.jpg

``ROOT`` is a folder such as ``VOC2007``, or one that holds it (``VOCdevkit``, or its parent). The
splits are ``train``, ``val`` and ``test``; what only ``trainval`` names is in ``train``. A label is
present when the picture has an object of it; ``config.difficult`` says what an object marked
'difficult' makes of its label where no other object of it is there.
"""

import xml.etree.ElementTree as ET
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from cpsd.config import DataConfig
from cpsd.data.index_files import require_inside
from cpsd.data.records import Records
from cpsd.data.rows import Fault, Row, Source, read_label_list, read_strictly
from cpsd.errors import DataError

YEARS = (2007, 2012)
LISTS = Path("ImageSets") / "Main"

# In this order: what 'train' and 'val' name is not taken a second time from 'trainval'.
_SPLITS = {"train": "train", "val": "val", "trainval": "train", "test": "test"}

Difficult = Literal["present", "unknown", "absent"]


def read_voc(root: str | Path, config: DataConfig) -> Records:
    """Return the records of a PASCAL VOC folder.

    Raises:
        DataError: not such a folder, two years and none chosen, or a file that is not as it should
            be.
    """
    return read_strictly(voc_source(root, config), read_label_list(config.label_list))


def voc_source(root: str | Path, config: DataConfig) -> Source:
    """Return a PASCAL VOC folder as a source of rows; the annotations are read row by row.

    Raises:
        DataError: not such a folder, or two years and none chosen.
    """
    folder = _folder(Path(root), config.year)

    def rows() -> Iterator[Row]:
        in_train_or_val: set[str] = set()
        for name, split in _SPLITS.items():
            path = folder / LISTS / f"{name}.txt"
            if not path.is_file():
                continue
            require_inside(path, folder, config)
            for number, image in _listed(path):
                if name == "trainval" and image in in_train_or_val:
                    continue
                in_train_or_val.add(image)
                yield _row(folder, image, f"{path.name}, line {number}", split, config)

    return Source(str(folder), folder, rows())


def _folder(root: Path, year: int | None) -> Path:
    if not root.is_dir():
        raise DataError(f"There is no folder {root}; set data.root to the VOC folder.")
    if any((root / LISTS / f"{name}.txt").is_file() for name in _SPLITS):
        if year is not None and root.name != f"VOC{year}" and root.name.startswith("VOC2"):
            raise DataError(f"data.root is {root}, but data.year is {year}; change one of them.")
        return root
    parents = (root, root / "VOCdevkit")
    years = YEARS if year is None else (year,)
    found = [p / f"VOC{y}" for p in parents for y in years if (p / f"VOC{y}" / LISTS).is_dir()]
    if len(found) > 1:
        raise DataError(f"{found[0]} and {found[1]} are there; set data.year to one of {YEARS}.")
    if not found:
        wanted = f"VOC{year or YEARS[0]}/{LISTS.as_posix()}"
        raise DataError(f"{root} has no {LISTS.as_posix()}/train.txt, nor {wanted}; set data.root.")
    return found[0]


def _listed(path: Path) -> Iterator[tuple[int, str]]:
    try:
        with path.open(encoding="utf-8") as stream:
            for number, line in enumerate(stream, start=1):
                if line.strip():
                    yield number, line.split()[0]
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8; it should hold a picture's name a line.") from error
    except OSError as error:
        raise DataError(f"Cannot read {path}: {error.strerror}.") from error


def _row(folder: Path, image: str, origin: str, split: str, config: DataConfig) -> Row:
    if "/" in image or "\\" in image or "\0" in image:
        # A list may name pictures of this data set only, not files elsewhere.
        detail = f"names '{image}', which is not the bare name of a picture."
        return Row("", origin, split, faults=(Fault("row", detail),))
    row = Row(f"JPEGImages/{image}.jpg", origin, split)
    path = folder / "Annotations" / f"{image}.xml"
    try:
        require_inside(path, folder, config)
        plain, marked = _objects(path)
    except DataError as error:
        return row._replace(faults=(Fault("row", str(error)),))
    marked -= plain
    difficult: Difficult = config.difficult
    if difficult == "present":
        return row._replace(present=sorted(plain | marked))
    return row._replace(
        present=sorted(plain),
        unknown=sorted(marked) if difficult == "unknown" else (),
        absent=sorted(marked) if difficult == "absent" else (),
    )


def _objects(path: Path) -> tuple[set[str], set[str]]:
    """Return the labels of the objects of an annotation: plain ones, and difficult ones."""
    name = f"Annotations/{path.name}"
    try:
        text = path.read_text(encoding="utf-8")
        if "<!DOCTYPE" in text or "<!ENTITY" in text:
            # Entities are how XML grows without bound or reads other files; VOC has none.
            raise DataError(f"{name} has a document type; remove it.")
        # Text, not bytes: the parser then reads what was looked at, whatever the file declares.
        root = ET.fromstring(text)
    except FileNotFoundError as error:
        raise DataError(f"there is no annotation {name}.") from error
    except OSError as error:
        raise DataError(f"cannot read {name}: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{name} is not UTF-8 at byte {error.start + 1}.") from error
    except ET.ParseError as error:
        raise DataError(f"{name} is not XML ({error}).") from error
    plain: set[str] = set()
    marked: set[str] = set()
    for number, entry in enumerate(root.findall("object"), start=1):
        label = (entry.findtext("name") or "").strip()
        if not label:
            raise DataError(f"{name}, object {number} has no name.")
        mark = (entry.findtext("difficult") or "0").strip()
        if mark not in ("0", "1"):
            raise DataError(f"{name}, object {number} has '{mark}' for 'difficult', not 0 or 1.")
        (marked if mark == "1" else plain).add(label)
    return plain, marked
