"""Does a predictor lean on context? Recall and false alarms of a label with and without another.

For an ordered pair (label, context) the images fall into four cells (``CELLS``). Where a predictor
leans on context, the label's recall is higher with the context than without it, and so are its
false alarms: the label is predicted because the context is there. The two differences are the
*recall gap* and the *false-alarm gap*. Pairs of too few images in one of the cells are left out.

Of all pairs only those are kept that lead a ranking. Small cells would lead by noise, so a ranking
goes by ``|value| - 1.96 standard errors``: the smallest size that the 95 % interval allows. Among
very many pairs some intervals lie off zero by chance; a ranking shows where to look, and is no
test.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cpsd.evaluation.figures import figure
from cpsd.evaluation.pair_counts import CELLS, images_of_pairs, pair_sums
from cpsd.evaluation.predicted_labels import predicted_labels
from cpsd.labels import LabelSpace, Targets

Logits = NDArray[np.float32]
Floats = NDArray[np.float64]
Threshold = float | NDArray[np.float64]

SUPPORT = 10
"""Fewest images in each of a pair's four cells."""
MOST_LISTED = 25
"""Pairs at the head of each ranking."""
RATES = (
    "recall_with_context",
    "recall_without_context",
    "false_alarms_with_context",
    "false_alarms_without_context",
)
"""The share of a cell's images on which the label is predicted, in the order of ``CELLS``."""
GAPS = {"recall_gap": (0, 1), "false_alarm_gap": (2, 3)}
"""Differences of two cells' rates: with context minus without."""

_TWO_SIDED_95 = 1.96


@dataclass(frozen=True)
class Change:
    """How far a gap has moved between two predictors; negative: the second leans less on context.

    Args:
        value: the second's gap minus the first's.
        standard_error: of ``value``, for the same images seen by both.
    """

    value: float
    standard_error: float

    def to_json(self) -> dict[str, float | None]:
        """Return both as JSON holds them."""
        return {"value": figure(self.value), "standard_error": figure(self.standard_error)}


@dataclass(frozen=True)
class ContextPair:
    """One ordered pair of labels.

    Args:
        label: the label that is predicted.
        context: the label that is there or not.
        images: images by cell.
        rates: predictor to rates and gaps by name.
        changes: gap to how far it moved; empty where no two predictors are compared.
    """

    label: str
    context: str
    images: dict[str, int]
    rates: dict[str, dict[str, float]]
    changes: dict[str, Change]

    def to_json(self) -> dict[str, Any]:
        """Return the pair as ``findings/context-<split>.json`` holds it."""
        moved = {gap: self.changes[gap].to_json() if self.changes else None for gap in GAPS}
        return {
            "label": self.label,
            "context": self.context,
            "images": self.images,
            "predictors": {name: _rounded(rates) for name, rates in self.rates.items()},
            **{f"{gap}_change": change for gap, change in moved.items()},
        }


@dataclass(frozen=True)
class ContextFinding:
    """How predictors depend on context, over all supported pairs and on those that stand out.

    Args:
        threshold: probability from which a label counts as predicted.
        considered: ordered pairs of the labels.
        supported: those with at least ``SUPPORT`` images in each cell.
        compared: the two predictors between which pairs move, None if one is missing.
        largest_of: the predictor whose largest gaps are ranked.
        means: predictor to rates and gaps, means over the supported pairs.
        pairs: the pairs of the rankings, each once.
        rankings: name to places in ``pairs``, the foremost first.
    """

    threshold: float | dict[str, float]
    considered: int
    supported: int
    compared: tuple[str, str] | None
    largest_of: str
    means: dict[str, dict[str, float]]
    pairs: tuple[ContextPair, ...]
    rankings: dict[str, tuple[int, ...]]

    def to_json(self) -> dict[str, Any]:
        """Return what ``findings/context-<split>.json`` holds."""
        return {
            "threshold": self.threshold,
            "support": dict.fromkeys(CELLS, SUPPORT),
            "pairs_considered": self.considered,
            "pairs_supported": self.supported,
            "pairs_without_support": self.considered - self.supported,
            "pairs_listed": len(self.pairs),
            "compared": list(self.compared) if self.compared else None,
            "largest_of": self.largest_of,
            "means": {name: _rounded(means) for name, means in self.means.items()},
            "pairs": [pair.to_json() for pair in self.pairs],
            "rankings": {name: list(places) for name, places in self.rankings.items()},
        }


def find_context(
    logits: Mapping[str, Logits],
    targets_NC: Targets,
    labels: LabelSpace,
    *,
    threshold: Threshold = 0.5,
    compared: tuple[str, str] = ("baseline", "student"),
) -> ContextFinding:
    """Return how much each predictor's recall and false alarms depend on other labels.

    Args:
        logits: ``(N, C)`` by predictor.
        targets_NC: ``(N, C)``; an image on which one label of a pair is unknown counts for that
            pair nowhere.
        labels: the C labels.
        threshold: probability from which a label counts as predicted, one or ``(C,)``.
        compared: the pairs that moved most are those between these two, if both are there.

    Raises:
        ValueError: no predictor, or shapes that do not fit.
    """
    if not logits:
        raise ValueError("There is no predictor to look at.")
    predicted = {name: predicted_labels(z_NC, threshold) for name, z_NC in logits.items()}
    images = images_of_pairs(targets_NC)
    hits = {name: pair_sums(mask_NC, targets_NC) for name, mask_NC in predicted.items()}
    supported_CC = (images >= SUPPORT).all(axis=0) & ~np.eye(len(labels), dtype=np.bool_)
    both_there = all(name in logits for name in compared)
    leader = compared[0] if compared[0] in logits else next(iter(logits))
    scores, changes = {}, {}
    if both_there:
        first, second = compared
        both = pair_sums(predicted[first] & predicted[second], targets_NC)
        changes = _changes(hits[first], hits[second], both, images)
        for gap, (value_CC, error_CC) in changes.items():
            certain_CC = np.abs(value_CC) - _TWO_SIDED_95 * error_CC
            scores[f"{gap}_moved"] = np.where(value_CC != 0, certain_CC, -np.inf)
    else:
        scores |= {f"{gap}_moved": np.full_like(images[0], -np.inf) for gap in GAPS}
    for gap, (value_CC, error_CC) in _gaps(hits[leader], images).items():
        certain_CC = value_CC - _TWO_SIDED_95 * error_CC
        scores[f"{gap}_largest"] = np.where(value_CC > 0, certain_CC, -np.inf)
    leading = {name: _leading(score, supported_CC) for name, score in scores.items()}
    listed = list(dict.fromkeys(pair for pairs in leading.values() for pair in pairs))
    rates = {name: _rates(counts, images) for name, counts in hits.items()}
    return ContextFinding(
        threshold=float(threshold)
        if np.ndim(threshold) == 0
        else dict(zip(labels, np.asarray(threshold).tolist(), strict=True)),
        considered=len(labels) * (len(labels) - 1),
        supported=int(supported_CC.sum()),
        compared=compared if both_there else None,
        largest_of=leader,
        means={
            name: {key: _mean(rate[supported_CC]) for key, rate in rates[name].items()}
            for name in logits
        },
        pairs=tuple(_pair(pair, labels, images, rates, changes) for pair in listed),
        rankings={
            name: tuple(listed.index(pair) for pair in pairs) for name, pairs in leading.items()
        },
    )


def _rates(hits: Floats, images: Floats) -> dict[str, Floats]:
    """Return the rates and gaps ``(C, C)`` by name; NaN in empty cells."""
    shares = np.divide(hits, images, out=np.full_like(hits, np.nan), where=images > 0)
    rates = dict(zip(RATES, shares, strict=True))
    gaps = {gap: shares[there] - shares[without] for gap, (there, without) in GAPS.items()}
    return rates | gaps


def _gaps(hits: Floats, images: Floats) -> dict[str, tuple[Floats, Floats]]:
    """Return each gap ``(C, C)`` with its standard error.

    The error is that of Agresti and Caffo (2000) for two independent shares: with one success and
    one failure added to each, so that a cell without any is not taken to be sure.
    """
    share = (hits + 1) / (images + 2)
    variance = share * (1 - share) / (images + 2)
    rates = _rates(hits, images)
    return {
        gap: (rates[gap], np.sqrt(variance[there] + variance[without]))
        for gap, (there, without) in GAPS.items()
    }


def _changes(
    first: Floats, second: Floats, both: Floats, images: Floats
) -> dict[str, tuple[Floats, Floats]]:
    """Return how far each gap ``(C, C)`` moved, with its standard error.

    Within a cell both predictors see the same images: the error is that of a difference of matched
    shares, with half an image added to each of its four outcomes (Agresti and Min, 2005).
    """
    lost, won = first - both + 0.5, second - both + 0.5
    total = images + 2
    variance = (lost + won - (won - lost) ** 2 / total) / total**2
    before, after = _rates(first, images), _rates(second, images)
    return {
        gap: (after[gap] - before[gap], np.sqrt(variance[there] + variance[without]))
        for gap, (there, without) in GAPS.items()
    }


def _leading(score_CC: Floats, supported_CC: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """Return the supported pairs of the highest finite scores; of equals the first in order."""
    ranked = np.flatnonzero(supported_CC & np.isfinite(score_CC))
    order = np.argsort(-score_CC.ravel()[ranked], kind="stable")[:MOST_LISTED]
    return [(int(a), int(b)) for a, b in zip(*np.divmod(ranked[order], len(score_CC)), strict=True)]


def _pair(
    pair: tuple[int, int],
    labels: LabelSpace,
    images: Floats,
    rates: Mapping[str, Mapping[str, Floats]],
    changes: Mapping[str, tuple[Floats, Floats]],
) -> ContextPair:
    return ContextPair(
        label=labels.names[pair[0]],
        context=labels.names[pair[1]],
        images={cell: int(images[k][pair]) for k, cell in enumerate(CELLS)},
        rates={
            name: {key: float(rate[pair]) for key, rate in own.items()}
            for name, own in rates.items()
        },
        changes={
            gap: Change(float(value[pair]), float(error[pair]))
            for gap, (value, error) in changes.items()
        },
    )


def _mean(values: Floats) -> float:
    return float(values.mean()) if values.size else np.nan


def _rounded(rates: Mapping[str, float]) -> dict[str, float | None]:
    return {key: figure(value) for key, value in rates.items()}
