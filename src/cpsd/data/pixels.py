"""Pixels at training size: what decoding makes of a picture's file, squashed to the square."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from PIL import Image
from torch.nn.functional import interpolate

from cpsd.data.images import pixels_of, read_image

Pixels = NDArray[np.uint8]
"""``(H, W, 3)``; at training size ``(S, S, 3)``."""

# A JPEG is decoded at a half, quarter or eighth of its size only where that is still this many
# times the size wanted: the antialiasing resize then has as much to average as it needs, and the
# pixels differ by a level or two from those of the whole picture.
_DRAFT_MARGIN = 2


def read_pixels(path: str | Path, size: int) -> Pixels:
    """Return the pixels ``(size, size, 3)`` of a file, squashed to the square.

    A JPEG much larger than ``size`` is scaled while it is decoded.

    Raises:
        PictureError: the file is not there, is no picture, ends too early or is damaged.
    """
    return squashed(_lent_bytes(read_image(path, least=_DRAFT_MARGIN * size)), size)


def squashed(pixels: Pixels, size: int) -> Pixels:
    """Return ``pixels`` ``(size, size, 3)``: bilinear with antialiasing, without a fourth channel.

    By torch, which takes a quarter of Pillow's time on a processor with AVX2. One value in five
    hundred differs from Pillow's, by one level.

    Example:
        >>> squashed(np.full((2, 3, 3), 7, dtype=np.uint8), 1).tolist()
        [[[7, 7, 7]]]
    """
    if pixels.shape[:2] == (size, size):
        return _three_channels(pixels)
    # A copy only where torch would refuse: a memory map, a mirrored picture.
    pixels = np.require(pixels, requirements=["C", "W"])
    images_BCHW = torch.from_numpy(pixels)[None].permute(0, 3, 1, 2)
    resized_BCHW = interpolate(images_BCHW, size=(size, size), mode="bilinear", antialias=True)
    return _three_channels(resized_BCHW.permute(0, 2, 3, 1)[0].numpy())


def _three_channels(pixels: Pixels) -> Pixels:
    """Return pixels without a fourth channel."""
    if pixels.shape[2] == 3:
        return pixels
    colours = np.empty((*pixels.shape[:2], 3), dtype=np.uint8)
    for channel in range(3):  # a fifth of the time that a slice is copied in
        colours[..., channel] = pixels[..., channel]
    return colours


class _Lent:
    """Memory of a picture, ``(H, W, 4)``, that arrays refer to; it lives as long as they do."""

    def __init__(self, image: Image.Image) -> None:
        self._column = pa.array(image)
        address = self._column.flatten().buffers()[1].address
        # Not marked as read-only, for torch warns of such; nothing here writes to it.
        self.__array_interface__ = {
            "shape": (image.height, image.width, 4),
            "typestr": "|u1",
            "data": (address, False),
            "version": 3,
        }


def _lent_bytes(image: Image.Image) -> Pixels:
    """Return the pixels ``(H, W, 4)`` as Pillow holds them, whose fourth bytes mean nothing.

    Where it holds a large picture in several pieces, a copy ``(H, W, 3)``. Of a photograph the two
    copies that Pillow's own conversion makes would take a tenth of the time of decoding.
    """
    try:
        return np.asarray(_Lent(image))
    except ValueError:
        return pixels_of(image)
