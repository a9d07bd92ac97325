"""Views: what augmentation makes of a picture, as a pure function.

``view(pixels, view_index, ...)`` is the same bytes whichever process, worker, batch or epoch asks,
so that what a teacher said of a view can be stored and replayed to a student. (With another release
of Pillow or torchvision the bytes may differ.)

The augmentation is the paper's (CPSD, section 4.1): cutout, then RandAugment; optionally a flip.

Legend: H, W height and width of the picture, S the size of a view.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torchvision.transforms import v2

from cpsd.config import ImageConfig
from cpsd.seeds import derive_seed

PLAIN = -1
"""The index of the view without any augmentation."""

# Built once, for it holds no state: torchvision's defaults, two of 14 operations at magnitude 9 of
# 30. Given Pillow images, not tensors: 2,700 against 2,000 views a second on one core at 48 pixels,
# 1,140 against 360 at 224.
_RANDAUGMENT = v2.RandAugment()
_FLIP = v2.RandomHorizontalFlip()


def view(
    pixels: NDArray[np.uint8],
    view_index: int,
    *,
    seed: int,
    image_index: int,
    config: ImageConfig,
) -> Tensor:
    """Return the view ``view_index`` of a picture, uint8 ``(3, S, S)``.

    What is random depends on ``seed``, ``image_index`` and ``view_index`` alone. Neither torch's
    generators nor any other are moved.

    Args:
        pixels: the picture ``(H, W, 3)``; squashed to ``config.size`` unless it has that size.
        view_index: 0 or more, or ``PLAIN`` for the picture without augmentation.
        seed: the run's seed.
        image_index: the picture's row in the records.
        config: the size, and which augmentation.
    """
    picture = Image.fromarray(pixels)
    if picture.size != (config.size, config.size):
        picture = picture.resize((config.size, config.size), Image.Resampling.BILINEAR)
    if view_index != PLAIN:
        picture = _augment(picture, derive_seed(seed, "view", image_index, view_index), config)
    return torch.from_numpy(np.array(picture)).permute(2, 0, 1).contiguous()


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
    # torchvision's transforms read torch's global CPU generator, so it is borrowed and given back.
    # Not torch.manual_seed: that would also reseed the accelerators', and costs 200 microseconds.
    with torch.random.fork_rng(devices=[]):
        generator = torch.default_generator.manual_seed(view_seed)
        if config.cutout > 0:
            picture = cutout(picture, config.cutout, generator=generator)
        if config.randaugment:
            picture = _RANDAUGMENT(picture)
        if config.horizontal_flip:
            picture = _FLIP(picture)
    return picture
