import numpy as np
import pytest

from cpsd.evaluation.planted_errors import FlipKind, plant_errors, precision_at_planted
from simulated_scores import targets_and_logits


@pytest.mark.parametrize("kind", ["uniform", "balanced", "missing"])
def test_known_targets_are_flipped_and_nothing_else_changes(kind: FlipKind) -> None:
    targets, _ = targets_and_logits(1, shape=(200, 5), unknown=0.2)
    flipped, planted = plant_errors(targets, rate=0.04, seed=3, kind=kind)
    assert planted.sum() == round(0.04 * (targets != -1).sum())
    assert (targets[planted] != -1).all()
    np.testing.assert_array_equal(flipped[planted], 1 - targets[planted])
    np.testing.assert_array_equal(flipped[~planted], targets[~planted])
    share = targets[planted].mean()
    assert share == {"balanced": 0.5, "missing": 1.0}.get(kind, pytest.approx(0.3, abs=0.2))


def test_the_seed_decides() -> None:
    targets, _ = targets_and_logits(2)
    first, again, other = (plant_errors(targets, rate=0.1, seed=s)[1] for s in (0, 0, 1))
    assert (first == again).all()
    assert not (first == other).all()


def test_no_more_than_half_of_the_present_targets_are_flipped() -> None:
    targets, _ = targets_and_logits(3, share=0.05)
    _, planted = plant_errors(targets, rate=0.4, seed=0, kind="missing")
    assert planted.sum() == (targets == 1).sum() // 2


def test_precision_is_the_share_among_the_lowest() -> None:
    planted = np.array([[True, False, True, False]])
    assert precision_at_planted(np.array([[0.1, 0.9, 0.2, 0.3]]), planted) == 1.0
    assert precision_at_planted(np.array([[0.9, 0.1, np.nan, 0.3]]), planted) == 0.0
    assert np.isnan(precision_at_planted(np.ones((1, 2)), np.zeros((1, 2), np.bool_)))


def test_a_rate_that_makes_no_sense_is_refused() -> None:
    with pytest.raises(ValueError, match="rate"):
        plant_errors(np.zeros((2, 2), np.int8), rate=0.5, seed=0)
