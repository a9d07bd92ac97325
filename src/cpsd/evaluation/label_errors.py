"""Which targets are likely wrong? Those that both teacher ensembles contradict.

1. Each ensemble's logits are calibrated label by label with Platt's logistic regression on the very
   targets in question. Losses such as the asymmetric one push probabilities up, far or less far by
   label; uncalibrated, the list is a list of the labels that were pushed most. Two numbers a label
   cannot learn the errors by heart.
2. The mean of the ensembles' calibrated logits is the score from which the truth is told, and how
   often labels are forgotten and how often noted in excess is estimated together with that
   (``cpsd.evaluation.error_rates``). Of a rare label nearly all errors would be surplus ones if
   both rates were equal, as confident learning's self-confidence takes them to be (Northcutt,
   Jiang and Chuang, JAIR 2021; for several labels Thyagarajan et al., 2022), and nearly none if
   only forgotten ones occur, which in practice is common.
3. A target's *score* is how probably it is right, given rates and regressions. Low scores are
   likely errors, of both kinds in one order.

A score is as good as the model: pictures on which a label is hard to see have low scores too. A
target is *suspected* if each ensemble alone contradicts it, both kinds of error taken to be equally
many: by its own calibrated logit, half the label's log odds taken away.

The images must be held out: an ensemble that was trained on a wrong target defends it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, logit
from sklearn.linear_model import LogisticRegression

from cpsd.evaluation.error_rates import ErrorRates, estimate_error_rates
from cpsd.evaluation.figures import figure
from cpsd.labels import ABSENT, PRESENT, UNKNOWN, LabelSpace, Targets

Logits = NDArray[np.float32]
Floats = NDArray[np.float64]

MOST_LISTED = 100
"""Entries listed of each kind: given as present, and given as absent."""


@dataclass(frozen=True, eq=False)
class LabelQuality:
    """How credible each target is.

    Args:
        score: ``(N, C)`` in [0, 1], how probably the target is right; NaN for unknown targets and
            for labels that cannot be judged (no known positive, or no known negative).
        probability: ``(N, C)`` probability that the image truly has the label, of all ensembles
            together; NaN where the score is.
        suspected: ``(N, C)`` whether each ensemble alone contradicts the target.
        rates: how often targets are wrong; None where no label can be judged.
    """

    score: Floats
    probability: Floats
    suspected: NDArray[np.bool_]
    rates: ErrorRates | None


@dataclass(frozen=True)
class LikelyError:
    """A target that is likely wrong.

    Args:
        image: the picture's path, as the data name it.
        label: the label.
        given: the target: 1 or 0.
        probabilities: ensemble to its own probability of the label, as it is.
        probability: of the image truly having the label, of all ensembles together.
        score: how probably the target is right.
    """

    image: str
    label: str
    given: int
    probabilities: dict[str, float]
    probability: float
    score: float

    def to_json(self) -> dict[str, Any]:
        """Return the entry as ``findings/label-errors-<split>.json`` holds it."""
        return {
            "image": self.image,
            "label": self.label,
            "given": self.given,
            "probabilities": {name: figure(p) for name, p in self.probabilities.items()},
            "probability": figure(self.probability),
            "score": figure(self.score),
        }


@dataclass(frozen=True)
class LabelErrorsFinding:
    """The likely label errors of one split.

    Args:
        ensembles: who judged.
        considered: known targets of labels that can be judged.
        suspected: targets that every ensemble contradicts.
        left_out: labels that cannot be judged.
        entries: the likeliest errors first; at most ``MOST_LISTED`` of each kind.
        per_label: label to suspected targets, labels with any, the most first.
        rates: how often targets are wrong, as estimated; None where nothing can be judged.
    """

    ensembles: tuple[str, ...]
    considered: int
    suspected: int
    left_out: tuple[str, ...]
    entries: tuple[LikelyError, ...]
    per_label: dict[str, int]
    rates: ErrorRates | None

    def to_json(self) -> dict[str, Any]:
        """Return what ``findings/label-errors-<split>.json`` holds."""
        return {
            "ensembles": list(self.ensembles),
            "entries_considered": self.considered,
            "entries_suspected": self.suspected,
            "entries_listed": len(self.entries),
            "most_listed_of_a_kind": MOST_LISTED,
            "labels_left_out": list(self.left_out),
            "entries": [entry.to_json() for entry in self.entries],
            "per_label": self.per_label,
            "estimated_rates": None
            if self.rates is None
            else {
                "forgotten": figure(self.rates.forgotten),
                "surplus": figure(self.rates.surplus),
            },
        }


def label_quality(logits: Mapping[str, Logits], targets_NC: Targets) -> LabelQuality:
    """Return how credible each target is in the eyes of all ensembles together.

    Args:
        logits: ``(N, C)`` by ensemble, of images that none of them was trained on.
        targets_NC: ``(N, C)``; 1 present, 0 absent, -1 unknown.

    Raises:
        ValueError: no ensemble, or shapes that do not fit.
    """
    if not logits or any(logits_NC.shape != targets_NC.shape for logits_NC in logits.values()):
        raise ValueError("Each ensemble, at least one, must have logits of the targets' shape.")
    score, probability = np.full((2, *targets_NC.shape), np.nan)
    suspected = np.zeros(targets_NC.shape, dtype=np.bool_)
    judged: dict[int, tuple[NDArray[np.bool_], NDArray[np.bool_], Floats]] = {}
    for c in range(targets_NC.shape[1]):
        known_N = targets_NC[:, c] != UNKNOWN
        present_N = targets_NC[known_N, c] == PRESENT
        if present_N.all() or not present_N.any():
            continue
        own = [calibrated(logits_NC[known_N, c], present_N) for logits_NC in logits.values()]
        towards_given = np.where(present_N, 1, -1)
        middle = logit(present_N.mean()) / 2
        suspected[known_N, c] = np.all([(z - middle) * towards_given < 0 for z in own], axis=0)
        judged[c] = known_N, present_N, np.mean(own, axis=0)
    if not judged:
        return LabelQuality(score, probability, suspected, None)
    rates, probabilities = estimate_error_rates(
        [score_N for _, _, score_N in judged.values()],
        [present_N for _, present_N, _ in judged.values()],
    )
    for (c, (known_N, present_N, _)), p_N in zip(judged.items(), probabilities, strict=True):
        probability[known_N, c] = p_N
        score[known_N, c] = 1 - rates.wrong(p_N, present_N)
    return LabelQuality(score, probability, suspected, rates)


def find_label_errors(
    logits: Mapping[str, Logits],
    targets_NC: Targets,
    labels: LabelSpace,
    *,
    images: Sequence[str],
) -> LabelErrorsFinding:
    """Return the targets that are most likely wrong.

    Args:
        logits: ``(N, C)`` by ensemble, of held-out images.
        targets_NC: ``(N, C)`` as given.
        labels: the C labels.
        images: the N pictures' paths.

    Raises:
        ValueError: no ensemble, or shapes that do not fit.
    """
    if targets_NC.shape != (len(images), len(labels)):
        raise ValueError(
            f"Targets {targets_NC.shape} do not fit {len(images)} images, {len(labels)} labels."
        )
    quality = label_quality(logits, targets_NC)
    listed = [
        place
        for given in (PRESENT, ABSENT)
        for place in _lowest(quality.score, quality.suspected & (targets_NC == given))
    ]
    listed.sort(key=lambda place: (quality.score[place], place))
    entries = tuple(
        LikelyError(
            image=images[n],
            label=labels.names[c],
            given=int(targets_NC[n, c]),
            probabilities={name: float(expit(z_NC[n, c])) for name, z_NC in logits.items()},
            probability=float(quality.probability[n, c]),
            score=float(quality.score[n, c]),
        )
        for n, c in listed
    )
    count_C = quality.suspected.sum(axis=0)
    judged_NC = ~np.isnan(quality.score)
    return LabelErrorsFinding(
        ensembles=tuple(logits),
        considered=int(judged_NC.sum()),
        suspected=int(count_C.sum()),
        left_out=tuple(labels.names[c] for c in np.flatnonzero(~judged_NC.any(axis=0))),
        entries=entries,
        per_label={
            labels.names[c]: int(count_C[c])
            for c in np.argsort(-count_C, kind="stable")
            if count_C[c]
        },
        rates=quality.rates,
    )


def calibrated(logits_N: NDArray[np.floating[Any]], present_N: NDArray[np.bool_]) -> Floats:
    """Return logits whose sigmoid is calibrated: ``slope * logit + shift``, by logistic regression.

    Platt's method ("Probabilistic outputs for support vector machines", 1999) with a normal prior
    on the slope of the standardised logit, which holds labels of few positives back. A slope
    below 0 becomes 0: logits that rank the wrong way round say nothing.

    Args:
        logits_N: ``(N,)`` of one label.
        present_N: ``(N,)`` which images have it; some must and some must not.
    """
    logits = logits_N.astype(np.float64)
    spread = logits.std()
    if spread > 0:
        standard_N1 = ((logits - logits.mean()) / spread)[:, None]
        fitted = LogisticRegression(C=1.0, solver="newton-cholesky").fit(standard_N1, present_N)
        if fitted.coef_[0, 0] > 0:
            return np.asarray(fitted.decision_function(standard_N1), dtype=np.float64)
    return np.full(len(logits), logit(present_N.mean()))


def _lowest(score: Floats, mask: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """Return the places of the lowest scores under ``mask``; of equals the first in order."""
    places = np.flatnonzero(mask)
    order = np.argsort(score.ravel()[places], kind="stable")[:MOST_LISTED]
    rows, columns = np.divmod(places[order], mask.shape[1])
    return list(zip(rows.tolist(), columns.tolist(), strict=True))
