"""A temperature for each label: logits divided by it, so that probabilities mean what they say.

Temperature scaling (Guo et al., "On Calibration of Modern Neural Networks", ICML 2017), here for
each label's sigmoid. A temperature above 1 softens a label that is too sure, one below 1 sharpens a
label that is too timid; the order of images does not change, nor does the side of probability 0.5.
It mends scale alone: probabilities that are all too high stay too high.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar

from cpsd.errors import DataError, RunError
from cpsd.labels import PRESENT, UNKNOWN, LabelSpace, Targets

Logits = NDArray[np.float32]

LOWEST, HIGHEST = 0.05, 20.0
"""Where the search ends: labels that the logits part perfectly, or tell nothing about."""


@dataclass(frozen=True)
class Temperatures:
    """The temperatures of a predictor's labels; may be kept as ``temperatures.json``.

    Args:
        by_label: each label's temperature.
        kept_one: the labels that keep 1, for want of both a known positive and a known negative.
        at_bound: the labels whose temperature is ``LOWEST`` or ``HIGHEST``.
    """

    by_label: dict[str, float]
    kept_one: tuple[str, ...]
    at_bound: tuple[str, ...]

    def of(self, labels: LabelSpace) -> NDArray[np.float64]:
        """Return the temperatures ``(C,)`` in the order of ``labels``.

        Raises:
            DataError: a label has no temperature.
        """
        for name in labels:
            if name not in self.by_label:
                raise DataError(
                    f"The label '{name}' has no temperature: these were fitted for other labels."
                )
        return np.array([self.by_label[name] for name in labels])

    def apply(self, logits_NC: Logits, labels: LabelSpace) -> Logits:
        """Return the logits divided by their labels' temperatures.

        Thresholds that were chosen on plain logits do not fit the result: choose them on it.

        Raises:
            DataError: a label has no temperature.
        """
        return np.asarray(logits_NC / self.of(labels), dtype=np.float32)

    def to_json(self) -> dict[str, Any]:
        """Return what ``temperatures.json`` holds."""
        return {
            "temperature": self.by_label,
            "kept_one": list(self.kept_one),
            "at_bound": list(self.at_bound),
        }

    @classmethod
    def from_json(cls, value: Any) -> "Temperatures":  # noqa: ANN401 - JSON has no narrower type
        """Return the temperatures of what ``to_json`` gave.

        Raises:
            RunError: ``value`` is no such thing, or a temperature is not above 0.
        """
        try:
            by_label = {name: float(t) for name, t in value["temperature"].items()}
            found = cls(by_label, tuple(value["kept_one"]), tuple(value["at_bound"]))
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
            raise RunError(f"These are no temperatures ({error!r}); fit them again.") from error
        for name, temperature in by_label.items():
            if not 0 < temperature < np.inf:
                raise RunError(f"The temperature of '{name}' is {temperature}; it must be above 0.")
        return found


def fit_temperatures(logits_NC: Logits, targets_NC: Targets, labels: LabelSpace) -> Temperatures:
    """Return the temperatures of the lowest log loss on these (validation) images.

    Args:
        logits_NC: ``(N, C)`` logits.
        targets_NC: ``(N, C)``; unknown targets take no part.
        labels: the C labels.

    Raises:
        ValueError: shapes that do not fit.
    """
    if logits_NC.shape != targets_NC.shape or logits_NC.shape[1] != len(labels):
        raise ValueError(
            f"Logits {logits_NC.shape}, targets {targets_NC.shape} and {len(labels)} labels differ."
        )
    by_label: dict[str, float] = {}
    kept_one = []
    for c, name in enumerate(labels):
        known_N = targets_NC[:, c] != UNKNOWN
        present_N = targets_NC[known_N, c] == PRESENT
        by_label[name] = 1.0
        if present_N.any() and not present_N.all():
            by_label[name] = _fit(logits_NC[known_N, c].astype(np.float64), present_N)
        else:
            kept_one.append(name)
    at_bound = tuple(
        name for name, t in by_label.items() if not LOWEST * 1.001 < t < HIGHEST / 1.001
    )
    return Temperatures(by_label, tuple(kept_one), at_bound)


def log_loss(logits_N: NDArray[np.floating[Any]], present_N: NDArray[np.bool_]) -> float:
    """Return the mean log loss in nats, from logits: it overflows nowhere; NaN of no images.

    Example:
        >>> round(log_loss(np.array([0.0, 1000.0]), np.array([True, True])), 4)
        0.3466
    """
    if not present_N.size:
        return np.nan
    against_N = np.where(present_N, -logits_N, logits_N).astype(np.float64)
    return float(np.logaddexp(0, against_N).mean())


def _fit(logits_N: NDArray[np.float64], present_N: NDArray[np.bool_]) -> float:
    # Convex in 1 / T, so with a single valley in log T, which weighs halving like doubling.
    found = minimize_scalar(
        lambda log_t: log_loss(logits_N / np.exp(log_t), present_N),
        bounds=(np.log(LOWEST), np.log(HIGHEST)),
        method="bounded",
        options={"xatol": 1e-5},
    )
    return float(np.exp(found.x))
