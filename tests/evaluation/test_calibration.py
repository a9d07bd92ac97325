import json

import numpy as np
import pytest
from sklearn.calibration import calibration_curve

from cpsd.evaluation.calibration import BINS, find_calibration, reliability
from cpsd.evaluation.temperatures import fit_temperatures
from simulated_scores import label_space, targets_and_logits


@pytest.mark.parametrize("levels", [0, 3])
def test_bins_are_scikit_learns_quantile_bins(levels: int) -> None:
    targets, logits = targets_and_logits(1, shape=(500, 1))
    probabilities = 1 / (1 + np.exp(-logits["student"][:, 0].astype(np.float64)))
    if levels:
        probabilities = np.round(probabilities * levels) / levels
    observed, mean = calibration_curve(
        targets[:, 0], probabilities, n_bins=BINS, strategy="quantile"
    )
    curve = reliability(probabilities, targets[:, 0] == 1)
    np.testing.assert_allclose(curve.mean_probability, mean)
    np.testing.assert_allclose(curve.observed_frequency, observed)
    assert curve.count.sum() == 500
    assert curve.count.min() > 0


def test_the_error_is_the_mean_over_images_of_their_bins_gap() -> None:
    targets, logits = targets_and_logits(2, shape=(300, 1))
    probabilities = 1 / (1 + np.exp(-logits["student"][:, 0].astype(np.float64)))
    order = np.argsort(probabilities)
    total = 0.0
    for rows in np.array_split(order, BINS):  # 300 images: exactly 20 a bin
        total += abs(probabilities[rows].sum() - targets[rows, 0].sum())
    curve = reliability(probabilities, targets[:, 0] == 1)
    assert set(curve.count.tolist()) == {20}
    assert curve.expected_calibration_error == pytest.approx(total / 300)


def test_a_calibrated_predictor_has_a_small_error_and_a_shifted_one_the_shift() -> None:
    rng = np.random.default_rng(3)
    probabilities = rng.uniform(0.2, 0.8, 50_000)
    present = rng.random(50_000) < probabilities
    assert reliability(probabilities, present).expected_calibration_error < 0.01
    shifted = reliability(probabilities + 0.1, present)
    assert shifted.expected_calibration_error == pytest.approx(0.1, abs=0.01)


def test_fewer_images_than_bins_are_no_trouble() -> None:
    curve = reliability(np.array([0.5, 0.5, 0.9]), np.array([True, False, True]))
    assert curve.count.tolist() == [2, 1]
    assert curve.observed_frequency.tolist() == [0.5, 1.0]


def test_the_finding_leaves_unknown_targets_out_and_shows_what_temperature_mends() -> None:
    rng = np.random.default_rng(4)
    calm = rng.normal(0, 1.5, (8000, 2))
    targets = (rng.random(calm.shape) < 1 / (1 + np.exp(-calm))).astype(np.int8)
    targets[rng.random(calm.shape) < 0.1] = -1
    logits = {"student": (calm * 3).astype(np.float32)}
    labels = label_space(2)
    temperatures = {"student": fit_temperatures(logits["student"][:4000], targets[:4000], labels)}
    test = {"student": logits["student"][4000:]}
    finding = find_calibration(test, targets[4000:], labels, temperatures=temperatures)
    said = json.loads(json.dumps(finding.to_json(), allow_nan=False))["predictors"]["student"]
    for c, name in enumerate(labels):
        own = said["labels"][name]
        assert sum(own["count"]) == (targets[4000:, c] != -1).sum()
        assert own["expected_calibration_error"] > 0.1
        assert own["expected_calibration_error_with_temperature"] < 0.03
        assert own["log_loss_with_temperature"] < own["log_loss"]
        assert own["temperature"] == pytest.approx(3, rel=0.15)
    assert sum(said["overall"]["count"]) == (targets[4000:] != -1).sum()
    assert said["mean_expected_calibration_error"] == pytest.approx(
        np.mean([said["labels"][name]["expected_calibration_error"] for name in labels]), rel=1e-4
    )


def test_without_temperatures_none_is_told_and_an_unknown_label_has_no_figures() -> None:
    targets, logits = targets_and_logits(5, shape=(40, 2))
    targets[:, 1] = -1
    said = find_calibration(logits, targets, label_space(2)).to_json()
    assert said["fitted_on"] is None
    unknown = said["predictors"]["student"]["labels"]["label 1"]
    assert unknown["count"] == []
    assert all(value in (None, []) for value in unknown.values())
    assert said["predictors"]["student"]["mean_expected_calibration_error_with_temperature"] is None
    json.dumps(said, allow_nan=False)
