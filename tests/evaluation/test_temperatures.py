import json

import numpy as np
import pytest
import sklearn.metrics

from cpsd.errors import DataError, RunError
from cpsd.evaluation.temperatures import HIGHEST, LOWEST, Temperatures, fit_temperatures, log_loss
from cpsd.labels import LabelSpace
from simulated_scores import label_space, logits_of, targets_and_logits, targets_of


def test_a_planted_temperature_is_found() -> None:
    rng = np.random.default_rng(1)
    true_logits = rng.normal(-0.5, 2, (40_000, 3))
    targets = (rng.random(true_logits.shape) < 1 / (1 + np.exp(-true_logits))).astype(np.int8)
    planted = np.array([0.5, 1.0, 3.0])
    logits = (true_logits * planted).astype(np.float32)
    found = fit_temperatures(logits, targets, label_space(3))
    np.testing.assert_allclose(list(found.by_label.values()), planted, rtol=0.05)
    scaled = found.apply(logits, label_space(3))
    np.testing.assert_allclose(scaled, true_logits, rtol=0.06, atol=1e-6)


def test_no_temperature_of_a_fine_grid_is_better() -> None:
    targets, logits = targets_and_logits(2, shape=(200, 3), unknown=0.2)
    found = fit_temperatures(logits["student"], targets, label_space(3))
    for c, temperature in enumerate(found.by_label.values()):
        known = targets[:, c] != -1
        z, y = logits["student"][known, c].astype(np.float64), targets[known, c]

        def loss(t: float, z: np.ndarray = z, y: np.ndarray = y) -> float:
            return float(sklearn.metrics.log_loss(y, 1 / (1 + np.exp(-z / t))))

        assert loss(temperature) <= min(loss(t) for t in np.geomspace(0.1, 10, 60)) + 1e-9


def test_labels_that_cannot_be_fitted_are_named() -> None:
    targets = targets_of([[1, 0, 0, 1], [1, 0, 1, 0], [0, -1, 0, 0], [0, 0, 1, 1]])
    logits = logits_of([[3, 0, 2, -1], [2, 1, -2, 1], [-2, 2, 2, 1], [-3, 1, -2, -1]])
    found = fit_temperatures(logits, targets, label_space(4))
    assert found.kept_one == ("label 1",)
    assert found.by_label["label 1"] == 1.0
    assert found.at_bound == ("label 0", "label 2", "label 3")
    assert found.by_label["label 0"] == pytest.approx(LOWEST, rel=1e-3)  # parted perfectly
    assert found.by_label["label 2"] == pytest.approx(HIGHEST, rel=1e-3)  # the wrong way round


def test_json_brings_back_the_temperatures() -> None:
    targets, logits = targets_and_logits(3, shape=(50, 2))
    found = fit_temperatures(logits["student"], targets, label_space(2))
    assert Temperatures.from_json(json.loads(json.dumps(found.to_json()))) == found


def test_other_json_is_refused() -> None:
    said = Temperatures({"cat": 1.0}, (), ()).to_json()
    with pytest.raises(RunError, match="'cat' is -1"):
        Temperatures.from_json(said | {"temperature": {"cat": -1}})
    with pytest.raises(RunError, match="no temperatures"):
        Temperatures.from_json({"temperature": []})


def test_a_label_without_a_temperature_is_named() -> None:
    with pytest.raises(DataError, match="'dog'"):
        Temperatures({"cat": 1.0}, (), ()).apply(logits_of([[1]]), LabelSpace(("dog",)))


def test_log_loss_is_scikit_learns() -> None:
    targets, logits = targets_and_logits(4, shape=(80, 1))
    z, y = logits["student"][:, 0].astype(np.float64), targets[:, 0]
    assert log_loss(z, y == 1) == pytest.approx(sklearn.metrics.log_loss(y, 1 / (1 + np.exp(-z))))
    assert np.isnan(log_loss(z[:0], y[:0] == 1))
