"""Views: what augmentation makes of a picture, as a pure function.

``view(pixels, view_index, ...)`` is the same bytes whichever process, worker, batch or epoch asks,
so that what a teacher said of a view can be stored and replayed to a student. (With another release
of Pillow, torch or torchvision, or a processor of another kind, they may differ by a level.)

The augmentation is the paper's (CPSD, section 4.1): cutout, then RandAugment; optionally a flip.

Legend: H, W height and width of the picture, S the size of a view.
"""

import numpy as np
import torch
from PIL import Image

from cpsd.config import ImageConfig
from cpsd.data.pixels import Pixels, squashed
from cpsd.data.randaugment import randaugment
from cpsd.seeds import derive_seed

PLAIN = -1
"""The index of the view without any augmentation."""

VIEWS_VERSION = 2
"""Which bytes ``view`` makes of a file; raised with every change of them, so that what teachers
said of earlier views is not taken for what they say of these. (1: pictures resized by Pillow.)"""


def view(
    pixels: Pixels,
    view_index: int,
    *,
    seed: int,
    image_index: int,
    config: ImageConfig,
) -> Pixels:
    """Return the view ``view_index`` of a picture, ``(S, S, 3)``; perhaps ``pixels`` themselves.

    What is random depends on ``seed``, ``image_index`` and ``view_index`` alone. Neither torch's
    generators nor any other are moved.

    Args:
        pixels: the picture ``(H, W, 3)``; squashed to ``config.size`` unless it has that size.
        view_index: 0 or more, or ``PLAIN`` for the picture without augmentation.
        seed: the run's seed.
        image_index: the picture's row in the records.
        config: the size, and which augmentation.
    """
    pixels = squashed(pixels, config.size)
    if view_index == PLAIN:
        return pixels
    # Pillow augments faster than torch would: a view of 48 pixels in three quarters of the time,
    # one of 224 in a third.
    picture = Image.fromarray(pixels)
    picture = _augment(picture, derive_seed(seed, "view", image_index, view_index), config)
    return np.asarray(picture)


def cutout(picture: Image.Image, factor: float, *, generator: torch.Generator) -> Image.Image:
    """Return the picture with one square of one random colour on it (DeVries and Taylor, 2017).

    The square is centred at a uniformly random pixel, so part of it may lie outside the picture.

    Args:
        picture: an RGB picture.
        factor: side of the square as a share of the picture's shorter side.
        generator: draws the place and the colour.
    """
    width, height = picture.size
    side = round(factor * min(width, height))
    centre_x = int(torch.randint(width, (), generator=generator))
    centre_y = int(torch.randint(height, (), generator=generator))
    red, green, blue = torch.randint(256, (3,), generator=generator).tolist()
    left, top = centre_x - side // 2, centre_y - side // 2
    square = (max(left, 0), max(top, 0), min(left + side, width), min(top + side, height))
    painted = picture.copy()
    painted.paste((red, green, blue), square)
    return painted


def _augment(picture: Image.Image, view_seed: int, config: ImageConfig) -> Image.Image:
    """Return the picture as ``config`` wants it varied, by ``view_seed`` alone."""
    generator = torch.Generator().manual_seed(view_seed)
    if config.cutout > 0:
        picture = cutout(picture, config.cutout, generator=generator)
    if config.randaugment:
        picture = randaugment(picture, generator=generator)
    if config.horizontal_flip and bool(torch.rand((), generator=generator) < 0.5):
        picture = picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    return picture
