"""Choosing each label's threshold: for the best F1, or for a wanted precision or recall.

Thresholds are chosen on validation pictures from each label's own precision-recall curve, and are
probabilities. A label with few positives there gets a threshold that fits these few: the number of
positives stands beside it. The best-F1 rule has a known fault: a label that the scores say nothing
about is best predicted everywhere (Lipton, Elkan and Narayanaswamy, "Optimal thresholding of
classifiers to maximize F1 measure", ECML 2014).
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cpsd.evaluation.figures import figure
from cpsd.evaluation.metrics import PrecisionRecall, precision_recall
from cpsd.evaluation.predicted_labels import predicted_labels
from cpsd.evaluation.thresholds import Criterion, LabelThreshold, Thresholds
from cpsd.labels import PRESENT, UNKNOWN, LabelSpace, Targets

Logits = NDArray[np.float32]

_HIGHEST_LOGIT = 15.0
"""Logits above it count as equal: the probabilities beyond cannot be told apart near 1."""
_LOWEST_LOGIT = -500.0


def choose_thresholds(
    logits_NC: Logits,
    targets_NC: Targets,
    labels: LabelSpace,
    *,
    criterion: Criterion,
    default: float = 0.5,
) -> Thresholds:
    """Choose a threshold for each label by its precision-recall curve on these pictures.

    Every distinct logit is a candidate; the threshold lies half-way between it and the next lower
    one, so that a new picture a hair below is treated like its neighbour. Ties go, for F1, to the
    higher threshold (fewer predictions), for precision and recall to the better other figure.
    A recall can always be reached, a precision not: then the label has its highest precision.

    Args:
        logits_NC: ``(N, C)`` logits of validation pictures.
        targets_NC: ``(N, C)``; unknown targets take no part.
        labels: the C labels.
        criterion: what to choose for.
        default: the threshold of labels without a known positive.

    Raises:
        ValueError: shapes that do not fit.

    Example:
        >>> chosen = choose_thresholds(
        ...     np.float32([[2.0], [1.0], [-1.0]]), np.int8([[1], [1], [0]]),
        ...     LabelSpace(("cat",)), criterion=Criterion("f1"),
        ... )
        >>> chosen.by_label["cat"].threshold, chosen.by_label["cat"].f1
        (0.5, 1.0)
    """
    if logits_NC.shape != targets_NC.shape or logits_NC.shape[1] != len(labels):
        raise ValueError(
            f"Logits {logits_NC.shape}, targets {targets_NC.shape} and {len(labels)} labels differ."
        )
    by_label = {}
    for c, name in enumerate(labels):
        known_N = targets_NC[:, c] != UNKNOWN
        present_N = targets_NC[known_N, c] == PRESENT
        by_label[name] = (
            _choose(logits_NC[known_N, c], present_N, criterion)
            if present_N.any()
            else LabelThreshold(default, 0, np.nan, np.nan, np.nan)
        )
    wanted = criterion.wanted if criterion.kind == "precision" else None
    return Thresholds(
        criterion=criterion,
        default=default,
        by_label=by_label,
        kept_default=tuple(name for name, chosen in by_label.items() if not chosen.positives),
        unreachable=tuple(
            name
            for name, chosen in by_label.items()
            if wanted is not None and chosen.precision < wanted
        ),
    )


def _choose(logits_N: Logits, present_N: NDArray[np.bool_], criterion: Criterion) -> LabelThreshold:
    """Return the best threshold of one label that has positives."""
    clipped_N = np.clip(logits_N.astype(np.float32), _LOWEST_LOGIT, _HIGHEST_LOGIT)
    order = np.argsort(-clipped_N, kind="stable")
    ranked_N = clipped_N[order]
    # A candidate K is the last picture of a run of equal logits: they are predicted together.
    last_K = np.append(np.flatnonzero(ranked_N[1:] != ranked_N[:-1]), len(ranked_N) - 1)
    hits_K = np.cumsum(present_N[order])[last_K]
    positives = int(hits_K[-1])
    precision_K, recall_K = hits_K / (last_K + 1), hits_K / positives
    f1_K = 2 * hits_K / (last_K + 1 + positives)
    k = _best(precision_K, recall_K, f1_K, criterion)
    return LabelThreshold(
        threshold=_below(ranked_N, int(last_K[k])),
        positives=positives,
        precision=float(precision_K[k]),
        recall=float(recall_K[k]),
        f1=float(f1_K[k]),
    )


def _best(
    precision_K: NDArray[np.float64],
    recall_K: NDArray[np.float64],
    f1_K: NDArray[np.float64],
    criterion: Criterion,
) -> int:
    """Return the candidate to take; candidates run from the highest threshold to the lowest."""
    if criterion.kind == "f1":
        return int(np.argmax(f1_K))  # the first of equals
    assert criterion.wanted is not None
    met_K = (precision_K if criterion.kind == "precision" else recall_K) >= criterion.wanted
    if criterion.kind == "precision" and met_K.any():
        first, second = recall_K, precision_K
    else:
        first, second = precision_K, recall_K
    allowed_K = met_K if met_K.any() else np.ones_like(met_K)
    return int(np.lexsort((second, first, allowed_K))[-1])


def _below(ranked_N: Logits, last: int) -> float:
    """Return the probability half-way between the logit at ``last`` and the next lower one."""
    value = ranked_N[last]
    if last + 1 < len(ranked_N):
        logit = np.float32((value + ranked_N[last + 1]) / 2)
        if logit <= ranked_N[last + 1]:  # neighbours in float32 have nothing between them
            logit = value
    else:
        logit = np.nextafter(value, np.float32(-np.inf))
    return float(1 / (1 + np.exp(-np.float64(logit))))


@dataclass(frozen=True)
class ThresholdsFinding:
    """What chosen thresholds change: the scores of each predictor at the default and at its own.

    Args:
        chosen_on: the split that the thresholds were chosen on.
        thresholds: by predictor.
        at_default: scores at the default threshold, by predictor.
        at_thresholds: scores at the chosen thresholds, by predictor.
    """

    chosen_on: str
    thresholds: dict[str, Thresholds]
    at_default: dict[str, PrecisionRecall]
    at_thresholds: dict[str, PrecisionRecall]

    def to_json(self) -> dict[str, Any]:
        """Return what ``findings/thresholds-<split>.json`` holds."""
        return {
            "chosen_on": self.chosen_on,
            "predictors": {
                name: {
                    "thresholds": thresholds.to_json(),
                    "at_default": _six(self.at_default[name]),
                    "at_thresholds": _six(self.at_thresholds[name]),
                }
                for name, thresholds in self.thresholds.items()
            },
        }


def find_thresholds(
    logits: Mapping[str, Logits],
    targets_NC: Targets,
    labels: LabelSpace,
    *,
    thresholds: Mapping[str, Thresholds],
    chosen_on: str = "validation",
) -> ThresholdsFinding:
    """Return the scores of every predictor in ``logits`` at its default and chosen thresholds."""

    def scores(name: str, threshold: float | NDArray[np.float64]) -> PrecisionRecall:
        return precision_recall(predicted_labels(logits[name], threshold), targets_NC)

    return ThresholdsFinding(
        chosen_on=chosen_on,
        thresholds={name: thresholds[name] for name in logits},
        at_default={name: scores(name, thresholds[name].default) for name in logits},
        at_thresholds={name: scores(name, thresholds[name].of(labels)) for name in logits},
    )


def _six(scores: PrecisionRecall) -> dict[str, float | None]:
    return {name: figure(value) for name, value in asdict(scores).items()}
