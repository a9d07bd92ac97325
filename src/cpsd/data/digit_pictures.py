"""How a picture of the embedded demo data is painted: a texture, digits in ink, noise."""

import math
from collections.abc import Sequence
from math import dist

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cpsd.data.boxes import Box

SIZE = 48
"""Height and width of a picture: about the least at which five digits can be told apart by eye."""
NUM_TEXTURES = 5

_INK_COLOURS = {"red": (200, 25, 35), "blue": (25, 55, 205)}
_TINTS = (  # one for each texture; muted, so that both inks stand out
    (158, 156, 150),
    (176, 156, 122),
    (138, 168, 136),
    (172, 154, 172),
    (188, 182, 138),
)
_INK_JITTER = 22.0  # standard deviation, in grey levels of 255, as the next two
_TINT_JITTER = 12.0
_NOISE = 11.0
_TEXTURE_DEPTH = (18.0, 34.0)  # grey levels between a texture's light and dark
_GLYPH_SIZE = (20.0, 27.0)  # side of the 8 x 8 digit in the picture, in pixels
_OPACITY = 0.87
_ENLARGED = 4  # times, before a digit is placed
_GLYPH_CELLS = 8 * _ENLARGED
_TILT = math.radians(22)
_TRIES = 3  # places tried for each digit, the one farthest from the others kept
_SEEN_INK = 64  # cover, of 255, from which ink stands out from the noise

_Y, _X = np.mgrid[:SIZE, :SIZE].astype(np.float32)


def glyph(digit: NDArray[np.uint8]) -> Image.Image:
    """Return a digit ``(8, 8)``, 0 background to 255 stroke, as the ink it leaves, 0..255.

    It is enlarged once and for all, and the ink made steeper than interpolation left it, so that
    strokes look like strokes; a border of nothing lets it fade out on all sides.
    """
    padded = Image.fromarray(np.pad(digit, 1))
    side = padded.width * _ENLARGED
    stroke = [_OPACITY * 255 * min(max((cover - 70) / 90, 0), 1) for cover in range(256)]
    return padded.resize((side, side), Image.Resampling.BICUBIC).point(stroke)


def render(
    glyphs: Sequence[Image.Image],
    inks: Sequence[str],
    texture: int,
    generator: np.random.Generator,
) -> tuple[NDArray[np.uint8], list[Box]]:
    """Return a picture ``(SIZE, SIZE, 3)`` with the digits in their inks on a texture.

    With it comes the box of each digit's ink, also where another digit lies on top of it.

    Args:
        glyphs: the digits, as ``glyph`` makes them; later ones lie on top.
        inks: the name of each digit's ink.
        texture: which background, below ``NUM_TEXTURES``.
        generator: draws place, size, tilt and colours, and the noise.
    """
    canvas = Image.fromarray(_background(texture, generator))
    places: list[tuple[float, float]] = []
    boxes: list[Box] = []
    for glyph, ink in zip(glyphs, inks, strict=True):
        side = generator.uniform(*_GLYPH_SIZE)
        places.append(_place(places, side, generator))
        cover = _cover(glyph, places[-1], side=side, tilt=generator.uniform(-_TILT, _TILT))
        boxes.append(_box_of(cover))
        red, green, blue = generator.normal(_INK_COLOURS[ink], _INK_JITTER).clip(0, 255).tolist()
        # Pillow's own painting: a third of the time that the same takes in NumPy.
        canvas.paste((int(red), int(green), int(blue)), mask=cover)
    noise = _NOISE * generator.standard_normal((SIZE, SIZE, 3), dtype=np.float32)
    noise += np.asarray(canvas)
    return noise.clip(0, 255).astype(np.uint8), boxes


def _place(
    others: Sequence[tuple[float, float]], side: float, generator: np.random.Generator
) -> tuple[float, float]:
    """Return a centre (x, y) for a digit: inside the picture, away from the others if it can be."""
    margin = 0.42 * side
    tries = [(x, y) for x, y in generator.uniform(margin, SIZE - margin, (_TRIES, 2)).tolist()]
    return max(tries, key=lambda place: min((dist(place, other) for other in others), default=0.0))


def _cover(
    glyph: Image.Image, centre: tuple[float, float], *, side: float, tilt: float
) -> Image.Image:
    """Return how much ink lies on each pixel of a ``SIZE`` x ``SIZE`` picture, 0..255."""
    cos, sin = math.cos(tilt) * _GLYPH_CELLS / side, math.sin(tilt) * _GLYPH_CELLS / side
    x, y = centre
    middle = glyph.width / 2
    # Pillow wants the map from a pixel of the picture to a pixel of the digit.
    matrix = (cos, sin, middle - cos * x - sin * y, -sin, cos, middle + sin * x - cos * y)
    return glyph.transform((SIZE, SIZE), Image.Transform.AFFINE, matrix, Image.Resampling.BILINEAR)


def _box_of(cover: Image.Image) -> Box:
    """Return the box of what can be seen of a digit's ink."""
    box = cover.point([255 * (ink >= _SEEN_INK) for ink in range(256)]).getbbox()
    assert box is not None, "a digit's centre lies in the picture"
    return Box(*box)


def _background(texture: int, generator: np.random.Generator) -> NDArray[np.uint8]:
    """Return a texture ``(SIZE, SIZE, 3)``."""
    tint = generator.normal(_TINTS[texture], _TINT_JITTER).astype(np.float32)
    depth = np.float32(generator.uniform(*_TEXTURE_DEPTH))
    pixels = tint + (depth * _pattern(texture, generator))[..., None]
    return pixels.clip(0, 255).astype(np.uint8)


def _pattern(texture: int, generator: np.random.Generator) -> NDArray[np.float32]:
    """Return a pattern ``(SIZE, SIZE)`` in -0.5..0.5; its scale, turn and place are drawn."""
    angle = generator.uniform(0, np.pi)
    wave = 2 * np.pi / generator.uniform(6, 11)  # per pixel
    shift_x, shift_y = generator.uniform(0, SIZE, size=2)
    cos, sin = np.float32(wave * np.cos(angle)), np.float32(wave * np.sin(angle))
    x, y = _X - np.float32(shift_x), _Y - np.float32(shift_y)
    u, v = cos * x + sin * y, cos * y - sin * x
    pattern: NDArray[np.float32]
    match texture:
        case 0:  # clouds: coarse noise, enlarged
            coarse = Image.fromarray(generator.random((7, 7), dtype=np.float32))
            clouds = coarse.resize((SIZE, SIZE), Image.Resampling.BICUBIC)
            pattern = np.asarray(clouds, dtype=np.float32) - np.float32(0.5)
        case 1:  # stripes
            pattern = np.sin(u) / 2
        case 2:  # checks
            pattern = (np.sin(u) * np.sin(v) > 0).astype(np.float32) - np.float32(0.5)
        case 3:  # rings
            pattern = np.sin(np.hypot(u, v)) / 2
        case _:  # dots
            pattern = (np.cos(u) * np.cos(v) > 0.4).astype(np.float32) - np.float32(0.5)
    return pattern
