"""Counting images by ordered pairs of labels: matrix products, never a loop over pairs."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from cpsd.labels import ABSENT, PRESENT, Targets

CELLS = ("with_context", "without_context", "context_only", "neither")
"""The four kinds of images of a pair (label, context): with both, with the label alone, with the
context alone, with neither."""

_MOST_CELLS = 1 << 22
"""Entries of the float32 arrays of one step: 16 MiB each, however many images there are."""


def pair_sums(weights_NC: NDArray[Any], targets_NC: Targets) -> NDArray[np.float64]:
    """Return the sums ``(4, C, C)`` of the label's weight over each cell's images.

    Entry ``[k, a, b]`` is the sum of ``weights_NC[:, a]`` over the images that are, for the label
    ``a`` and the context ``b``, of the kind ``CELLS[k]``. An image on which one of the two is
    unknown is in no cell. Weights of 0 and 1 are summed exactly.

    Args:
        weights_NC: ``(N, C)`` numbers, or booleans to count.
        targets_NC: ``(N, C)``; 1 present, 0 absent, -1 unknown.

    Raises:
        ValueError: shapes that do not fit.

    Example:
        >>> pair_sums(np.ones((3, 2)), np.int8([[1, 1], [1, 0], [0, 1]]))[:, 0, 1].tolist()
        [1.0, 1.0, 1.0, 0.0]
    """
    if weights_NC.shape != targets_NC.shape:
        raise ValueError(f"Weights {weights_NC.shape} do not fit targets {targets_NC.shape}.")
    num_images, num_labels = targets_NC.shape
    step = max(1, _MOST_CELLS // num_labels)
    sums = np.zeros((len(CELLS), num_labels, num_labels))
    for start in range(0, num_images, step):
        targets = targets_NC[start : start + step]
        weights = weights_NC[start : start + step].astype(np.float32)
        present = (targets == PRESENT).astype(np.float32)
        absent = (targets == ABSENT).astype(np.float32)
        for half, mask in enumerate((present, absent)):
            weighted = (weights * mask).T
            sums[2 * half] += weighted @ present
            sums[2 * half + 1] += weighted @ absent
    return sums


def images_of_pairs(targets_NC: Targets) -> NDArray[np.float64]:
    """Return how many images ``(4, C, C)`` each cell has.

    Example:
        >>> images_of_pairs(np.int8([[1, 1], [1, -1]]))[0].tolist()
        [[2.0, 1.0], [1.0, 1.0]]
    """
    return pair_sums(np.ones_like(targets_NC, dtype=np.bool_), targets_NC)
