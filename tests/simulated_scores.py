"""Made-up targets and logits whose properties a test knows."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cpsd.labels import LabelSpace, Targets

Logits = NDArray[np.float32]


def label_space(num_labels: int) -> LabelSpace:
    return LabelSpace(tuple(f"label {c}" for c in range(num_labels)))


def logits_of(values: ArrayLike) -> Logits:
    return np.array(values, dtype=np.float32)


def targets_of(values: ArrayLike) -> Targets:
    return np.array(values, dtype=np.int8)


def targets_and_logits(
    seed: int,
    *,
    shape: tuple[int, int] = (300, 6),
    share: float = 0.3,
    unknown: float = 0.0,
    predictors: tuple[str, ...] = ("baseline", "student"),
) -> tuple[Targets, dict[str, Logits]]:
    """Return targets, and for each predictor logits that are better than chance."""
    rng = np.random.default_rng(seed)
    targets = (rng.random(shape) < share).astype(np.int8)
    logits = {
        name: (rng.standard_normal(shape) + 1.5 * targets - 1).astype(np.float32)
        for name in predictors
    }
    targets[rng.random(shape) < unknown] = -1
    return targets, logits
