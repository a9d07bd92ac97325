"""A figure whose places are pixels, counted from the upper left corner."""

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import fontManager
from matplotlib.patches import Rectangle
from PIL import Image

INK = "#1a1a1a"
_DOTS = 144  # a inch; sharp where screens have more dots than a page says
_FAMILIES = ("DejaVu Sans", "Noto Sans", "Noto Sans CJK SC", "Noto Sans CJK JP", "PingFang SC")
_MORE_FAMILIES = ("Hiragino Sans", "Microsoft YaHei", "Malgun Gothic", "Noto Sans Arabic")


class PixelPage:
    """A white page to draw on.

    Args:
        size: its width and height.
    """

    def __init__(self, size: tuple[int, int]) -> None:
        self.width, self.height = size
        inches = (self.width / _DOTS, self.height / _DOTS)
        self._figure = Figure(figsize=inches, dpi=_DOTS, facecolor="white")
        self._canvas = FigureCanvasAgg(self._figure)

    def text(
        self,
        left: float,
        baseline: float,
        text: str,
        *,
        size: float,
        room: float,
        weight: str = "normal",
        colour: str = INK,
        across: str = "left",
    ) -> None:
        """Write a line; it is made smaller where it would be wider than ``room``."""
        with _unknown_letters_as_boxes():
            written = self._figure.text(
                left / self.width,
                1 - baseline / self.height,
                text,
                fontsize=size,
                fontweight=weight,
                color=colour,
                ha=across,
                family=_families(),
                parse_math=False,  # a label may hold a dollar sign
            )
            renderer = self._canvas.get_renderer()  # type: ignore[no-untyped-call]
            width = written.get_window_extent(renderer).width
            if width > room:
                # A hair less: letters are set on whole pixels.
                written.set_fontsize(size * room / width * 0.98)

    def picture(self, picture: Image.Image, corner: tuple[int, int]) -> None:
        """Lay a picture on the page, pixel by pixel; ``corner`` is its left and top."""
        left, top = corner
        bottom = self.height - top - picture.height
        # Not by axes: they would draw it anew in their own size.
        self._figure.figimage(np.asarray(picture), left, bottom, origin="upper")

    def rectangle(
        self,
        corner: tuple[float, float],
        sides: tuple[float, float],
        *,
        face: str = "none",
        edge: str = "none",
        line: float = 0.0,
    ) -> None:
        """Draw a rectangle by its left and top, width and height."""
        place = (corner[0] / self.width, 1 - (corner[1] + sides[1]) / self.height)
        width, height = sides[0] / self.width, sides[1] / self.height
        drawn = Rectangle(place, width, height, facecolor=face, edgecolor=edge, linewidth=line)
        self._figure.add_artist(drawn)

    def image(self) -> Image.Image:
        """Return the page as it is, RGB."""
        with _unknown_letters_as_boxes():
            self._canvas.draw()  # type: ignore[no-untyped-call]
        drawn = self._canvas.buffer_rgba()  # type: ignore[no-untyped-call]
        return Image.fromarray(np.asarray(drawn)).convert("RGB")


def printable(text: str) -> str:
    r"""Return ``text`` in one line, what is not UTF-8 in a file name as ``\xff``.

    Example:
        >>> printable("two\nlines")
        'two lines'
    """
    readable = os.fsencode(text).decode("utf-8", "backslashreplace")
    return "".join(character if character.isprintable() else " " for character in readable)


def shortened(text: str, length: int) -> str:
    """Return ``text`` cut to ``length`` letters.

    Example:
        >>> shortened("a long name", 7)
        'a long…'
    """
    return text if len(text) <= length else f"{text[: length - 1]}…"


@contextmanager
def _unknown_letters_as_boxes() -> Iterator[None]:
    """Let matplotlib draw boxes for letters of a script that no font here knows, and not warn."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        yield


@cache
def _families() -> list[str]:
    """Return the fonts to take letters from, in this order, of those that are installed."""
    installed = {font.name for font in fontManager.ttflist}
    return [name for name in (*_FAMILIES, *_MORE_FAMILIES) if name in installed]
