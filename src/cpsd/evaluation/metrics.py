"""Metrics of multi-label scores: average precision, and precision, recall and F1 two ways.

All figures are fractions. Unknown targets (-1) count nowhere. A label without a known positive
has no average precision, precision or recall: it is left out of every mean over labels and named.
What is predicted on it counts in OP, where it is as wrong as any other false alarm.
"""

import math
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cpsd.errors import DataError
from cpsd.evaluation.predicted_labels import ScoreKind, Scores, predicted_labels
from cpsd.labels import PRESENT, UNKNOWN, LabelSpace, Targets

METRICS = ("mAP", "CF1", "OF1")
"""The figures that results are told by, in their order."""


@dataclass(frozen=True)
class PrecisionRecall:
    """Precision, recall and F1 of one set of predictions, as fractions; NaN without positives.

    ``CP`` and ``CR`` are means over the labels that have positives, ``CF1`` the harmonic mean of
    the two (not the mean of the labels' F1). ``OP``, ``OR`` and ``OF1`` are over all entries. A
    label that is never predicted has precision 0, as in scikit-learn with ``zero_division=0``.
    """

    CP: float
    CR: float
    CF1: float
    OP: float
    OR: float
    OF1: float


@dataclass(frozen=True)
class Metrics(PrecisionRecall):
    """All metrics of one predictor on one split; CP to OF1 are those at the threshold.

    Args:
        mAP: mean of ``average_precision`` over the labels with positives.
        at_top_k: the same six where only a picture's ``top_k`` highest labels, of those that
            reach the threshold, are predicted.
        average_precision: label to average precision; NaN for an excluded label.
        excluded_labels: the labels without a known positive.
        num_images: pictures scored.
        threshold: probability from which a label counts as predicted; by label where each has its
            own.
        top_k: labels a picture in ``at_top_k``.
    """

    mAP: float  # noqa: N815 - the field's name for it
    at_top_k: PrecisionRecall
    average_precision: dict[str, float]
    excluded_labels: tuple[str, ...]
    num_images: int
    threshold: float | dict[str, float]
    top_k: int

    def to_json(self) -> dict[str, Any]:
        """Return what JSON can hold: NaN as null, the top-k figures under ``top<k>``."""
        six = [field.name for field in fields(PrecisionRecall)]
        return {
            "mAP": _number(self.mAP),
            **{name: _number(getattr(self, name)) for name in six},
            f"top{self.top_k}": {k: _number(v) for k, v in asdict(self.at_top_k).items()},
            "average_precision": {k: _number(v) for k, v in self.average_precision.items()},
            "excluded_labels": list(self.excluded_labels),
            "num_images": self.num_images,
            "threshold": self.threshold,
            "top_k": self.top_k,
        }


def evaluate(
    scores_NC: Scores,
    targets_NC: Targets,
    labels: LabelSpace,
    *,
    threshold: float | NDArray[np.floating[Any]] = 0.5,
    top_k: int = 3,
    kind: ScoreKind = "logits",
) -> Metrics:
    """Return all metrics of ``scores_NC``.

    Logits are ranked and cut as logits: their float32 probabilities would tie where they saturate.

    Args:
        scores_NC: ``(N, C)`` logits or probabilities.
        targets_NC: ``(N, C)``; 1 present, 0 absent, -1 unknown.
        labels: the C labels.
        threshold: probability from which (inclusive) a label counts as predicted; a number, or
            ``(C,)`` with one for each label.
        top_k: how many labels a picture has at most in the top-k figures; equal scores go to the
            label that stands first. An unknown label takes its place among them, then counts not.
        kind: whether the scores are logits or probabilities.

    Raises:
        DataError: scores that are not finite, or no picture at all.
        ValueError: shapes that do not fit, a threshold not inside (0, 1), ``top_k`` below 1, or
            probabilities outside [0, 1].

    Example:
        >>> metrics = evaluate(
        ...     np.array([[2.0, -1.0], [-3.0, 1.0]]),
        ...     np.array([[1, 0], [0, 0]], dtype=np.int8),
        ...     LabelSpace(("cat", "dog")),
        ... )
        >>> metrics.mAP, metrics.CP, metrics.OP, metrics.excluded_labels
        (1.0, 1.0, 0.5, ('dog',))
    """
    scores_NC = checked_scores(scores_NC, targets_NC)
    if scores_NC.shape[1] != len(labels):
        raise ValueError(f"{scores_NC.shape[1]} columns of scores do not fit {len(labels)} labels.")
    if scores_NC.shape[0] == 0:
        raise DataError("There is no picture to score: the split is empty.")
    ap_C = _average_precision(scores_NC, targets_NC)
    predicted_NC = predicted_labels(scores_NC, threshold, kind=kind)
    top_NC = predicted_NC & top_k_mask(scores_NC, top_k)
    return Metrics(
        **asdict(precision_recall(predicted_NC, targets_NC)),
        mAP=mean_average_precision(ap_C),
        at_top_k=precision_recall(top_NC, targets_NC),
        average_precision=dict(zip(labels, ap_C.tolist(), strict=True)),
        excluded_labels=tuple(labels.names[c] for c in np.flatnonzero(np.isnan(ap_C))),
        num_images=scores_NC.shape[0],
        threshold=_threshold_in_words(threshold, labels),
        top_k=top_k,
    )


def average_precision(scores_NC: Scores, targets_NC: Targets) -> NDArray[np.float64]:
    """Return each label's average precision ``(C,)``; NaN for a label without known positives.

    The area under the precision-recall curve by steps, ``sum (R_n - R_(n-1)) P_n`` over the
    distinct scores: pictures with equal scores enter together (scikit-learn's definition), so the
    order of pictures does not matter.

    Args:
        scores_NC: ``(N, C)`` scores; higher means rather present.
        targets_NC: ``(N, C)``; 1 present, 0 absent, -1 unknown.

    Raises:
        DataError: scores that are not finite.
        ValueError: shapes that do not fit.

    Example:
        >>> scores_NC = np.array([[0.9, 0.1], [0.8, 0.2], [0.8, 0.3]])
        >>> targets_NC = np.array([[1, 0], [1, 0], [0, 0]], dtype=np.int8)
        >>> average_precision(scores_NC, targets_NC).round(4).tolist()
        [0.8333, nan]
    """
    return _average_precision(checked_scores(scores_NC, targets_NC), targets_NC)


def mean_average_precision(average_precision_C: NDArray[np.float64]) -> float:
    """Return the mean over the labels that have an average precision; NaN where none has.

    Example:
        >>> mean_average_precision(np.array([0.5, np.nan, 1.0]))
        0.75
    """
    present_C = average_precision_C[~np.isnan(average_precision_C)]
    return float(present_C.mean()) if present_C.size else math.nan


def precision_recall(predicted_NC: NDArray[np.bool_], targets_NC: Targets) -> PrecisionRecall:
    """Return precision, recall and F1 of ``predicted_NC``, per label (C) and overall (O).

    Args:
        predicted_NC: ``(N, C)``, which labels are predicted.
        targets_NC: ``(N, C)``; 1 present, 0 absent, -1 unknown.

    Example:
        >>> predicted_NC = np.array([[True, True], [True, False]])
        >>> scores = precision_recall(predicted_NC, np.array([[1, 1], [0, 1]], dtype=np.int8))
        >>> scores.CP, scores.CR, round(scores.OP, 4)
        (0.75, 0.75, 0.6667)
    """
    present_NC = targets_NC == PRESENT
    present_C = _count_by_label(present_NC)
    hits_C = _count_by_label(predicted_NC & present_NC)
    predicted_C = _count_by_label(predicted_NC & (targets_NC != UNKNOWN))
    if not present_C.any():
        return PrecisionRecall(*[math.nan] * 6)
    scored = present_C > 0
    # A label never predicted has no hits either, so 0 / 1 is its precision of 0.
    cp = float((hits_C[scored] / np.maximum(predicted_C[scored], 1)).mean())
    cr = float((hits_C[scored] / present_C[scored]).mean())
    op = float(hits_C.sum() / max(predicted_C.sum(), 1))
    or_ = float(hits_C.sum() / present_C.sum())
    return PrecisionRecall(cp, cr, _harmonic_mean(cp, cr), op, or_, _harmonic_mean(op, or_))


def top_k_mask(scores_NC: Scores, top_k: int) -> NDArray[np.bool_]:
    """Return which labels ``(N, C)`` are among the ``top_k`` highest of their picture.

    Of equal scores those of the first labels are taken; with ``top_k >= C`` all are.

    Raises:
        ValueError: ``top_k`` below 1.

    Example:
        >>> top_k_mask(np.array([[1.0, 3.0, 1.0, 0.0]]), 2).tolist()
        [[True, True, False, False]]
    """
    if top_k < 1:
        raise ValueError(f"top_k is {top_k}; it must be at least 1.")
    num_labels = scores_NC.shape[1]
    if top_k >= num_labels:
        return np.ones(scores_NC.shape, dtype=np.bool_)
    last_N1 = np.partition(scores_NC, num_labels - top_k, axis=1)[:, num_labels - top_k, None]
    mask_NC: NDArray[np.bool_] = scores_NC >= last_N1
    crowded = np.flatnonzero(np.count_nonzero(mask_NC, axis=1) > top_k)
    if crowded.size:
        above = scores_NC[crowded] > last_N1[crowded]
        tied = mask_NC[crowded] & ~above
        room = top_k - np.count_nonzero(above, axis=1, keepdims=True)
        mask_NC[crowded] = above | (tied & (np.cumsum(tied, axis=1) <= room))
    return mask_NC


def checked_scores(scores_NC: Scores, targets_NC: Targets) -> Scores:
    """Return scores as float32 or float64, after checking that they can be ranked.

    Raises:
        DataError: scores that are not finite.
        ValueError: shapes that do not fit.
    """
    if scores_NC.ndim != 2 or scores_NC.shape != targets_NC.shape:
        raise ValueError(
            f"Scores of shape {scores_NC.shape} do not fit targets of shape {targets_NC.shape}; "
            "both must be (images, labels)."
        )
    finite_NC = np.isfinite(scores_NC)
    if not finite_NC.all():
        row, column = np.argwhere(~finite_NC)[0]
        raise DataError(
            f"{np.count_nonzero(~finite_NC)} scores are not finite (the first in row {row}, label "
            f"column {column}: {scores_NC[row, column]}); such a predictor cannot be ranked."
        )
    exact = scores_NC.dtype in (np.float32, np.float64)
    return scores_NC if exact else scores_NC.astype(np.result_type(scores_NC.dtype, np.float32))


def _average_precision(scores_NC: Scores, targets_NC: Targets) -> NDArray[np.float64]:
    # Precision at a positive's score is (positives >= score) / (all >= score), and the average is
    # over positives: two sorts of plain values and no argsort. An unknown is below every score.
    scores_CN = np.ascontiguousarray(scores_NC.T)
    targets_CN = np.ascontiguousarray(targets_NC.T)
    ranked_CN = np.where(targets_CN == UNKNOWN, scores_CN.dtype.type(-np.inf), scores_CN)
    ranked_CN.sort(axis=1)
    num_images = ranked_CN.shape[1]
    ap_C = np.full(len(ranked_CN), np.nan)
    for c, ranked_N in enumerate(ranked_CN):
        positives = np.sort(scores_CN[c, targets_CN[c] == PRESENT])
        if positives.size:
            first_of_tie = np.arange(positives.size)
            first_of_tie[1:][positives[1:] == positives[:-1]] = 0
            hits = positives.size - np.maximum.accumulate(first_of_tie)
            ap_C[c] = np.mean(hits / (num_images - np.searchsorted(ranked_N, positives)))
    return ap_C


def _threshold_in_words(
    threshold: float | NDArray[np.floating[Any]], labels: LabelSpace
) -> float | dict[str, float]:
    if np.ndim(threshold) == 0:
        return float(threshold)
    return dict(zip(labels, np.asarray(threshold).tolist(), strict=True))


def _count_by_label(mask_NC: NDArray[np.bool_]) -> NDArray[np.int64]:
    return np.asarray(np.count_nonzero(mask_NC, axis=0), dtype=np.int64)


def _harmonic_mean(first: float, second: float) -> float:
    return 2 * first * second / (first + second) if first + second > 0 else 0.0


def _number(value: float) -> float | None:
    return None if math.isnan(value) else value
