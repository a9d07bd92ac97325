import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.special import expit

from cpsd.evaluation.error_rates import ErrorRates, estimate_error_rates


def noisy_labels(
    forgotten: float, surplus: float, *, num_images: int = 4000, num_labels: int = 8, seed: int = 0
) -> tuple[list[np.ndarray], list[np.ndarray], list[np.ndarray]]:
    """Scores, targets with errors, and which of them are wrong, by label."""
    rng = np.random.default_rng(seed)
    scores, given, wrong = [], [], []
    for _ in range(num_labels):
        score = rng.standard_normal(num_images)
        truth = rng.random(num_images) < expit(5 * score - 5)
        error = rng.random(num_images) < np.where(truth, forgotten, surplus)
        scores.append(3 * score + 1)
        given.append(truth ^ error)
        wrong.append(error)
    return scores, given, wrong


@pytest.mark.parametrize(("forgotten", "surplus"), [(0.2, 0.0), (0.02, 0.02), (0.05, 0.01)])
def test_the_rates_come_out_that_the_errors_were_made_with(
    forgotten: float, surplus: float
) -> None:
    scores, given, _ = noisy_labels(forgotten, surplus)
    rates, _ = estimate_error_rates(scores, given)
    assert rates.forgotten == pytest.approx(forgotten, abs=0.02)
    assert rates.surplus == pytest.approx(surplus, abs=0.004)


def test_without_errors_hardly_any_is_found() -> None:
    scores, given, _ = noisy_labels(0, 0)
    rates, _ = estimate_error_rates(scores, given)
    assert rates.forgotten < 0.03
    assert 0 < rates.surplus < 0.005


def test_probabilities_of_errors_are_frequencies() -> None:
    scores, given, wrong = noisy_labels(0.2, 0.02, num_images=20_000)
    rates, probabilities = estimate_error_rates(scores, given)
    said = np.concatenate([rates.wrong(p, y) for p, y in zip(probabilities, given, strict=True)])
    errors = np.concatenate(wrong)
    for low, high in ((0.0, 0.1), (0.1, 0.3), (0.3, 0.7), (0.7, 1.0)):
        inside = (said >= low) & (said < high)
        assert said[inside].mean() == pytest.approx(errors[inside].mean(), abs=0.05)


def test_what_is_fitted_is_a_maximum_of_the_likelihood(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cpsd.evaluation.error_rates.PRIOR_ERRORS", 0.0)
    monkeypatch.setattr("cpsd.evaluation.error_rates._SLOPE_VARIANCE", 1e9)
    monkeypatch.setattr("cpsd.evaluation.error_rates._CLOSE_ENOUGH", 1e-9)
    monkeypatch.setattr("cpsd.evaluation.error_rates._MOST_ROUNDS", 3000)
    (score,), (given,), _ = noisy_labels(0.2, 0.03, num_labels=1)
    rates, _ = estimate_error_rates([score], [given])
    z = (score - score.mean()) / score.std()

    def loss(free: np.ndarray) -> float:
        slope, shift, forgotten, surplus = free
        p = expit(slope * z + shift)
        present = (1 - forgotten) * p + surplus * (1 - p)
        return -float(np.log(np.where(given, present, 1 - present)).mean())

    bounds = [(0, 20), (-20, 20), (1e-6, 0.5), (1e-6, 0.5)]
    best = minimize(loss, [4, -4, 0.1, 0.1], bounds=bounds, method="L-BFGS-B", tol=1e-12)
    assert (rates.forgotten, rates.surplus) == pytest.approx(best.x[2:], abs=2e-3)


def test_scores_that_say_nothing_find_nothing() -> None:
    given = np.arange(100) < 10
    for score in (np.zeros(100), -given.astype(np.float64)):
        rates, (p,) = estimate_error_rates([score], [given])
        assert np.ptp(p) == 0
        assert max(rates.forgotten, rates.surplus) <= 0.5


def test_a_target_that_cannot_be_is_no_division_by_zero() -> None:
    rates = ErrorRates(forgotten=0.0, surplus=0.0)
    assert rates.wrong(np.array([0.0, 1.0]), np.array([True, False])).tolist() == [0.0, 0.0]
