"""A picture sheet of likely label errors, to be looked through by eye.

Each tile is a picture with its label, what the data say of it, how likely the label is to the
calibrated ensembles together, and the probability of each ensemble as it is.
"""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from PIL import Image, ImageDraw, ImageFont

from cpsd.addresses import place_in
from cpsd.data.images import read_image

MOST_TILES = 24
COLUMNS = 4

_PICTURE = 220
_MARGIN = 12
_LINE = 18
_TEXT_SIZE = 14
_TITLE = 34
_BACKGROUND, _FRAME = "#ffffff", "#f0f0f0"
_INK, _PALE = "#1a1a1a", "#595959"
_SURPLUS, _MISSING = "#a3280b", "#0b4fa3"
"""Colours of labels that are given and of those that are not; the words say it too."""

_Font = ImageFont.FreeTypeFont | ImageFont.ImageFont


class LikelyError(Protocol):
    """A target that is likely wrong."""

    @property
    def image(self) -> str:
        """The picture's path, as the data name it."""
        ...

    @property
    def label(self) -> str:
        """The label."""
        ...

    @property
    def given(self) -> int:
        """The target: 1 or 0."""
        ...

    @property
    def probabilities(self) -> dict[str, float]:
        """Ensemble to its probability of the label."""
        ...

    @property
    def probability(self) -> float:
        """Calibrated probability of the label, of all ensembles together."""
        ...


def label_error_sheet(
    entries: Sequence[LikelyError], *, root: Path, most_tiles: int = MOST_TILES
) -> Image.Image:
    """Return the sheet of the first ``most_tiles`` entries, ``COLUMNS`` in a row.

    Names are drawn in Pillow's own typeface, which has Latin letters; the table beside the sheet
    has all names in full.

    Args:
        entries: the likeliest errors first.
        root: the folder that relative picture paths start from.
        most_tiles: tiles at most.

    Raises:
        PictureError: a picture cannot be read.
        ValueError: ``most_tiles`` below 1.
    """
    if most_tiles < 1:
        raise ValueError(f"most_tiles is {most_tiles}; it must be at least 1.")
    shown = entries[:most_tiles]
    lines = 3 + max((len(entry.probabilities) for entry in shown), default=0)
    tile_height = _PICTURE + lines * _LINE + _MARGIN
    rows = max(1, -(-len(shown) // COLUMNS))
    sheet = Image.new(
        "RGB",
        (COLUMNS * (_PICTURE + _MARGIN) + _MARGIN, _TITLE + rows * (tile_height + _MARGIN)),
        _BACKGROUND,
    )
    draw = ImageDraw.Draw(sheet)
    draw.text((_MARGIN, _MARGIN), _title(len(shown), len(entries)), _INK, _font(_TEXT_SIZE + 2))
    for number, entry in enumerate(shown):
        row, column = divmod(number, COLUMNS)
        left = _MARGIN + column * (_PICTURE + _MARGIN)
        top = _TITLE + _MARGIN + row * (tile_height + _MARGIN)
        _draw_picture(sheet, draw, (left, top), Path(place_in(root, entry.image)))
        _draw_words(draw, (left, top + _PICTURE + 4), entry)
    return sheet


def _title(shown: int, listed: int) -> str:
    if not listed:
        return "No likely label error was found."
    return f"Likely label errors: the first {shown} of {listed}, the likeliest first"


def _draw_picture(
    sheet: Image.Image, draw: ImageDraw.ImageDraw, corner: tuple[int, int], path: Path
) -> None:
    left, top = corner
    draw.rectangle((left, top, left + _PICTURE - 1, top + _PICTURE - 1), fill=_FRAME)
    picture = read_image(path, least=2 * _PICTURE)
    # Enlarged as well as scaled down: a picture of 32 pixels could not be judged in its own size.
    scale = _PICTURE / max(picture.size)
    size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
    resample = Image.Resampling.LANCZOS if scale < 1 else Image.Resampling.NEAREST
    place = (left + (_PICTURE - size[0]) // 2, top + (_PICTURE - size[1]) // 2)
    sheet.paste(picture.resize(size, resample), place)


def _draw_words(draw: ImageDraw.ImageDraw, corner: tuple[int, int], entry: LikelyError) -> None:
    # The probability of the label, not of an error: how common errors are nobody knows.
    lines = [
        (entry.label, _SURPLUS if entry.given else _MISSING),
        (f"{'given' if entry.given else 'not given'}, found {entry.probability:.0%} likely", _INK),
        *((f"{name} {p:.2f}", _PALE) for name, p in entry.probabilities.items()),
        (entry.image, _PALE),
    ]
    for number, (words, colour) in enumerate(lines):
        font = _font(_TEXT_SIZE if number < 2 else _TEXT_SIZE - 2)
        place = (corner[0], corner[1] + number * _LINE)
        draw.text(place, _fitting(draw, words, font), colour, font)


def _fitting(draw: ImageDraw.ImageDraw, words: str, font: _Font) -> str:
    """Return ``words``, shortened in the middle where they are wider than a tile."""
    # A line break would run into the next line, and a surrogate cannot be drawn.
    words = " ".join(_readable(words).split())
    if draw.textlength(words, font) <= _PICTURE:
        return words
    for kept in range(len(words) - 1, 1, -1):
        shorter = f"{words[: kept // 2]}...{words[-(kept - kept // 2) :]}"
        if draw.textlength(shorter, font) <= _PICTURE:
            return shorter
    return "..."


def _readable(name: str) -> str:
    r"""Return a name for people: what is not UTF-8 in it as ``\xff``."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def _font(size: int) -> _Font:
    return ImageFont.load_default(size)
