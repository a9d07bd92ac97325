"""From scores to predicted labels, by one threshold or one for each label."""

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Scores = NDArray[np.floating[Any]]
"""``(N, C)`` logits or probabilities; only average precision and top-k are blind to which."""
ScoreKind = Literal["logits", "probabilities"]


def predicted_labels(
    scores_NC: Scores,
    threshold: float | NDArray[np.floating[Any]],
    *,
    kind: ScoreKind = "logits",
) -> NDArray[np.bool_]:
    """Return which labels ``(N, C)`` reach ``threshold``, a probability or ``(C,)`` of them.

    Raises:
        ValueError: a threshold not inside (0, 1), not one number for each label, or scores called
            probabilities that leave [0, 1].

    Example:
        >>> predicted_labels(np.array([[0.0, 0.0]]), np.array([0.5, 0.6])).tolist()
        [[True, False]]
    """
    cut = np.asarray(threshold, dtype=np.float64)
    if cut.ndim and cut.shape != scores_NC.shape[1:]:
        raise ValueError(f"{cut.shape} thresholds do not fit {scores_NC.shape[1]} labels.")
    if not ((cut > 0) & (cut < 1)).all():
        raise ValueError(f"The threshold is {threshold}; it must be between 0 and 1.")
    if kind == "logits":
        cut = np.log(cut / (1 - cut))
    elif scores_NC.size and (scores_NC.min() < 0 or scores_NC.max() > 1):
        raise ValueError("Probabilities must lie in [0, 1]; pass logits with kind='logits'.")
    # In the scores' own precision: a score of 0.7 in float32 is to reach a threshold of 0.7.
    reached_NC: NDArray[np.bool_] = scores_NC >= cut.astype(scores_NC.dtype)
    return reached_NC
