"""Reliability: of the images that a label is given probability p, is the share p that has it?

Probabilities are put in bins of equal mass, that is of about equally many images. In multi-label
data most probabilities are near 0: bins of equal width would put nearly all images in the first,
and the expected calibration error would be that of one bin. Equal mass also has the smaller bias
(Nixon et al., "Measuring Calibration in Deep Learning", 2019; Roelofs et al., 2022). Equal
probabilities are never torn apart, so there may be fewer bins than asked for. With few images the
error is above 0 for a perfectly calibrated predictor too.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from cpsd.evaluation.figures import figure, figures
from cpsd.evaluation.temperatures import Temperatures, log_loss
from cpsd.labels import PRESENT, UNKNOWN, LabelSpace, Targets

Logits = NDArray[np.float32]

BINS = 15
"""As in Guo et al. (2017)."""


@dataclass(frozen=True, eq=False)
class Reliability:
    """A reliability curve of B bins, from the lowest probability to the highest.

    Args:
        count: ``(B,)`` images; no bin is empty.
        mean_probability: ``(B,)``.
        observed_frequency: ``(B,)`` share of the images that have the label.
    """

    count: NDArray[np.int64]
    mean_probability: NDArray[np.float64]
    observed_frequency: NDArray[np.float64]

    @property
    def expected_calibration_error(self) -> float:
        """Mean distance of probability and frequency over images; NaN without images."""
        if not self.count.size:
            return np.nan
        gap = np.abs(self.mean_probability - self.observed_frequency)
        return float((self.count * gap).sum() / self.count.sum())


@dataclass(frozen=True)
class Curve:
    """How one label's (or all labels') probabilities agree with what is there.

    Args:
        reliability: the curve of the predictor as it is.
        log_loss: mean log loss in nats.
        temperature: the temperature; None where none was fitted.
        error_with_temperature: expected calibration error after division by it.
        log_loss_with_temperature: log loss after division by it.
    """

    reliability: Reliability
    log_loss: float
    temperature: float | None = None
    error_with_temperature: float | None = None
    log_loss_with_temperature: float | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the curve as ``findings/calibration-<split>.json`` holds it."""
        return {
            "expected_calibration_error": figure(self.reliability.expected_calibration_error),
            "expected_calibration_error_with_temperature": _figure(self.error_with_temperature),
            "temperature": _figure(self.temperature),
            "log_loss": figure(self.log_loss),
            "log_loss_with_temperature": _figure(self.log_loss_with_temperature),
            "count": self.reliability.count.tolist(),
            "mean_probability": figures(self.reliability.mean_probability),
            "observed_frequency": figures(self.reliability.observed_frequency),
        }


@dataclass(frozen=True)
class PredictorCalibration:
    """One predictor's calibration.

    Args:
        overall: all known entries together.
        by_label: label to curve.
    """

    overall: Curve
    by_label: dict[str, Curve]

    def to_json(self) -> dict[str, Any]:
        """Return the predictor's part of ``findings/calibration-<split>.json``."""
        plain = [c.reliability.expected_calibration_error for c in self.by_label.values()]
        scaled = [c.error_with_temperature for c in self.by_label.values()]
        return {
            "mean_expected_calibration_error": figure(_mean(plain)),
            "mean_expected_calibration_error_with_temperature": (
                figure(_mean([error for error in scaled if error is not None]))
            ),
            "overall": self.overall.to_json(),
            "labels": {name: curve.to_json() for name, curve in self.by_label.items()},
        }


@dataclass(frozen=True)
class CalibrationFinding:
    """Calibration of every predictor on one split.

    Args:
        fitted_on: the split that temperatures were fitted on, None without temperatures.
        predictors: by name.
    """

    fitted_on: str | None
    predictors: dict[str, PredictorCalibration]

    def to_json(self) -> dict[str, Any]:
        """Return what ``findings/calibration-<split>.json`` holds."""
        return {
            "bins": BINS,
            "binning": "equal mass",
            "fitted_on": self.fitted_on,
            "predictors": {name: own.to_json() for name, own in self.predictors.items()},
        }


def reliability(
    probabilities_N: NDArray[np.floating[Any]], present_N: NDArray[np.bool_], *, bins: int = BINS
) -> Reliability:
    """Return the reliability curve with bins of equal mass.

    Args:
        probabilities_N: ``(N,)`` in [0, 1].
        present_N: ``(N,)`` which of the images have the label.
        bins: bins at most.

    Example:
        >>> curve = reliability(np.array([0.1, 0.2, 0.8, 0.9]), np.array([0, 0, 1, 1]) > 0, bins=2)
        >>> curve.count.tolist(), curve.observed_frequency.tolist()
        ([2, 2], [0.0, 1.0])
        >>> round(curve.expected_calibration_error, 4)
        0.15
    """
    if not probabilities_N.size:
        return Reliability(np.empty(0, np.int64), np.empty(0), np.empty(0))
    edges = np.quantile(probabilities_N, np.arange(1, bins) / bins)
    places_N = np.searchsorted(edges, probabilities_N)
    count = np.bincount(places_N, minlength=bins)
    there = np.flatnonzero(count)
    sums, hits = (
        np.bincount(places_N, weights, minlength=bins)[there]
        for weights in (probabilities_N, present_N)
    )
    return Reliability(count[there], sums / count[there], hits / count[there])


def find_calibration(
    logits: Mapping[str, Logits],
    targets_NC: Targets,
    labels: LabelSpace,
    *,
    temperatures: Mapping[str, Temperatures] | None = None,
    fitted_on: str = "validation",
) -> CalibrationFinding:
    """Return how well every predictor is calibrated, label by label and overall.

    Args:
        logits: ``(N, C)`` by predictor.
        targets_NC: ``(N, C)``; unknown targets take no part.
        labels: the C labels.
        temperatures: by predictor, fitted on other images; with them the figures after scaling
            are given too.
        fitted_on: the split that they were fitted on.

    Raises:
        ValueError: shapes that do not fit.
    """
    if targets_NC.shape[1] != len(labels):
        raise ValueError(f"{targets_NC.shape[1]} columns do not fit {len(labels)} labels.")
    predictors = {}
    for name, logits_NC in logits.items():
        own = temperatures[name] if temperatures is not None else None
        known_NC = targets_NC != UNKNOWN
        present = targets_NC[known_NC] == PRESENT
        predictors[name] = PredictorCalibration(
            overall=_curve(logits_NC[known_NC], present, None),
            by_label={
                label: _curve(
                    logits_NC[known_NC[:, c], c],
                    targets_NC[known_NC[:, c], c] == PRESENT,
                    own.by_label[label] if own is not None else None,
                )
                for c, label in enumerate(labels)
            },
        )
    return CalibrationFinding(fitted_on if temperatures is not None else None, predictors)


def _curve(logits_N: Logits, present_N: NDArray[np.bool_], temperature: float | None) -> Curve:
    logits = logits_N.astype(np.float64)
    plain = reliability(expit(logits), present_N)
    if temperature is None:
        return Curve(plain, log_loss(logits, present_N))
    scaled = logits / temperature
    return Curve(
        plain,
        log_loss(logits, present_N),
        temperature,
        reliability(expit(scaled), present_N).expected_calibration_error,
        log_loss(scaled, present_N),
    )


def _mean(errors: list[float]) -> float:
    defined = [error for error in errors if not np.isnan(error)]
    return float(np.mean(defined)) if defined else np.nan


def _figure(value: float | None) -> float | None:
    return None if value is None else figure(value)
