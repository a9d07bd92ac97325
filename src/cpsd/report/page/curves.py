"""Precision-recall and threshold curves of every label, small enough for one page.

A curve is kept as counts at some cuts, from high to low: pictures at or above the cut, and those
among them that have the label (hits). The counts are exact, so that precision and recall at these
cuts are too; between them the page draws straight lines. The size does not depend on the number of
pictures. Shapes: N pictures, T cuts.
"""

import base64
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cpsd.evaluation.prediction_files import PredictionFile
from cpsd.labels import PRESENT, UNKNOWN
from cpsd.report.page.run_files import RunFiles, in_predictor_order
from cpsd.report.page.traced import Traced

Counts = NDArray[np.int64]
THRESHOLDS = tuple(round(1 - step / 50, 2) for step in range(1, 50))
"""Probabilities of the threshold curves, from high to low."""
RECALL_POINTS = 40
"""Further cuts of a precision-recall curve, spread evenly over recall."""
MOST_BYTES = 7_000_000
"""Room for all curves; where it is too small the predictors that are shown last have none."""


@dataclass(frozen=True)
class CurveSet:
    """The curves of all labels for one predictor on one split.

    Args:
        split: of the pictures.
        predictor: whose.
        labels: of the predictions.
        images: known pictures by label.
        positives: pictures with the label, by label.
        at_thresholds: by label, encoded counts at ``THRESHOLDS``.
        at_recalls: by label, encoded counts spread over recall.
    """

    split: str
    predictor: str
    labels: tuple[str, ...]
    images: list[int]
    positives: list[int]
    at_thresholds: list[str]
    at_recalls: list[str]

    @property
    def size(self) -> int:
        """Bytes that the curves take on the page."""
        return sum(len(text) + 3 for text in (*self.at_thresholds, *self.at_recalls))


@dataclass(frozen=True)
class Curves:
    """All curves of a run, and which predictors had to be left out."""

    sets: list[CurveSet]
    left_out: list[str]


def gather_curves(files: RunFiles, boards: dict[str, Traced]) -> Curves:
    """Return the curves of every predictor on every test split, as far as there is room.

    Raises:
        RunError: a file of predictions is damaged.
    """
    names = {
        split: [name for name, _ in board.at("predictors").items()]
        for split, board in boards.items()
    }
    order = in_predictor_order(sorted({name for found in names.values() for name in found}))
    sets: list[CurveSet] = []
    left_out: list[str] = []
    room = MOST_BYTES
    for name in order:
        found = []
        for split in boards:
            predictions = files.predictions(name, split) if name in names[split] else None
            if predictions is not None:
                found.append(curve_set(predictions, split))
        size = sum(curves.size for curves in found)
        if left_out or size > room:
            left_out.append(name)
            continue
        room -= size
        sets += found
    return Curves(sets, left_out)


def curve_set(predictions: PredictionFile, split: str) -> CurveSet:
    """Return the curves of all labels of one file of predictions.

    Raises:
        RunError: the file is damaged.
    """
    images, positives, at_thresholds, at_recalls = [], [], [], []
    cuts = np.array([math.log(p / (1 - p)) for p in THRESHOLDS], dtype=np.float32)
    for logits_N, targets_N in predictions.by_label():
        scores_K = np.sort(logits_N[targets_N != UNKNOWN])
        hits_P = np.sort(logits_N[targets_N == PRESENT])
        images.append(len(scores_K))
        positives.append(len(hits_P))
        at_thresholds.append(encode(*counts_at(cuts, scores_K, hits_P)))
        at_recalls.append(encode(*counts_at(recall_cuts(hits_P), scores_K, hits_P)))
    return CurveSet(
        split=split,
        predictor=predictions.predictor,
        labels=predictions.labels.names,
        images=images,
        positives=positives,
        at_thresholds=at_thresholds,
        at_recalls=at_recalls,
    )


def counts_at(
    cuts_T: NDArray[np.float32], scores_N: NDArray[np.float32], hits_P: NDArray[np.float32]
) -> tuple[Counts, Counts]:
    """Return how many scores, and how many scores of positives, are at or above each cut.

    Args:
        cuts_T: from high to low.
        scores_N: of all pictures, ascending.
        hits_P: of the pictures with the label, ascending.

    Example:
        >>> scores = np.array([0.1, 0.4, 0.8], dtype=np.float32)
        >>> predicted, hits = counts_at(np.array([0.8, 0.2], dtype=np.float32), scores, scores[:2])
        >>> predicted.tolist(), hits.tolist()
        ([1, 2], [0, 1])
    """
    return (
        (len(scores_N) - np.searchsorted(scores_N, cuts_T, side="left")).astype(np.int64),
        (len(hits_P) - np.searchsorted(hits_P, cuts_T, side="left")).astype(np.int64),
    )


def recall_cuts(hits_P: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return at most ``RECALL_POINTS`` scores of positives, evenly spread, from high to low.

    Example:
        >>> recall_cuts(np.array([0.25, 0.5, 0.75], dtype=np.float32)).tolist()
        [0.75, 0.5, 0.25]
    """
    if not len(hits_P):
        return hits_P
    ranks = np.unique(np.linspace(0, len(hits_P) - 1, min(RECALL_POINTS, len(hits_P))).round())
    return hits_P[::-1][ranks.astype(np.intp)]


def encode(predicted_T: Counts, hits_T: Counts) -> str:
    """Return counts that never fall as text: their steps, seven bits to a byte, in base 64.

    The steps of ``predicted_T`` and ``hits_T`` take turns. A byte below 128 ends a number (LEB128).

    Example:
        >>> encode(np.array([1, 201]), np.array([1, 2]))
        'AQHIAQE='
    """
    steps = np.stack([np.diff(predicted_T, prepend=0), np.diff(hits_T, prepend=0)], axis=1)
    return base64.b64encode(_seven_bits(steps.ravel().tolist())).decode("ascii")


def _seven_bits(numbers: Sequence[int]) -> bytes:
    content = bytearray()
    for number in numbers:
        while number > 127:
            content.append(number & 127 | 128)
            number >>= 7
        content.append(number)
    return bytes(content)
