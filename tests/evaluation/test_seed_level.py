import math

import numpy as np
import pytest
import scipy.integrate
import scipy.stats
from numpy.typing import NDArray

from cpsd.evaluation.seed_level import seed_deviations

Floats = NDArray[np.float64]
POINTS = np.array([0.41, 0.43, 0.40, 0.46, 0.44])


def standard_error(values: Floats) -> float:
    return float(values.std(ddof=1)) / math.sqrt(len(values))


@pytest.mark.parametrize("num_seeds", [2, 3, 5])
@pytest.mark.parametrize("level", [0.8, 0.9, 0.975])
def test_independent_seeds_give_students_t(num_seeds: int, level: float) -> None:
    points = POINTS[:num_seeds]
    deviations = seed_deviations(points, None, 100_000, seed=0)
    expected = scipy.stats.t.ppf(level, num_seeds - 1) * standard_error(points)
    assert np.quantile(deviations, level) == pytest.approx(expected, rel=0.03)
    assert np.quantile(deviations, 1 - level) == pytest.approx(-expected, rel=0.03)


def test_one_teacher_set_is_like_none_and_a_set_for_each_seed_too() -> None:
    plain = seed_deviations(POINTS, None, 1000, seed=3)
    np.testing.assert_array_equal(seed_deviations(POINTS, (7,) * 5, 1000, seed=3), plain)
    each = seed_deviations(POINTS, (4, 3, 2, 1, 0), 1000, seed=3)
    np.testing.assert_allclose(
        np.sort(each), np.sort(seed_deviations(POINTS[::-1], None, 1000, seed=3))
    )
    two = seed_deviations(POINTS[:2], (0, 1), 1000, seed=3)
    np.testing.assert_allclose(two, seed_deviations(POINTS[:2], None, 1000, seed=3))


def test_of_three_sets_the_means_are_the_units() -> None:
    points = np.array([0.41, 0.43, 0.40, 0.46, 0.44, 0.40])
    found = seed_deviations(points, (0, 0, 1, 1, 2, 2), 100_000, seed=0)
    means = points.reshape(3, 2).mean(axis=1)
    expected = scipy.stats.t.ppf(0.975, 2) * standard_error(means)
    assert np.quantile(found, 0.975) == pytest.approx(expected, rel=0.03)


def test_an_uneven_spread_over_sets_widens() -> None:
    points = np.array([0.41, 0.43, 0.43, 0.43, 0.40])
    found = seed_deviations(points, (0, 1, 1, 1, 2), 100_000, seed=0)
    # The mean weighs the sets 1/5, 3/5, 1/5, so its variance is 11/25 of a set's, not 1/3.
    sets = np.array([0.41, 0.43, 0.40])
    expected = scipy.stats.t.ppf(0.975, 2) * sets.std(ddof=1) * math.sqrt(11 / 25)
    assert np.quantile(found, 0.975) == pytest.approx(expected, rel=0.03)


def two_sets_tail(points: Floats, sets: tuple[int, ...], end: float) -> float:
    """The posterior probability beyond ``end``, by numerical integration and dense matrices."""
    num_seeds = len(points)
    same_set = np.equal.outer(sets, sets).astype(float)
    ones = np.ones(num_seeds)

    def density_and_scale(rho: float) -> tuple[float, float]:
        covariance = (1 - rho) * np.eye(num_seeds) + rho * same_set
        precision = np.linalg.inv(covariance)
        weight = ones @ precision @ ones
        residuals = points - (ones @ precision @ points) / weight
        rss = residuals @ precision @ residuals
        density = 2 * rho * np.linalg.det(covariance) ** -0.5 * weight**-0.5
        density *= rss ** (-(num_seeds - 1) / 2)
        of_plain_mean = ones @ covariance @ ones / num_seeds**2
        return float(density), math.sqrt(of_plain_mean * rss / (num_seeds - 1))

    def beyond(rho: float) -> float:
        density, scale = density_and_scale(rho)
        return density * float(scipy.stats.t.sf(end / scale, num_seeds - 1))

    total, _ = scipy.integrate.quad(lambda rho: density_and_scale(rho)[0], 0, 1)
    return float(scipy.integrate.quad(beyond, 0, 1)[0] / total)


@pytest.mark.parametrize("sets", [(0, 0, 1), (0, 1, 0, 1), (0, 0, 0, 1, 1)])
@pytest.mark.parametrize("apart", [0.0, 0.05])
def test_two_sets_follow_the_posterior_of_what_they_share(
    sets: tuple[int, ...], apart: float
) -> None:
    points = POINTS[: len(sets)] + apart * np.array(sets)
    found = seed_deviations(points, sets, 100_000, seed=0)
    for level in (0.9, 0.975):
        end = float(np.quantile(found, level))
        assert two_sets_tail(points, sets, end) == pytest.approx(1 - level, rel=0.04)


def test_arms_share_their_weights_so_deviations_add_up() -> None:
    other = np.array([0.40, 0.45, 0.43, 0.41, 0.44])
    first, second, gap = (
        seed_deviations(x, None, 1000, seed=1) for x in (POINTS, other, POINTS - other)
    )
    np.testing.assert_allclose(first - second, gap, atol=1e-12)


def test_streams_are_independent_and_seeds_repeat() -> None:
    first = seed_deviations(POINTS, None, 20_000, seed=1)
    np.testing.assert_array_equal(first, seed_deviations(POINTS, None, 20_000, seed=1))
    second = seed_deviations(POINTS, None, 20_000, seed=1, stream=1)
    ranks = scipy.stats.spearmanr(first[:10_000], second[:10_000]).statistic
    assert abs(ranks) < 0.05


def test_every_deviation_stands_there_with_both_signs() -> None:
    found = seed_deviations(POINTS, (0, 0, 1, 1, 1), 500, seed=1)
    np.testing.assert_array_equal(found[:250], -found[250:])
    with pytest.raises(ValueError, match="must be even"):
        seed_deviations(POINTS, None, 501, seed=1)


@pytest.mark.parametrize("sets", [None, (0, 0, 1), (0, 1, 2)])
def test_equal_points_and_a_single_one_deviate_nowhere(sets: tuple[int, ...] | None) -> None:
    for points in (np.full(3, 0.4), np.array([0.4])):
        of_points = sets and sets[: len(points)]
        found = seed_deviations(points, of_points, 100, seed=0)
        np.testing.assert_allclose(found, 0, atol=1e-14)
