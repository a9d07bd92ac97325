"""Where labels lie in the pictures, for data that say it: ``boxes.csv`` beside the table.

    image, label, left, top, right, bottom      pixels of the picture; right and bottom are one
                                                past the last

A label may have several boxes in a picture, each in a row of its own. Nothing is learned from
them: they tell whether a predictor looks where the label is (``cpsd.explain.pointing``).
"""

import csv
import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from cpsd.data.records import Records
from cpsd.errors import DataError

BOXES_FILE = "boxes.csv"
BOX_COLUMNS = ("image", "label", "left", "top", "right", "bottom")

Pair = tuple[str, str]
"""A picture as the records name it, and a label."""


class Box(NamedTuple):
    """Where something lies in a picture; right and bottom are one past the last pixel."""

    left: float
    top: float
    right: float
    bottom: float

    def as_shares(self, width: int, height: int) -> "Box":
        """Return the box in shares of a picture of ``width`` x ``height`` pixels, cut to it.

        Example:
            >>> Box(10, 0, 30, 60).as_shares(40, 50)
            Box(left=0.25, top=0.0, right=0.75, bottom=1.0)
        """
        sides = (self.left / width, self.top / height, self.right / width, self.bottom / height)
        return Box(*(min(max(side, 0.0), 1.0) for side in sides))


def read_boxes(records: Records) -> dict[Pair, list[Box]]:
    """Return the boxes of the records' pictures and labels; none where there is no such file.

    Rows of other pictures and other labels are passed over: a run may read a part of its data.

    Raises:
        DataError: the file cannot be read, lacks a column, or a row is no box.
    """
    path = records.root / BOXES_FILE
    if not path.is_file():
        return {}
    pictures, boxes = set(records.paths), dict[Pair, list[Box]]()
    try:
        with path.open(newline="", encoding="utf-8-sig", errors="surrogateescape") as file:
            table = csv.DictReader(file, strict=True)
            if missing := [c for c in BOX_COLUMNS if c not in (table.fieldnames or ())]:
                raise DataError(
                    f"{path} has no column '{missing[0]}'; it needs {', '.join(BOX_COLUMNS)}."
                )
            for number, row in enumerate(table, start=2):
                pair = (_cell(row, "image").replace("\\", "/"), _cell(row, "label"))
                if pair[0] in pictures and pair[1] in records.labels:
                    boxes.setdefault(pair, []).append(_box(row, f"{path}, row {number}"))
    except (OSError, csv.Error) as error:
        raise DataError(f"{path} cannot be read ({error}).") from error
    return boxes


def _cell(row: Mapping[str, str | None], column: str) -> str:
    return (row[column] or "").strip()


def _box(row: Mapping[str, str | None], place: str) -> Box:
    cells: Sequence[str] = [_cell(row, column) for column in BOX_COLUMNS[2:]]
    try:
        box = Box(*map(float, cells))
    except ValueError:
        box = None
    if box is None or not all(map(math.isfinite, box)):
        raise DataError(
            f"{place}: {', '.join(cells)} is no box; four numbers are needed, in pixels."
        )
    if box.left >= box.right or box.top >= box.bottom:
        raise DataError(
            f"{place}: {', '.join(cells)} is no box; left must be less than right and top than "
            "bottom."
        )
    return box
