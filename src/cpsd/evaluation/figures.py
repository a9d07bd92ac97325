"""Figures as JSON holds them: few digits, and null for what is not defined."""

import math
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

DIGITS = 6
"""Significant digits: more than any evaluation knows, and short in a file."""


def figure(value: float) -> float | None:
    """Return ``value`` with six significant digits, None for NaN.

    Example:
        >>> figure(1 / 3), figure(math.nan)
        (0.333333, None)
    """
    return None if math.isnan(value) else float(f"{value:.{DIGITS}g}")


def figures(values: Iterable[float] | NDArray[np.floating]) -> list[float | None]:
    """Return ``values`` as ``figure`` does, one after the other.

    Example:
        >>> figures([0.1 + 0.2, math.nan])
        [0.3, None]
    """
    return [figure(float(value)) for value in values]
