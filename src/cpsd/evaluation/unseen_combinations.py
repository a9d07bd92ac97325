"""Average precision on images whose exact label combination never occurred in training.

Such images are the test of a predictor that knows labels rather than habits. They are also harder
in themselves (often more labels), so predictors are compared on them, and the difference to the
other images is compared between predictors.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cpsd.evaluation.figures import figure
from cpsd.evaluation.metrics import average_precision, mean_average_precision
from cpsd.labels import ABSENT, PRESENT, UNKNOWN, LabelSpace, Targets

Logits = NDArray[np.float32]
Mask = NDArray[np.bool_]
_MOST_CELLS = 1 << 24


@dataclass(frozen=True, eq=False)
class Combinations:
    """Which images have a label combination that training has never shown.

    Args:
        unseen: ``(N,)``; no training image has the combination, however its unknown labels may be.
        seen: ``(N,)``; a training image, all its labels known, has the combination. An image
            that is neither is undetermined: one of its own labels is unknown, or only training
            images with unknown labels may have its combination.
        in_training: distinct combinations among the training images whose labels are all known.
    """

    unseen: Mask
    seen: Mask
    in_training: int


@dataclass(frozen=True)
class GroupScore:
    """One predictor's scores on one group of images.

    Args:
        mAP: over the labels that have positives in this group.
        mAP_common_labels: over the labels that have positives in both groups; only these two
            figures of a predictor may be compared.
    """

    mAP: float  # noqa: N815 - the field's name for it
    mAP_common_labels: float  # noqa: N815


@dataclass(frozen=True)
class UnseenFinding:
    """Scores on unseen label combinations against the rest.

    Args:
        unseen: number of images with an unseen combination.
        seen: number of images with a seen one.
        undetermined: number of images in neither group, see ``Combinations``.
        training_combinations: distinct combinations in training.
        common_labels: number of labels with positives in both groups.
        scores: predictor to scores on unseen and on seen combinations.
    """

    unseen: int
    seen: int
    undetermined: int
    training_combinations: int
    common_labels: int
    scores: dict[str, tuple[GroupScore, GroupScore]]

    def to_json(self) -> dict[str, Any]:
        """Return what ``findings/unseen-combinations-<split>.json`` holds."""
        return {
            "images": {
                "unseen": self.unseen,
                "seen": self.seen,
                "undetermined": self.undetermined,
            },
            "training_combinations": self.training_combinations,
            "common_labels": self.common_labels,
            "predictors": {
                name: {
                    "unseen": _json(unseen),
                    "seen": _json(seen),
                    "difference": figure(unseen.mAP_common_labels - seen.mAP_common_labels),
                }
                for name, (unseen, seen) in self.scores.items()
            },
        }


def compare_combinations(targets_NC: Targets, training_MC: Targets) -> Combinations:
    """Return which of the images have a label combination that training images have.

    Args:
        targets_NC: ``(N, C)`` of the images in question.
        training_MC: ``(M, C)`` of the training images.

    Raises:
        ValueError: the numbers of labels differ.

    Example:
        >>> found = compare_combinations(np.int8([[1, 1], [1, 0]]), np.int8([[1, 0], [0, 1]]))
        >>> found.unseen.tolist(), found.seen.tolist(), found.in_training
        ([True, False], [False, True], 2)
    """
    if targets_NC.shape[1] != training_MC.shape[1]:
        raise ValueError(f"{targets_NC.shape[1]} labels are not {training_MC.shape[1]}.")
    whole_N = (targets_NC != UNKNOWN).all(axis=1)
    whole_M = (training_MC != UNKNOWN).all(axis=1)
    known = set(_keys(training_MC[whole_M]))
    seen_N = np.array([key in known for key in _keys(targets_NC)], dtype=np.bool_) & whole_N
    unseen_N = whole_N & ~seen_N
    partial = np.unique(training_MC[~whole_M], axis=0) if not whole_M.all() else training_MC[:0]
    rows = np.flatnonzero(unseen_N)
    unseen_N[rows[_agree_with_any(targets_NC[rows], partial)]] = False
    return Combinations(unseen_N, seen_N, len(known))


def find_unseen_combinations(
    logits: Mapping[str, Logits],
    targets_NC: Targets,
    labels: LabelSpace,
    *,
    training_MC: Targets,
) -> UnseenFinding:
    """Return every predictor's mAP on unseen label combinations and on the rest.

    Args:
        logits: ``(N, C)`` by predictor.
        targets_NC: ``(N, C)`` of the same images.
        labels: the C labels.
        training_MC: ``(M, C)`` targets of the training images.

    Raises:
        ValueError: shapes that do not fit.
    """
    if targets_NC.shape[1] != len(labels):
        raise ValueError(f"{targets_NC.shape[1]} columns do not fit {len(labels)} labels.")
    found = compare_combinations(targets_NC, training_MC)
    groups = (found.unseen, found.seen)
    common_C = np.all([(targets_NC[group] == PRESENT).any(axis=0) for group in groups], axis=0)
    scores = {}
    for name, logits_NC in logits.items():
        aps = [average_precision(logits_NC[group], targets_NC[group]) for group in groups]
        unseen, seen = (
            GroupScore(mean_average_precision(ap_C), mean_average_precision(ap_C[common_C]))
            for ap_C in aps
        )
        scores[name] = (unseen, seen)
    return UnseenFinding(
        unseen=int(found.unseen.sum()),
        seen=int(found.seen.sum()),
        undetermined=int((~found.unseen & ~found.seen).sum()),
        training_combinations=found.in_training,
        common_labels=int(common_C.sum()),
        scores=scores,
    )


def _keys(targets_NC: Targets) -> list[bytes]:
    """Return what is equal for equal sets of present labels, unknown ones taken as absent."""
    return [row.tobytes() for row in np.packbits(targets_NC == PRESENT, axis=1)]


def _agree_with_any(targets_NC: Targets, partial_PC: Targets) -> Mask:
    """Return which fully known rows contradict at least one ``partial_PC`` row in no label."""
    agree_N = np.zeros(len(targets_NC), dtype=np.bool_)
    if not len(partial_PC):
        return agree_N
    present_CP = (partial_PC == PRESENT).astype(np.float32).T
    absent_CP = (partial_PC == ABSENT).astype(np.float32).T
    step = max(1, _MOST_CELLS // len(partial_PC))
    for start in range(0, len(targets_NC), step):
        there = (targets_NC[start : start + step] == PRESENT).astype(np.float32)
        contradictions = there @ absent_CP + (1 - there) @ present_CP
        agree_N[start : start + step] = (contradictions == 0).any(axis=1)
    return agree_N


def _json(score: GroupScore) -> dict[str, float | None]:
    return {"mAP": figure(score.mAP), "mAP_common_labels": figure(score.mAP_common_labels)}
