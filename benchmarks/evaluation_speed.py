"""All figures of one predictor on a split of COCO's size, beside loops over items in Python.

Targets are those of COCO 2014 val where the shared data lie beside the checkout, otherwise made up
with as many positives. Scores are seeded.
"""

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from harness import Row, alternate
from numpy.typing import NDArray
from torch import Tensor

from cpsd.evaluation.metrics import evaluate
from cpsd.labels import LabelSpace, Targets

NUM_IMAGES, NUM_LABELS = 40_137, 80
TOP_K = 3
_COCO = Path(__file__).resolve().parents[2] / "shared" / "data" / "coco2014_val_labels.npz"

Figures = dict[str, float]
"""mAP, CP, CR, OP and OR, the last four also with ``top-``; as fractions."""


def measure(*, smoke: bool) -> list[Row]:
    """Return the seconds of all figures, and how much longer loops over items take."""
    targets_NC = _targets()
    if smoke:
        targets_NC = targets_NC[:500]
    noise_NC = np.random.default_rng(0).standard_normal(targets_NC.shape, np.float32)
    scores_NC = noise_NC + 2 * targets_NC - np.float32(2)
    labels = LabelSpace(tuple(f"label {c}" for c in range(targets_NC.shape[1])))
    scores, targets = torch.from_numpy(scores_NC), torch.from_numpy(targets_NC)
    rounds = 1 if smoke else 5
    fast = alternate(
        {
            "all figures": lambda: evaluate(scores_NC, targets_NC, labels),
            "a sort of all scores": lambda: np.sort(scores_NC.T, axis=1),
        },
        rounds,
    )
    # A loop takes up to a minute: once is enough, and what warms up has been warmed above.
    slow = alternate(
        {
            "tensors": lambda: figures_by_tensor_item(scores, targets),
            "numbers": lambda: figures_by_number(scores_NC.tolist(), targets_NC.tolist()),
        },
        1,
        warm_up=0,
    )
    seconds, sort = fast["all figures"], fast["a sort of all scores"]
    what = f"all evaluation figures, {targets_NC.shape[0]:,} x {targets_NC.shape[1]}"
    bound = f"sorting the scores: {sort:.3f} s"
    return [
        Row(what, seconds, "s", "<= 0.5", bound, sort / seconds),
        Row(
            f"a loop over items of tensors, as published / {what}",
            slow["tensors"] / seconds,
            "x",
            ">= 50",
            f"sorting the scores: {slow['tensors'] / sort:.0f} x",
            sort / seconds,
        ),
        Row(f"the same loop over Python's own numbers / {what}", slow["numbers"] / seconds, "x"),
    ]


def figures_by_tensor_item(scores_NC: Tensor, targets_NC: Tensor) -> Figures:
    """Return the figures as the published scripts come to them: item by item of tensors.

    Average precision and the top labels of a picture are loops over items; what is predicted and
    present is counted label by label.
    """
    precisions = []
    for scores_N, targets_N in zip(scores_NC.T, targets_NC.T, strict=True):
        hits, total = 0, 0.0
        for place, row in enumerate(torch.argsort(scores_N, descending=True), start=1):
            if targets_N[row] == 1:
                hits += 1
                total += hits / place
        precisions.append(total / hits if hits else math.nan)
    top_NC = torch.zeros_like(targets_NC)
    for row, columns in enumerate(scores_NC.topk(min(TOP_K, scores_NC.shape[1]))[1]):
        for column in columns:
            top_NC[row, column] = int(scores_NC[row, column] >= 0)
    found: Figures = {"mAP": float(np.nanmean(precisions))}
    for prefix, predicted_NC in (("", (scores_NC >= 0).to(torch.int8)), ("top-", top_NC)):
        counts = [
            (int((p * t).sum()), int(p.sum()), int(t.sum()))
            for p, t in zip(predicted_NC.T, targets_NC.T, strict=True)
        ]
        found |= _from_counts(prefix, counts)
    return found


def figures_by_number(
    scores: Sequence[Sequence[float]], targets: Sequence[Sequence[int]]
) -> Figures:
    """Return the figures by loops over Python's own numbers, the fastest such loops can be."""
    num_labels = len(targets[0])
    counts = {prefix: [[0, 0, 0] for _ in range(num_labels)] for prefix in ("", "top-")}
    for row_scores, row_targets in zip(scores, targets, strict=True):
        top = sorted(range(num_labels), key=row_scores.__getitem__, reverse=True)[:TOP_K]
        for c, target in enumerate(row_targets):
            predicted = row_scores[c] >= 0
            for prefix, said in (("", predicted), ("top-", predicted and c in top)):
                count = counts[prefix][c]
                count[0] += said and target
                count[1] += said
                count[2] += target
    precisions = []
    for c in range(num_labels):
        ranked = sorted(((s[c], t[c]) for s, t in zip(scores, targets, strict=True)), reverse=True)
        hits, total = 0, 0.0
        for place, (_, target) in enumerate(ranked, start=1):
            if target == 1:
                hits += 1
                total += hits / place
        precisions.append(total / hits if hits else math.nan)
    found: Figures = {"mAP": float(np.nanmean(precisions))}
    for prefix, by_label in counts.items():
        found |= _from_counts(prefix, by_label)
    return found


def _from_counts(prefix: str, counts: Sequence[Sequence[int]]) -> Figures:
    """Return precision and recall of hits, predicted and present by label; none without present."""
    scored = [count for count in counts if count[2]]
    hits, predicted, present = (sum(column) for column in zip(*counts, strict=True))
    return {
        f"{prefix}CP": sum(h / max(p, 1) for h, p, _ in scored) / len(scored),
        f"{prefix}CR": sum(h / t for h, _, t in scored) / len(scored),
        f"{prefix}OP": hits / max(predicted, 1),
        f"{prefix}OR": hits / present,
    }


def _targets() -> Targets:
    """Return 0 or 1 of COCO's val pictures and labels, or made up with as many positives."""
    if _COCO.is_file():
        with np.load(_COCO) as arrays:
            packed: NDArray[np.uint8] = arrays["targets"]
        return np.unpackbits(packed, axis=1)[:, :NUM_LABELS].astype(np.int8)
    rng = np.random.default_rng(1)
    return (rng.random((NUM_IMAGES, NUM_LABELS), np.float32) < 0.036).astype(np.int8)
