"""Planting wrong targets, to see how many of them a ranking finds."""

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from cpsd.labels import ABSENT, PRESENT, UNKNOWN, Targets

FlipKind = Literal["uniform", "balanced", "missing"]
"""Which targets are flipped: any known one; as many present as absent ones; present ones only."""


def plant_errors(
    targets_NC: Targets, *, rate: float, seed: int, kind: FlipKind = "uniform"
) -> tuple[Targets, NDArray[np.bool_]]:
    """Return targets of which some are flipped, and which ``(N, C)``.

    Args:
        targets_NC: ``(N, C)``; unknown targets stay.
        rate: flips as a share of the known targets.
        seed: of the draw.
        kind: which targets are flipped. At most half of the present ones are.

    Raises:
        ValueError: a rate not inside (0, 0.5).

    Example:
        >>> targets = np.zeros((10, 10), dtype=np.int8)
        >>> flipped, planted = plant_errors(targets, rate=0.05, seed=0)
        >>> int(planted.sum()), bool((flipped == planted).all())
        (5, True)
    """
    if not 0 < rate < 0.5:
        raise ValueError(f"The rate of flips is {rate}; it must be between 0 and 0.5.")
    rng = np.random.default_rng(seed)
    flat = targets_NC.ravel()
    wanted = round(rate * int((flat != UNKNOWN).sum()))
    present, absent = np.flatnonzero(flat == PRESENT), np.flatnonzero(flat == ABSENT)
    if kind == "uniform":
        groups = [(np.concatenate([present, absent]), wanted)]
    else:
        share = wanted if kind == "missing" else wanted // 2
        groups = [(present, min(share, len(present) // 2))]
        if kind == "balanced":
            groups.append((absent, groups[0][1]))
    planted = np.zeros(flat.shape, dtype=np.bool_)
    for places, number in groups:
        planted[rng.choice(places, number, replace=False)] = True
    planted_NC = planted.reshape(targets_NC.shape)
    return np.where(planted_NC, 1 - targets_NC, targets_NC).astype(np.int8), planted_NC


def precision_at_planted(score_NC: NDArray[np.float64], planted_NC: NDArray[np.bool_]) -> float:
    """Return the share of planted errors among the lowest scores, as many as were planted.

    Targets that are wrong in the data themselves count against a ranking that finds them. NaN
    scores come last; NaN if nothing was planted.

    Example:
        >>> precision_at_planted(np.array([[0.1, 0.9], [0.2, 0.3]]), np.array([[1, 1], [0, 0]]) > 0)
        0.5
    """
    number = int(planted_NC.sum())
    lowest = np.argsort(score_NC.ravel(), kind="stable")[:number]
    return float(planted_NC.ravel()[lowest].mean()) if number else np.nan
