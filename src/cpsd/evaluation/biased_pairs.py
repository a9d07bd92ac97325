"""Biased pairs: a label with and without the context that a classifier expects it in.

After Singh et al., "Don't Judge an Object by Its Context: Learning to Overcome Contextual Bias"
(CVPR 2020), section 3. The bias of a label b to a context z is the ratio of a classifier's mean
probability of b on images with both to that on images with b alone::

    bias(b, z) = mean of p(b) over images with b and z / mean of p(b) over images with b, not z

A label's context is the z of the highest bias among those that stand on enough of its images, and
the labels of the highest bias are kept. Each label is then scored by average precision on two sets:
its *co-occurring* images (with the context) and its *exclusive* ones (without), both against all
images without the label. The two sets differ in their share of positives, which average precision
feels: compare predictors on the same set, not one set with the other.

What differs from the paper: its classifier and images are a plain one and a fifth of the training
images kept from it, ours the baseline and the validation split; we ask for a fewest number of
images besides the share, and for a bias above 1, because small data sets have fewer biased labels
than the paper's 20.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from cpsd.evaluation.figures import figure
from cpsd.evaluation.metrics import average_precision
from cpsd.evaluation.pair_counts import images_of_pairs, pair_sums
from cpsd.labels import ABSENT, PRESENT, LabelSpace, Targets

Logits = NDArray[np.float32]

CO_OCCURRENCE = 0.1
"""Least share of the label's images that its context is on."""
SUPPORT = 10
"""Fewest images with and without the context, where pairs are chosen and where they are scored."""
MOST_PAIRS = 20
"""The paper's K: pairs of the highest bias that are kept."""


@dataclass(frozen=True)
class BiasedPair:
    """A label, its context, and by how much the one hangs on the other.

    Args:
        label: the label b.
        context: the context c.
        bias: the classifier's mean probability of b with c over that without c; above 1.
    """

    label: str
    context: str
    bias: float


@dataclass(frozen=True)
class ScoredPair:
    """A biased pair with the predictors' average precision on one split.

    Args:
        pair: the pair.
        co_occurring: images with label and context.
        exclusive: images with the label, without the context.
        without_label: images without the label.
        scores: predictor to average precision on co-occurring and on exclusive images.
    """

    pair: BiasedPair
    co_occurring: int
    exclusive: int
    without_label: int
    scores: dict[str, tuple[float, float]]


@dataclass(frozen=True)
class BiasedPairsFinding:
    """Average precision with and without the expected context.

    Args:
        chosen_on: the split that pairs were chosen on.
        chosen_by: the predictor whose probabilities chose them.
        chosen: the number of pairs chosen.
        pairs: those of them that the split has enough images of, the highest bias first.
    """

    chosen_on: str
    chosen_by: str
    chosen: int
    pairs: tuple[ScoredPair, ...]

    def to_json(self) -> dict[str, Any]:
        """Return what ``findings/biased-pairs-<split>.json`` holds."""
        names = self.pairs[0].scores if self.pairs else {}
        return {
            "chosen_on": self.chosen_on,
            "chosen_by": self.chosen_by,
            "support": {
                "co_occurrence": CO_OCCURRENCE,
                "images": SUPPORT,
                "test_images": SUPPORT,
            },
            "most_pairs": MOST_PAIRS,
            "pairs_considered": self.chosen,
            "pairs_left_out": self.chosen - len(self.pairs),
            "mean": {
                name: _both(np.mean([pair.scores[name] for pair in self.pairs], axis=0))
                for name in names
            },
            "pairs": [
                {
                    "label": scored.pair.label,
                    "context": scored.pair.context,
                    "bias": figure(scored.pair.bias),
                    "images": {
                        "co_occurring": scored.co_occurring,
                        "exclusive": scored.exclusive,
                        "without_label": scored.without_label,
                    },
                    "predictors": {name: _both(aps) for name, aps in scored.scores.items()},
                }
                for scored in self.pairs
            ],
        }


def choose_biased_pairs(
    logits_NC: Logits, targets_NC: Targets, labels: LabelSpace
) -> tuple[BiasedPair, ...]:
    """Return the most biased pairs of a classifier, at most ``MOST_PAIRS``, the highest bias first.

    A context stands on at least ``CO_OCCURRENCE`` of the label's images, and the label has at
    least ``SUPPORT`` images with and ``SUPPORT`` without it; images on which either is unknown
    count for the pair nowhere. Equal biases go to the label, then the context, that stands first.

    Args:
        logits_NC: ``(N, C)`` logits of a classifier on images that it was not trained on.
        targets_NC: ``(N, C)`` of the same images.
        labels: the C labels.

    Raises:
        ValueError: shapes that do not fit.
    """
    if targets_NC.shape[1] != len(labels):
        raise ValueError(f"{targets_NC.shape[1]} columns do not fit {len(labels)} labels.")
    sums = pair_sums(expit(logits_NC), targets_NC)[:2]
    images = images_of_pairs(targets_NC)[:2]
    mean_with, mean_without = sums / np.maximum(images, 1)
    bias_CC = mean_with / np.maximum(mean_without, np.finfo(np.float32).tiny)
    supported_CC = (images >= SUPPORT).all(axis=0)
    supported_CC &= images[0] / np.maximum(images.sum(axis=0), 1) >= CO_OCCURRENCE
    np.fill_diagonal(supported_CC, val=False)
    bias_CC = np.where(supported_CC, bias_CC, 0)
    context_C = bias_CC.argmax(axis=1)
    bias_C = bias_CC.max(axis=1)
    chosen = [b for b in np.argsort(-bias_C, kind="stable")[:MOST_PAIRS] if bias_C[b] > 1]
    return tuple(
        BiasedPair(labels.names[b], labels.names[context_C[b]], float(bias_C[b])) for b in chosen
    )


def find_biased_pairs(
    logits: Mapping[str, Logits],
    targets_NC: Targets,
    labels: LabelSpace,
    *,
    pairs: tuple[BiasedPair, ...],
    chosen_by: str = "baseline",
    chosen_on: str = "validation",
) -> BiasedPairsFinding:
    """Return every predictor's average precision with and without the pairs' context.

    Args:
        logits: ``(N, C)`` by predictor.
        targets_NC: ``(N, C)`` of the same images. Images with the label on which the context is
            unknown are in neither set.
        labels: the C labels.
        pairs: what ``choose_biased_pairs`` chose on other images.
        chosen_by: whose probabilities chose them.
        chosen_on: the split that they were chosen on.

    Raises:
        DataError: a pair has a label that is not among ``labels``.
    """
    scored = []
    for pair in pairs:
        b, c = labels.index(pair.label), labels.index(pair.context)
        present_N = targets_NC[:, b] == PRESENT
        without_N = targets_NC[:, b] == ABSENT
        sets = [present_N & (targets_NC[:, c] == state) for state in (PRESENT, ABSENT)]
        together, alone = (int(positives_N.sum()) for positives_N in sets)
        if min(together, alone) < SUPPORT or not without_N.any():
            continue
        scores = {}
        for name, logits_NC in logits.items():
            with_context, exclusive = (
                _average_precision(logits_NC, targets_NC, b, positives_N | without_N)
                for positives_N in sets
            )
            scores[name] = (with_context, exclusive)
        scored.append(ScoredPair(pair, together, alone, int(without_N.sum()), scores))
    return BiasedPairsFinding(chosen_on, chosen_by, len(pairs), tuple(scored))


def _average_precision(
    logits_NC: Logits, targets_NC: Targets, column: int, rows_N: NDArray[np.bool_]
) -> float:
    alone = slice(column, column + 1)
    return float(average_precision(logits_NC[rows_N, alone], targets_NC[rows_N, alone])[0])


def _both(average_precisions: tuple[float, float] | NDArray[Any]) -> dict[str, float | None]:
    co_occurring, exclusive = average_precisions
    return {"co_occurring": figure(float(co_occurring)), "exclusive": figure(float(exclusive))}
