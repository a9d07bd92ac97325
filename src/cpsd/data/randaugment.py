"""RandAugment (Cubuk et al., 2020), drawn and defined as torchvision's, in half its time.

torchvision's defaults: two of 14 operations, each at magnitude 9 of 30. The draws are torchvision's
and so are the pixels, to the last bit (a test compares them with its own). What is computed another
way is what Pillow takes longest for: at 448 pixels it sharpens in 4.0 ms (1.3 here), changes
contrast in 0.8 (0.4) and brightness in 0.5 (0.3), where all other operations take 0.3 on average.
"""

import math
from collections.abc import Callable
from functools import cache
from typing import cast

import numpy as np
import torch
from PIL import Image
from torchvision.transforms.v2 import functional

_Operation = Callable[[Image.Image, int], Image.Image]
"""A picture and the sign of its magnitude, 1 or -1, to another picture."""

_NUM_OPERATIONS = 2
_BINS, _BIN = 31, 9
_LARGEST_SHEAR = 0.3
_LARGEST_SHIFT = 150.0 / 331.0  # of the side
_LARGEST_TURN = 30.0  # degrees
_LARGEST_ENHANCEMENT = 0.9
_BITS = 7
_SOLARIZED_FROM = 0.7 * 255

_GREYS = Image.frombytes("L", (256, 1), bytes(range(256)))


def randaugment(picture: Image.Image, *, generator: torch.Generator) -> Image.Image:
    """Return the RGB ``picture`` after two operations that ``generator`` draws.

    The same as ``torchvision.transforms.v2.RandAugment()`` gives with this generator in place of
    torch's global one.
    """
    for _ in range(_NUM_OPERATIONS):
        drawn = int(torch.randint(len(_OPERATIONS), (), generator=generator))
        operation, has_sign = _OPERATIONS[drawn]
        is_negative = has_sign and bool(torch.rand((), generator=generator) <= 0.5)
        picture = operation(picture, -1 if is_negative else 1)
    return picture


@cache
def _magnitude(largest: float) -> float:
    """Return bin 9 of those up to ``largest``, rounded to float32 as torchvision's."""
    return float(torch.linspace(0.0, largest, _BINS)[_BIN])


def _factor(sign: int) -> float:
    return 1.0 + sign * _magnitude(_LARGEST_ENHANCEMENT)


def _unchanged(picture: Image.Image, _: int) -> Image.Image:
    return picture


def _shear_x(picture: Image.Image, sign: int) -> Image.Image:
    return _sheared(picture, [_shear_degrees(sign), 0.0])


def _shear_y(picture: Image.Image, sign: int) -> Image.Image:
    return _sheared(picture, [0.0, _shear_degrees(sign)])


def _shear_degrees(sign: int) -> float:
    return math.degrees(math.atan(sign * _magnitude(_LARGEST_SHEAR)))


def _sheared(picture: Image.Image, shear: list[float]) -> Image.Image:
    moved = functional.affine(
        picture, angle=0.0, translate=[0, 0], scale=1.0, shear=shear, center=[0, 0]
    )
    return cast(Image.Image, moved)


def _shift_x(picture: Image.Image, sign: int) -> Image.Image:
    return _shifted(picture, [sign * int(_magnitude(_LARGEST_SHIFT * picture.width)), 0])


def _shift_y(picture: Image.Image, sign: int) -> Image.Image:
    return _shifted(picture, [0, sign * int(_magnitude(_LARGEST_SHIFT * picture.height))])


def _shifted(picture: Image.Image, translate: list[int]) -> Image.Image:
    moved = functional.affine(picture, angle=0.0, translate=translate, scale=1.0, shear=[0.0, 0.0])
    return cast(Image.Image, moved)


def _turn(picture: Image.Image, sign: int) -> Image.Image:
    return cast(Image.Image, functional.rotate(picture, angle=sign * _magnitude(_LARGEST_TURN)))


def _color(picture: Image.Image, sign: int) -> Image.Image:
    return cast(Image.Image, functional.adjust_saturation(picture, _factor(sign)))


def _brightness(picture: Image.Image, sign: int) -> Image.Image:
    return picture.point(_blended_with(0, _factor(sign)) * 3)


def _contrast(picture: Image.Image, sign: int) -> Image.Image:
    counts = picture.convert("L").histogram()
    total = sum(level * count for level, count in enumerate(counts))
    mean = int(total / sum(counts) + 0.5)
    return picture.point(_blended_with(mean, _factor(sign)) * 3)


@cache
def _blended_with(grey: int, factor: float) -> list[int]:
    """Return what Pillow's blending of a plain ``grey`` with each of the 256 levels gives.

    Brightness and contrast are such blends. One look into a table for each value then does what
    a second picture and floating-point arithmetic did.
    """
    return list(Image.blend(Image.new("L", _GREYS.size, grey), _GREYS, factor).tobytes())


def _sharpness(picture: Image.Image, sign: int) -> Image.Image:
    return Image.blend(_smooth(picture), picture, _factor(sign))


def _smooth(picture: Image.Image) -> Image.Image:
    """Return ``picture.filter(ImageFilter.SMOOTH)``, in integers.

    Each pixel becomes the mean over its 3 x 3 neighbours, itself counted five times, to the nearest
    level; a half never happens, for 13 is odd. The pixels at the border stay as they are.
    """
    pixels = np.array(picture)
    height, width, channels = pixels.shape
    flat = pixels.reshape(height, width * channels)
    wide = flat.astype(np.uint16)
    rows = wide[:-2] + wide[1:-1]
    rows += wide[2:]
    sums = rows[:, : -2 * channels] + rows[:, channels:-channels]
    sums += rows[:, 2 * channels :]
    sums += wide[1:-1, channels:-channels] << 2
    # The nearest integer to sums / 13.
    sums <<= 1
    sums += 13
    sums //= 26
    flat[1:-1, channels:-channels] = sums
    return Image.fromarray(pixels)


def _posterize(picture: Image.Image, _: int) -> Image.Image:
    return cast(Image.Image, functional.posterize(picture, bits=_BITS))


def _solarize(picture: Image.Image, _: int) -> Image.Image:
    return cast(Image.Image, functional.solarize(picture, threshold=_SOLARIZED_FROM))


def _autocontrast(picture: Image.Image, _: int) -> Image.Image:
    return cast(Image.Image, functional.autocontrast(picture))


def _equalize(picture: Image.Image, _: int) -> Image.Image:
    return cast(Image.Image, functional.equalize(picture))


_OPERATIONS: tuple[tuple[_Operation, bool], ...] = (
    (_unchanged, False),
    (_shear_x, True),
    (_shear_y, True),
    (_shift_x, True),
    (_shift_y, True),
    (_turn, True),
    (_brightness, True),
    (_color, True),
    (_contrast, True),
    (_sharpness, True),
    (_posterize, False),
    (_solarize, False),
    (_autocontrast, False),
    (_equalize, False),
)
"""In torchvision's order, and whether a sign is drawn for it."""
