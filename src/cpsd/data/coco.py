"""COCO: instances JSON of the 2014 and 2017 folders.

::

    ROOT/annotations/instances_train2014.json    ROOT/train2014/*.jpg
    ROOT/annotations/instances_val2014.json      ROOT/val2014/*.jpg

Pictures may lie in ``ROOT/images/train2014`` too. A label is present when the picture has an
annotation of its category, a crowd as much as a single object. A picture without annotations stays,
with every label absent. The splits are ``train`` and ``val``.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cpsd.config import DataConfig
from cpsd.data.index_files import require_inside
from cpsd.data.records import Records
from cpsd.data.rows import Fault, Row, Source, read_label_list, read_strictly
from cpsd.errors import DataError

YEARS = (2014, 2017)
SPLITS = ("train", "val")

# An instances file is mostly polygons; what is not kept is dropped while the file is parsed.
_KEPT = frozenset(
    {"images", "annotations", "categories", "id", "name", "file_name", "image_id", "category_id"}
)


def read_coco(root: str | Path, config: DataConfig) -> Records:
    """Return the records of a COCO folder.

    Raises:
        DataError: no instances file, two years and none chosen, or a file that is not as it should
            be.
    """
    return read_strictly(coco_source(root, config), read_label_list(config.label_list))


def coco_source(root: str | Path, config: DataConfig) -> Source:
    """Return a COCO folder as a source of rows.

    Raises:
        DataError: no instances file, two years and none chosen, or a file that is no JSON.
    """
    root = Path(root)
    year = _year(root, config.year)
    files = [(split, _instances_file(root, split, year)) for split in SPLITS]
    files = [(split, path) for split, path in files if path.is_file()]
    for _, path in files:
        require_inside(path, root, config)
    parsed = [(split, path, _parse(path)) for split, path in files]
    categories = [_categories(path, content) for _, path, content in parsed]
    if any(c != categories[0] for c in categories):
        raise DataError(f"{parsed[0][1]} and {parsed[1][1]} do not have the same categories.")

    def rows() -> Iterator[Row]:
        for split, path, content in parsed:
            folder = f"{split}{year}"
            if not (root / folder).is_dir() and (root / "images" / folder).is_dir():
                folder = f"images/{folder}"
            yield from _rows(path.name, content, categories[0], split=split, folder=folder)

    return Source(str(root), root, rows(), tuple(categories[0].values()))


def _instances_file(root: Path, split: str, year: int) -> Path:
    return root / "annotations" / f"instances_{split}{year}.json"


def _year(root: Path, year: int | None) -> int:
    if not root.is_dir():
        raise DataError(f"There is no folder {root}; set data.root to the COCO folder.")
    years = [y for y in YEARS if any(_instances_file(root, split, y).is_file() for split in SPLITS)]
    if year is not None and year not in years:
        found = f"; there is one of {years[0]}" if years else ""
        raise DataError(f"{root} has no annotations/instances_train{year}.json or val{found}.")
    if year is None and len(years) > 1:
        raise DataError(f"{root} holds COCO {years[0]} and {years[1]}; set data.year to one.")
    if not years:
        raise DataError(
            f"{root} has no annotations/instances_train2014.json, nor that of val or 2017; "
            "set data.root to the COCO folder."
        )
    return year or years[0]


def _keep(entry: dict[str, Any]) -> dict[str, Any]:
    return {key: entry[key] for key in entry if key in _KEPT}


def _parse(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as stream:
            content = json.load(stream, object_hook=_keep)
    except OSError as error:
        raise DataError(f"Cannot read {path}: {error.strerror}.") from error
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path} is not JSON ({error}); is the download complete?") from error
    for key in ("images", "annotations", "categories"):
        listed = content.get(key) if isinstance(content, dict) else None
        if not isinstance(listed, list) or not all(isinstance(entry, dict) for entry in listed):
            raise DataError(f"{path} has no list '{key}'; it is not a COCO instances file.")
    assert isinstance(content, dict), "it has lists"
    return content


def _categories(path: Path, content: dict[str, Any]) -> dict[int, str]:
    categories: dict[int, str] = {}
    for number, entry in enumerate(content["categories"], start=1):
        key, name = entry.get("id"), entry.get("name")
        if not isinstance(key, int) or not isinstance(name, str) or not name.strip():
            raise DataError(f"{path}, category {number} needs a number 'id' and a 'name'.")
        if key in categories or name.strip() in categories.values():
            raise DataError(f"{path} has the category {key} '{name}' twice.")
        categories[key] = name.strip()
    if not categories:
        raise DataError(f"{path} has no categories; there is no label to learn.")
    return categories


def _rows(
    file: str, content: dict[str, Any], categories: dict[int, str], *, split: str, folder: str
) -> Iterator[Row]:
    present: dict[Any, dict[str, None]] = {}
    for number, entry in enumerate(content["images"], start=1):
        key = entry.get("id")
        if not isinstance(key, int) or key in present:
            detail = f"has the 'id' {key!r}, which is no number or stands twice."
            yield Row("", f"{file}, image {number}", faults=(Fault("row", detail),))
        else:
            present[key] = {}
    for number, entry in enumerate(content["annotations"], start=1):
        key, category = entry.get("image_id"), entry.get("category_id")
        if not isinstance(key, int) or key not in present:
            fault = Fault("row", f"is of image {key!r}, which is not among the images.")
        elif not isinstance(category, int) or category not in categories:
            fault = Fault("row", f"is of category {category!r}, which is not among the categories.")
        else:
            present[key][categories[category]] = None
            continue
        yield Row("", f"{file}, annotation {number}", faults=(fault,))
    for number, entry in enumerate(content["images"], start=1):
        key, name = entry.get("id"), entry.get("file_name")
        origin = f"{file}, image {number}"
        labels = present.pop(key, None) if isinstance(key, int) else None
        if labels is None:
            continue  # reported above
        if not isinstance(name, str) or not name or "\0" in name:
            yield Row("", origin, faults=(Fault("row", "has no 'file_name'."),))
        else:
            yield Row(f"{folder}/{name}", origin, split, present=tuple(labels))
