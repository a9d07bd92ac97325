"""Test images drawn again and again, and the metrics of every such resample at once.

Shapes: N images, C labels, R resamples. A resample draws N of the N images with replacement; what
it amounts to is a weight for each image: how often it was drawn. Metrics are those of
``cpsd.evaluation.metrics`` with each image counted as often as its weight says.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from cpsd.errors import DataError
from cpsd.evaluation.metrics import checked_scores
from cpsd.evaluation.predicted_labels import ScoreKind, Scores, predicted_labels
from cpsd.labels import PRESENT, UNKNOWN, Targets

Weights = NDArray[np.uint8]
"""``(N, R)``, how often each image stands in each resample."""
Floats = NDArray[np.float64]

_BLOCK_BYTES = 64 * 2**20
"""The most that the working copy of some resamples' weights, or of some labels' masks, takes."""
_FEWEST_RESAMPLES = 16
_EXACT_IN_FLOAT32 = 2**24


@dataclass(frozen=True, eq=False)
class ResampledMetrics:
    """A predictor's metrics under each resample, as fractions.

    NaN stands where a resample holds no positive of the label (of any label, for the first three).

    Args:
        mAP: ``(R,)``, the mean over the labels that have a positive in the resample.
        CF1: ``(R,)``.
        OF1: ``(R,)``.
        average_precision: ``(R, C)`` float32.
    """

    mAP: Floats  # noqa: N815 - the field's name for it
    CF1: Floats
    OF1: Floats
    average_precision: NDArray[np.float32]


def draw_image_weights(num_images: int, num_resamples: int, *, seed: int) -> Weights:
    """Return how often each image stands in each of ``num_resamples`` resamples, ``(N, R)``.

    Use the same weights for all predictors, so that their differences are paired. More resamples
    of the same seed begin with the same ones.

    Raises:
        ValueError: no image, or no resample.

    Example:
        >>> weights_NR = draw_image_weights(5, 3, seed=0)
        >>> weights_NR.shape, weights_NR.sum(axis=0).tolist()
        ((5, 3), [5, 5, 5])
    """
    if num_images < 1 or num_resamples < 1:
        raise ValueError(f"{num_resamples} resamples of {num_images} images: both must be >= 1.")
    rng = np.random.default_rng(seed)
    weights_NR = np.empty((num_images, num_resamples), np.uint8)
    for block in _blocks(num_resamples, 64):
        # A count above 255 is less likely than 1 in 255!, whatever the number of images.
        weights_NR[:, block] = np.transpose(
            [
                np.bincount(rng.integers(0, num_images, num_images), minlength=num_images)
                for _ in range(block.start, block.stop)
            ]
        )
    return weights_NR


def resampled_metrics(
    scores_NC: Scores,
    targets_NC: Targets,
    weights_NR: Weights,
    *,
    threshold: float | Floats = 0.5,
    kind: ScoreKind = "logits",
) -> ResampledMetrics:
    """Return mAP, CF1, OF1 and each label's average precision under every resample.

    They equal ``cpsd.evaluation.metrics.evaluate`` on the repeated rows: images with equal scores
    enter together, unknown targets count nowhere, and a label without a positive in a resample
    is left out of that resample's means.

    Args:
        scores_NC: ``(N, C)`` logits or probabilities.
        targets_NC: ``(N, C)``; 1 present, 0 absent, -1 unknown.
        weights_NR: ``(N, R)``, from ``draw_image_weights``.
        threshold: probability from which (inclusive) a label counts as predicted, or one for each
            label ``(C,)``.
        kind: whether the scores are logits or probabilities.

    Raises:
        DataError: scores that are not finite, or no image at all.
        ValueError: shapes that do not fit, a threshold not inside (0, 1), or probabilities
            outside [0, 1].

    Example:
        >>> logits_NC = np.array([[2.0], [1.0], [-1.0]])
        >>> targets_NC = np.array([[1], [0], [1]], dtype=np.int8)
        >>> weights_NR = np.array([[1, 0], [1, 2], [1, 1]], dtype=np.uint8)
        >>> resampled_metrics(logits_NC, targets_NC, weights_NR).mAP.round(4).tolist()
        [0.8333, 0.3333]
    """
    scores_NC = checked_scores(scores_NC, targets_NC)
    num_images, num_labels = scores_NC.shape
    if num_images == 0:
        raise DataError("There is no image to score: the split is empty.")
    if weights_NR.ndim != 2 or len(weights_NR) != num_images:
        raise ValueError(
            f"Weights of shape {weights_NR.shape} do not fit {num_images} images; they must be "
            "(images, resamples)."
        )
    predicted_NC = predicted_labels(scores_NC, threshold, kind=kind)
    num_resamples = weights_NR.shape[1]
    ap_CR = np.empty((num_labels, num_resamples))
    counts_3CR = np.empty((3, num_labels, num_resamples))
    for labels in _blocks(num_labels, max(1, _BLOCK_BYTES // (12 * num_images))):
        scores_CN = np.ascontiguousarray(scores_NC[:, labels].T)
        targets_CN = np.ascontiguousarray(targets_NC[:, labels].T)
        rankings = [_rank(z, y) for z, y in zip(scores_CN, targets_CN, strict=True)]
        masks_3CN = _masks(np.ascontiguousarray(predicted_NC[:, labels].T), targets_CN)
        for resamples in _blocks(
            num_resamples, max(_FEWEST_RESAMPLES, _BLOCK_BYTES // (4 * num_images))
        ):
            weights_NB = weights_NR[:, resamples].astype(masks_3CN.dtype)
            counts_3CR[:, labels, resamples] = masks_3CN @ weights_NB
            for c, ranking in enumerate(rankings, labels.start):
                ap_CR[c, resamples] = _weighted_average_precision(ranking, weights_NB)
    cf1_R, of1_R = _f1(counts_3CR)
    return ResampledMetrics(
        mAP=_mean_where(ap_CR, ~np.isnan(ap_CR)),
        CF1=cf1_R,
        OF1=of1_R,
        average_precision=np.ascontiguousarray(ap_CR.T, dtype=np.float32),
    )


@dataclass(frozen=True, eq=False)
class _Ranking:
    """One label's images from the highest score down, cut where precision is asked for.

    Args:
        images: known images to the end of the last group of equal scores with a positive.
        ends: ``(G + 1,)``, 0 and where each of the G groups with a positive ends in ``images``.
        positives: the positives in the same order.
        positive_ends: ``(G + 1,)``, the groups' bounds in ``positives``.
    """

    images: NDArray[np.int32]
    ends: NDArray[np.int32]
    positives: NDArray[np.int32]
    positive_ends: NDArray[np.int32]


def _rank(scores_N: NDArray[np.floating[Any]], targets_N: Targets) -> _Ranking:
    known = np.flatnonzero(targets_N != UNKNOWN)
    images = known[np.argsort(-scores_N[known])].astype(np.int32)
    is_positive = targets_N[images] == PRESENT
    ranked = scores_N[images]
    last_of_group = np.append(ranked[1:] != ranked[:-1], True)[: len(images)]
    all_ends = np.flatnonzero(last_of_group) + 1
    positives_at = np.append(0, np.cumsum(is_positive))[all_ends]
    has_positive = np.diff(positives_at, prepend=0) > 0
    ends = np.append(0, all_ends[has_positive]).astype(np.int32)
    return _Ranking(
        images=images[: ends[-1]],
        ends=ends,
        positives=images[is_positive],
        positive_ends=np.append(0, positives_at[has_positive]).astype(np.int32),
    )


def _weighted_average_precision(ranking: _Ranking, weights_NB: NDArray[np.floating[Any]]) -> Floats:
    num_groups = len(ranking.ends) - 1
    if num_groups == 0:
        return np.full(weights_NB.shape[1], np.nan)
    hits_GB = _group_sums(ranking.positives, ranking.positive_ends, weights_NB)
    seen_GB = _group_sums(ranking.images, ranking.ends, weights_NB)
    # Above a group of weight 0 nothing may have been drawn at all: its precision counts 0 times.
    precision_GB = np.cumsum(hits_GB, axis=0, dtype=np.float64)
    positives_B = precision_GB[-1].copy()
    precision_GB /= np.maximum(np.cumsum(seen_GB, axis=0, dtype=np.float64), 1)
    precision_GB *= hits_GB
    total_B = precision_GB.sum(axis=0)
    return np.where(positives_B > 0, total_B / np.maximum(positives_B, 1), np.nan)


def _group_sums(
    images: NDArray[np.int32], ends: NDArray[np.int32], weights_NB: NDArray[np.floating[Any]]
) -> NDArray[np.floating[Any]]:
    """Return the weight ``(G, B)`` of each group of ``images``."""
    # A sparse product adds whole rows of B weights; np.add.reduceat takes six times as long.
    groups_GN = sparse.csr_array(
        (np.ones(len(images), weights_NB.dtype), images, ends),
        shape=(len(ends) - 1, len(weights_NB)),
    )
    return np.asarray(groups_GN @ weights_NB)


def _masks(predicted_CN: NDArray[np.bool_], targets_CN: Targets) -> NDArray[np.floating[Any]]:
    """Return which entries are present, hits, and predicted, ``(3, C, N)``."""
    present_CN = targets_CN == PRESENT
    known_CN = targets_CN != UNKNOWN
    masks_3CN = np.stack([present_CN, present_CN & predicted_CN, known_CN & predicted_CN])
    # Sums of whole numbers are exact in float32 up to 2^24, and no sum exceeds N.
    exact = np.float32 if targets_CN.shape[1] < _EXACT_IN_FLOAT32 else np.float64
    return masks_3CN.astype(exact)


def _f1(counts_3CR: Floats) -> tuple[Floats, Floats]:
    """Return CF1 and OF1 ``(R,)`` as ``precision_recall`` defines them."""
    present_CR, hits_CR, predicted_CR = counts_3CR
    scored_CR = present_CR > 0
    precision_CR = hits_CR / np.maximum(predicted_CR, 1)
    recall_CR = hits_CR / np.maximum(present_CR, 1)
    cf1_R = _harmonic_means(_mean_where(precision_CR, scored_CR), _mean_where(recall_CR, scored_CR))
    hits_R, present_R = hits_CR.sum(axis=0), present_CR.sum(axis=0)
    op_R = np.where(present_R > 0, hits_R / np.maximum(predicted_CR.sum(axis=0), 1), np.nan)
    return cf1_R, _harmonic_means(op_R, hits_R / np.maximum(present_R, 1))


def _harmonic_means(first_R: Floats, second_R: Floats) -> Floats:
    total_R = first_R + second_R
    return 2 * first_R * second_R / np.where(total_R > 0, total_R, 1)


def _mean_where(values_CR: Floats, chosen_CR: NDArray[np.bool_]) -> Floats:
    """Return the mean of the chosen values of each column; NaN where none is chosen."""
    counts_R = np.count_nonzero(chosen_CR, axis=0)
    totals_R = np.where(chosen_CR, values_CR, 0).sum(axis=0)
    return np.where(counts_R > 0, totals_R / np.maximum(counts_R, 1), math.nan)


def _blocks(total: int, size: int) -> Iterator[slice]:
    return (slice(start, min(start + size, total)) for start in range(0, total, size))
