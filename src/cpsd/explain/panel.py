"""The panel: a picture as baseline, teacher ensembles and student see it, label by label.

As in the paper's figure: a row a label, a column a predictor, its map over the picture and its
probability below.
"""

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cpsd.data.boxes import Box
from cpsd.explain.maps import Maps
from cpsd.explain.overlay import colours_of, fitted, nothing_to_compare, overlay
from cpsd.explain.pixel_page import INK, PixelPage, printable, shortened
from cpsd.labels import ABSENT, PRESENT, UNKNOWN

TARGET_NAMES = {PRESENT: "present", ABSENT: "absent", UNKNOWN: "not known"}

_SIDE = 240  # of a cell's longer side, in pixels as everything here
_NAMES = (150, 262)  # least and largest width of the column with the labels
_LETTER = 13.5  # mean width of a label's letters
_GAP, _MARGIN = 18, 28
_HEADER, _ABOVE_FOOTER = 112, 34
_SCALE = (220, 14)  # width and height of the colours in the footer
_BESIDE_SCALE = 34
_TITLE_LETTER = 15.5
_LINE = 22  # of the note
_NOTE_LETTER = 9.2  # mean width of its letters, with room to spare
_BELOW = 52  # a cell: its probability
_LEAST_ROW = 78  # three lines of a label and its target
_BAR = 10
_QUIET, _TRACK, _FILL = "#5c5c5c", "#dcdcdc", "#3b6ea8"
_LINE_LENGTH = 17


@dataclass(frozen=True)
class PanelRow:
    """A label of the panel.

    Args:
        label: its name.
        target: 1 present, 0 absent, -1 unknown; None where nothing is to be said of it.
        boxes: where the label is, in shares of the picture, as far as it is known.
    """

    label: str
    target: int | None = None
    boxes: Sequence[Box] = ()


@dataclass(frozen=True)
class PanelColumn:
    """A predictor of the panel.

    Args:
        name: its heading.
        probabilities: ``(L,)`` of each row's label.
        maps: ``(L, h, w)``.
        thresholds: ``(L,)``, or one for all: from which probability each label is predicted.
    """

    name: str
    probabilities: NDArray[np.float64]
    maps: Maps
    thresholds: NDArray[np.float64] | float = 0.5


@dataclass(frozen=True)
class PanelLayout:
    """Where the cells of a panel lie, in pixels.

    Args:
        num_rows: of labels.
        num_columns: the picture's own and those of predictors.
        cell: width and height of a picture in it.
        names: width of the column with the labels.
        note: how the maps were made, for the footer.
    """

    num_rows: int
    num_columns: int
    cell: tuple[int, int]
    names: int
    note: str

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of the panel."""
        footer = _ABOVE_FOOTER + max(_LINE * len(self.note_lines), 44) + _MARGIN
        return self.width, self.bottom + footer

    @property
    def width(self) -> int:
        """Width of the panel."""
        return 2 * _MARGIN + self.names + self.num_columns * (_SIDE + _GAP) - _GAP

    @property
    def bottom(self) -> int:
        """Where the rows end."""
        return _HEADER + self.num_rows * self.row_height

    @property
    def note_lines(self) -> list[str]:
        """The note, as it is broken beside the colours."""
        room = self.width - 2 * _MARGIN - _SCALE[0] - _BESIDE_SCALE
        return textwrap.wrap(self.note, int(room / _NOTE_LETTER))

    @property
    def row_height(self) -> int:
        """Height of a row, the space below it included."""
        return max(self.cell[1], _LEAST_ROW) + _BELOW

    def corner(self, row: int, column: int) -> tuple[int, int]:
        """Return left and top of a cell; column 0 is the picture's own."""
        left = _MARGIN + self.names + column * (_SIDE + _GAP) + (_SIDE - self.cell[0]) // 2
        return left, _HEADER + row * self.row_height


def panel_layout(
    picture: Image.Image, rows: Sequence[PanelRow], columns: Sequence[PanelColumn], note: str
) -> PanelLayout:
    """Return the layout that ``draw_panel`` gives a panel of these."""
    longest = max((len(line) for row in rows for line in _lines(row.label)), default=0)
    names = int(min(max(_LETTER * longest + 20, _NAMES[0]), _NAMES[1]))
    return PanelLayout(len(rows), 1 + len(columns), fitted(picture, _SIDE).size, names, note)


def draw_panel(
    picture: Image.Image,
    rows: Sequence[PanelRow],
    columns: Sequence[PanelColumn],
    *,
    title: str,
    note: str,
) -> Image.Image:
    """Return the panel, RGB.

    Args:
        picture: RGB, upright, of any size.
        rows: L labels.
        columns: the predictors; the probability of a label that one predicts is bold.
        title: what the picture is.
        note: how the maps were made.
    """
    picture = fitted(picture, _SIDE)
    layout = panel_layout(picture, rows, columns, note)
    page = PixelPage(layout.size)
    room = layout.width - 2 * _MARGIN
    heading = shortened(printable(title), int(room / _TITLE_LETTER))
    page.text(_MARGIN, 40, heading, size=11, weight="bold", room=room)
    for c, name in enumerate(("picture", *(column.name for column in columns))):
        middle = _MARGIN + layout.names + c * (_SIDE + _GAP) + _SIDE / 2
        page.text(middle, _HEADER - 14, printable(name), size=9, across="center", room=_SIDE + 8)
    for r, row in enumerate(rows):
        _draw_label(page, row, layout.corner(r, 0)[1], room=layout.names - 12)
        _draw_picture(page, picture, row.boxes, layout.corner(r, 0))
        for c, column in enumerate(columns, start=1):
            _draw_map(page, picture, column, r, layout.corner(r, c))
    _draw_footer(page, layout)
    return page.image()


def _draw_label(page: PixelPage, row: PanelRow, top: int, *, room: int) -> None:
    """Write a row's label and its target."""
    lines = _lines(row.label)
    for i, line in enumerate(lines):
        page.text(_MARGIN, top + 20 + 24 * i, line, size=10.5, weight="bold", room=room)
    if row.target is not None:
        says = f"target: {TARGET_NAMES[row.target]}"
        page.text(_MARGIN, top + 22 + 24 * len(lines), says, size=8, colour=_QUIET, room=room)


def _draw_picture(
    page: PixelPage, picture: Image.Image, boxes: Sequence[Box], corner: tuple[int, int]
) -> None:
    """Draw the picture, with a frame where the label is."""
    page.picture(picture, corner)
    (left, top), (width, height) = corner, picture.size
    for box in boxes:
        start = (left + box.left * width, top + box.top * height)
        sides = ((box.right - box.left) * width, (box.bottom - box.top) * height)
        # Dark under light, to stand out from any picture.
        page.rectangle(start, sides, edge="black", line=2.2)
        page.rectangle(start, sides, edge="white", line=1.0)


def _draw_map(
    page: PixelPage,
    picture: Image.Image,
    column: PanelColumn,
    r: int,
    corner: tuple[int, int],
) -> None:
    """Draw what a predictor says of a row's label: map, bar and number."""
    (left, top), (width, height) = corner, picture.size
    page.picture(overlay(picture, column.maps[r]), corner)
    reason = nothing_to_compare(column.maps[r])
    if reason is not None:
        middle, baseline = left + width / 2, top + height / 2 + 5
        # On a strip of ink: the picture may be white there.
        page.rectangle((left, baseline - 18), (width, 26), face=INK)
        page.text(middle, baseline, reason, size=8, colour="white", across="center", room=width)
    value, bar = float(column.probabilities[r]), top + height + 9
    track = max(width - 56, 40)
    page.rectangle((left, bar), (track, _BAR), face=_TRACK)
    page.rectangle((left, bar), (track * value, _BAR), face=_FILL)
    predicted = value >= np.broadcast_to(column.thresholds, column.probabilities.shape)[r]
    weight = "bold" if predicted else "normal"
    page.text(left + track + 8, bar + _BAR + 1, f"{value:.2f}", size=8.5, weight=weight, room=_SIDE)


def _draw_footer(page: PixelPage, layout: PanelLayout) -> None:
    """Draw the colours and what they mean."""
    top, (width, height) = layout.bottom + _ABOVE_FOOTER, _SCALE
    shares = np.tile(np.linspace(0, 1, width), (height, 1))
    page.picture(Image.fromarray((255 * colours_of(shares)).astype(np.uint8)), (_MARGIN, top))
    page.text(_MARGIN, top + 36, "0", size=7.5, colour=_QUIET, room=width)
    page.text(
        _MARGIN + width, top + 36, "the map's own maximum", size=7.5, colour=_QUIET,
        across="right", room=width - 20,
    )  # fmt: skip
    left = _MARGIN + width + _BESIDE_SCALE
    for i, line in enumerate(layout.note_lines):
        baseline, room = top + 11 + _LINE * i, layout.width - left - _MARGIN
        page.text(left, baseline, line, size=8, colour=_QUIET, room=room)


def _lines(name: str) -> list[str]:
    """Return a label's name in at most three lines."""
    lines = textwrap.wrap(printable(name), _LINE_LENGTH, max_lines=3, placeholder="…")
    return lines or [name]
