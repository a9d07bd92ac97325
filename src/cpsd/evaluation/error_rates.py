"""How often are labels forgotten, how often noted in excess? Estimated from targets and scores.

Each target is taken for a copy of the truth with errors: of the images that have a label a share
``forgotten`` is given without it, of those that have it not a share ``surplus`` is given with it.
The truth follows from a label's score by logistic regression, ``p = sigmoid(slope * score +
shift)``, a slope and a shift for each label, the two rates common to all. All are fitted together
by expectation maximisation: the probability of each target being wrong from rates and
regressions, then rates and regressions from these probabilities. This is logistic regression that
is robust to label noise (Bootkrajang and Kaban, "Label-noise robust logistic regression and its
applications", ECML PKDD 2012).

Among few errors a kind could be estimated away altogether, and its errors would never be listed: a
prior adds ``PRIOR_ERRORS`` of the targets to the errors of each kind. Pictures on which a label is
hard to see look like errors, so the rates are no more than a guide to which kind is the commoner.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, logit

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]

PRIOR_ERRORS = 0.0003
"""Errors of each kind that are counted before any is seen, as a share of the known targets.

With more, errors that are all of one kind are listed below likelier-looking ones of the other."""
HIGHEST_RATE = 0.5
"""From here on targets would say the opposite of what they say."""

_FIRST_RATE = 0.02
_MOST_ROUNDS = 100
_CLOSE_ENOUGH = 1e-5
_SLOPE_VARIANCE = 1.0
_NEWTON_STEPS = 3


@dataclass(frozen=True)
class ErrorRates:
    """How often targets are wrong.

    Args:
        forgotten: share of the present labels that are given as absent.
        surplus: share of the absent labels that are given as present.
    """

    forgotten: float
    surplus: float

    def wrong(self, p_N: Floats, present_N: Mask) -> Floats:
        """Return how probably each target is wrong.

        Args:
            p_N: ``(N,)`` probability that the image truly has the label.
            present_N: ``(N,)`` whether it is given as present.

        Example:
            >>> rates = ErrorRates(forgotten=0.2, surplus=0.0)
            >>> rates.wrong(np.array([0.5, 0.5]), np.array([True, False])).round(4).tolist()
            [0.0, 0.1667]
        """
        surplus_N = self.surplus * (1 - p_N)
        forgotten_N = self.forgotten * p_N
        given_N = np.where(
            present_N,
            surplus_N + (1 - self.forgotten) * p_N,
            forgotten_N + (1 - self.surplus) * (1 - p_N),
        )
        wrong_N = np.where(present_N, surplus_N, forgotten_N)
        return np.asarray(wrong_N / np.maximum(given_N, np.finfo(np.float64).tiny))


@dataclass
class _Label:
    """One label's scores and given targets, ``(N,)`` both, and its regression."""

    score: Floats
    present: Mask
    slope: float = 1.0
    shift: float = 0.0

    @property
    def p(self) -> Floats:
        """Probability that the images truly have the label."""
        return np.asarray(expit(self.slope * self.score + self.shift))

    def fit(self, truth_N: Floats) -> None:
        """Fit the regression to soft targets, by Newton's steps, with a normal prior on the slope.

        A slope below 0 becomes 0: scores that rank the wrong way round say nothing.
        """
        z_N = self.score
        for _ in range(_NEWTON_STEPS):
            p_N = self.p
            rest_N, weight_N = truth_N - p_N, p_N * (1 - p_N)
            gradient = np.array([rest_N @ z_N - self.slope / _SLOPE_VARIANCE, rest_N.sum()])
            mixed = weight_N @ z_N
            curvature = np.array(
                [
                    [weight_N @ z_N**2 + 1 / _SLOPE_VARIANCE, mixed],
                    [mixed, weight_N.sum() + 1e-9],
                ]
            )
            step = np.linalg.solve(curvature, gradient)
            self.slope, self.shift = self.slope + float(step[0]), self.shift + float(step[1])
        self.slope = max(self.slope, 0.0)


def estimate_error_rates(
    scores: list[Floats], present: list[Mask]
) -> tuple[ErrorRates, list[Floats]]:
    """Return the two rates of error, and by label how probably each image truly has it ``(N,)``.

    Args:
        scores: by label, ``(N,)`` logits of the images whose target is known.
        present: by label, ``(N,)`` whether each is given with the label; some must be, some not.
    """
    labels = [
        _Label(_standardised(score_N), present_N, shift=float(logit(present_N.mean())))
        for score_N, present_N in zip(scores, present, strict=True)
    ]
    for label in labels:
        label.fit(label.present.astype(np.float64))
    rates = ErrorRates(_FIRST_RATE, _FIRST_RATE)
    prior = PRIOR_ERRORS * sum(len(label.present) for label in labels)
    for _ in range(_MOST_ROUNDS):
        before, rates = rates, _round(labels, rates, prior)
        moved = abs(rates.forgotten - before.forgotten) + abs(rates.surplus - before.surplus)
        if moved < _CLOSE_ENOUGH:
            break
    return rates, [label.p for label in labels]


def _round(labels: list[_Label], rates: ErrorRates, prior: float) -> ErrorRates:
    """Fit the regressions to the truth as it is thought to be, and return the rates that follow."""
    forgotten = surplus = have = have_not = 0.0
    for label in labels:
        wrong_N = rates.wrong(label.p, label.present)
        truth_N = np.where(label.present, 1 - wrong_N, wrong_N)
        forgotten += float(wrong_N[~label.present].sum())
        surplus += float(wrong_N[label.present].sum())
        have += float(truth_N.sum())
        have_not += float((1 - truth_N).sum())
        label.fit(truth_N)
    return ErrorRates(
        min((forgotten + prior) / (have + prior), HIGHEST_RATE),
        min((surplus + prior) / (have_not + prior), HIGHEST_RATE),
    )


def _standardised(score_N: Floats) -> Floats:
    spread = score_N.std()
    return (score_N - score_N.mean()) / spread if spread > 0 else np.zeros_like(score_N)
