"""A map laid over its picture.

The colours are 'inferno': their lightness grows all the way, so that they can be told apart by
colour-blind eyes and in print.
"""

import matplotlib
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cpsd.explain.pointing import enlarging

COLOURS = "inferno"
NOTHING = "no place speaks for it"
"""Said of a map that is 0 everywhere."""
ONE_PLACE = "one place: nothing to compare"
"""Said of a map of a single place, as a feature map of a very small picture is."""
EVEN = "the same everywhere"
"""Said of a map whose places differ by no more than rounding."""
_ROUNDING = 1e-5
_OPACITY = (0.4, 0.7)
"""Of the colours, where the map is 0 and at its maximum."""


def nothing_to_compare(map_hw: NDArray[np.float32]) -> str | None:
    """Return why a map tells no places apart, to be written over it; None where it does.

    Example:
        >>> nothing_to_compare(np.ones((1, 1), dtype=np.float32))
        'one place: nothing to compare'
        >>> nothing_to_compare(np.array([[0.1, 0.2]], dtype=np.float32)) is None
        True
    """
    if not map_hw.any():
        return NOTHING
    if map_hw.size == 1:
        return ONE_PLACE
    return EVEN if np.ptp(map_hw) <= _ROUNDING * map_hw.max() else None


def overlay(picture: Image.Image, map_hw: NDArray[np.float32]) -> Image.Image:
    """Return the picture in grey under the colours of a map, of the picture's size.

    The map is stretched over the picture, as predictors see pictures squashed to a square, and
    shown in shares of its own maximum. One that tells no places apart leaves the picture dark:
    all of it at its maximum would look like a finding.

    Args:
        picture: RGB.
        map_hw: not negative.
    """
    grey = np.asarray(picture.convert("L").convert("RGB"), dtype=np.float64)
    shares = _enlarged(map_hw if nothing_to_compare(map_hw) is None else 0 * map_hw, picture.size)
    opacity = np.interp(shares, (0, 1), _OPACITY)[..., None]
    mixed = (1 - opacity) * grey + opacity * 255 * colours_of(shares)
    return Image.fromarray(mixed.round().astype(np.uint8))


def colours_of(shares: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the colours ``(..., 3)``, in [0, 1], of shares of a map's maximum."""
    rgb: NDArray[np.float64] = matplotlib.colormaps[COLOURS](shares)[..., :3]
    return rgb


def fitted(picture: Image.Image, side: int) -> Image.Image:
    """Return the picture with its longer side ``side`` pixels long."""
    scale = side / max(picture.size)
    width, height = (max(round(scale * pixels), 1) for pixels in picture.size)
    return picture.resize((width, height), Image.Resampling.LANCZOS)


def _enlarged(map_hw: NDArray[np.float32], size: tuple[int, int]) -> NDArray[np.float64]:
    """Return the map in shares of its maximum, bilinear, for a picture of ``size``."""
    width, height = size
    down, across = enlarging(map_hw.shape[0], height), enlarging(map_hw.shape[1], width)
    shares = map_hw.astype(np.float64) / (map_hw.max() or 1.0)
    enlarged: NDArray[np.float64] = down @ shares @ across.T
    return enlarged.clip(0, 1)
