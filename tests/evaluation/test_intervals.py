import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.integrate
import scipy.stats
from numpy.typing import NDArray

from cpsd.evaluation.intervals import METHOD, ArmScores, Interval, difference, interval
from cpsd.evaluation.metrics import average_precision, mean_average_precision
from cpsd.evaluation.resampling import draw_image_weights, resampled_metrics

Floats = NDArray[np.float64]
NUM_RESAMPLES = 400


def arm_of(
    points: list[float] | NDArray[np.floating[Any]],
    images: Floats | None = None,
    *,
    sets: tuple[int, ...] | None = None,
    seeds: tuple[int, ...] | None = None,
    ensemble: bool = False,
) -> ArmScores:
    """An arm whose resamples are its points plus ``images`` ``(R,)`` or ``(S, R)``."""
    points_S = np.asarray(points, np.float64)
    images = np.zeros(NUM_RESAMPLES) if images is None else images
    rows = None if ensemble else seeds or tuple(range(len(points_S)))
    sets = tuple(range(len(points_S))) if ensemble and sets is None else sets
    return ArmScores(points_S, points_S[:, None] + images, rows, sets)


def normal_images(deviation: float) -> Floats:
    """Quantiles of the normal distribution, so that nothing is left to chance."""
    levels = (np.arange(NUM_RESAMPLES) + 0.5) / NUM_RESAMPLES
    return np.asarray(deviation * scipy.stats.norm.ppf(levels))


def ends(found: Interval) -> tuple[float, float]:
    return found.low, found.high


def test_without_chance_in_images_it_is_students_interval() -> None:
    points = np.array([0.41, 0.43, 0.40, 0.46])
    found = interval(arm_of(points))
    expected = scipy.stats.t.interval(0.95, 3, points.mean(), scipy.stats.sem(points))
    assert ends(found) == pytest.approx(expected, rel=2e-3)
    assert found.mean == pytest.approx(points.mean())
    assert (found.num_seeds, found.num_teacher_sets, found.note) == (4, None, "")


def test_one_seed_gives_percentiles_over_images_and_says_so() -> None:
    images = np.random.default_rng(0).exponential(0.02, NUM_RESAMPLES)
    found = interval(arm_of([0.4], images))
    shifted = 0.4 + images - images.mean()
    assert ends(found) == pytest.approx(np.quantile(shifted, (0.025, 0.975)), abs=2e-4)
    assert not found.covers_seeds
    assert (
        found.note
        == "One seed: the interval is over test images only, not over chance in training."
    )


@pytest.mark.parametrize("deviation", [0.004, 0.02])
def test_seeds_and_images_add_up_to_behrens_and_fishers_distribution(deviation: float) -> None:
    points = np.array([0.41, 0.43, 0.40])
    found = interval(arm_of(points, normal_images(deviation)))
    error = scipy.stats.sem(points)

    def density(z: float) -> float:
        t = (found.high - points.mean() - deviation * z) / error
        return float(scipy.stats.norm.pdf(z) * scipy.stats.t.sf(t, 2))

    assert scipy.integrate.quad(density, -8, 8)[0] == pytest.approx(0.025, rel=0.05)
    assert found.high - found.mean == pytest.approx(found.mean - found.low, rel=0.02)


def test_the_interval_lies_about_the_mean_though_resamples_are_biased() -> None:
    plain = interval(arm_of([0.41, 0.43, 0.40], normal_images(0.01)))
    biased = interval(arm_of([0.41, 0.43, 0.40], normal_images(0.01) + 0.05))
    assert ends(biased) == pytest.approx(ends(plain), abs=1e-12)


def test_ends_stay_within_the_metric() -> None:
    found = interval(arm_of([0.01, 0.99]))
    assert ends(found) == (0, 1)
    gap = difference(arm_of([0.01, 0.99]), arm_of([0.99, 0.01]))
    assert ends(gap) == (-1, 1)


def test_what_seeds_and_images_do_to_both_arms_cancels() -> None:
    rng = np.random.default_rng(1)
    images = 0.02 * rng.standard_normal((4, NUM_RESAMPLES))
    reference = 0.4 + 0.1 * rng.random(4)
    found = difference(arm_of(reference + 0.012, images), arm_of(reference, images))
    assert (found.mean, *ends(found)) == pytest.approx((0.012,) * 3, abs=1e-12)
    back = difference(arm_of(reference, images), arm_of(reference + 0.012, images))
    assert back.mean == pytest.approx(-0.012)
    assert interval(arm_of(reference, images)).high > reference.mean() + 0.03


def test_a_difference_is_over_the_seeds_that_both_have() -> None:
    student = arm_of([0.45, 0.44, 0.47], seeds=(7, 3, 5), sets=(1, 0, 0))
    baseline = arm_of([0.41, 0.40, 0.42, 0.40], seeds=(3, 5, 8, 9))
    found = difference(student, baseline)
    assert found.mean == pytest.approx((0.44 - 0.41 + 0.47 - 0.40) / 2)
    assert (found.num_seeds, found.num_teacher_sets) == (2, 1)
    assert found.note.startswith("Over the 2 seeds that both arms have. ")


def test_a_teacher_ensemble_is_paired_with_seeds_by_images_alone() -> None:
    images = 0.05 * np.random.default_rng(2).standard_normal(NUM_RESAMPLES)
    teachers, baseline = [0.44, 0.46, 0.47], [0.41, 0.40, 0.42, 0.40]
    found = difference(arm_of(teachers, images, ensemble=True), arm_of(baseline, images))
    assert (found.num_seeds, found.num_teacher_sets) == (4, 3)
    assert found.note == "Paired by test images alone."
    # What images do to both cancels; two independent t parts stay.
    rng = np.random.default_rng(3)
    simulated = sum(
        scipy.stats.sem(values) * rng.standard_t(len(values) - 1, 400_000)
        for values in (teachers, baseline)
    )
    expected = float(np.quantile(np.abs(simulated), 0.95))
    mean = np.mean(teachers) - np.mean(baseline)
    assert ends(found) == pytest.approx((mean - expected, mean + expected), abs=0.03 * expected)


def test_two_ensembles_of_the_same_teacher_sets_are_paired() -> None:
    first, second = (arm_of(x, ensemble=True) for x in ([0.44, 0.47, 0.5], [0.43, 0.46, 0.49]))
    found = difference(first, second)
    assert (found.mean, *ends(found)) == pytest.approx((0.01,) * 3, abs=1e-12)
    assert (found.num_seeds, found.num_teacher_sets, found.note) == (None, 3, "")


@pytest.mark.parametrize(
    ("num_seeds", "sets", "words"),
    [
        (3, (0, 0, 0), "Conditional on one teacher set"),
        (3, (0, 0, 1), "Two teacher sets"),
        (2, (0, 1), "Two seeds"),
        (2, (0, 0), "Conditional on one teacher set"),
        (1, (0,), "One seed"),
        (3, (0, 1, 2), ""),
        (4, (0, 1, 1, 2), ""),
    ],
)
def test_what_is_not_covered_is_said(num_seeds: int, sets: tuple[int, ...], words: str) -> None:
    points = 0.4 + 0.01 * np.arange(num_seeds)
    student, baseline = arm_of(points, sets=sets), arm_of(points[::-1])
    for found in (interval(student), difference(student, baseline)):
        assert found.note.startswith(words)
        assert bool(found.note) == bool(words)
        assert found.num_teacher_sets == len(set(sets))
        assert found.covers_seeds == (num_seeds > 1)


def test_ensembles_say_how_few_teacher_sets_there_are() -> None:
    one, two = arm_of([0.4], ensemble=True), arm_of([0.4, 0.41], ensemble=True)
    assert (
        interval(one).note
        == "One teacher set: the interval is over test images only, not over chance in training."
    )
    assert interval(two).note.startswith("Two teacher sets say little")
    gap = difference(one, arm_of([0.39, 0.4, 0.41]))
    assert not gap.covers_seeds
    assert gap.note.startswith("Paired by test images alone. One teacher set: ")


def test_resamples_without_a_value_are_left_out_unless_they_are_many() -> None:
    images = normal_images(0.01)
    few, many = images.copy(), images.copy()
    few[200:210], many[200:230] = np.nan, np.nan
    points = [0.41, 0.43, 0.40]
    assert ends(interval(arm_of(points, few))) == pytest.approx(
        ends(interval(arm_of(points, images))), abs=2e-3
    )
    found = interval(arm_of(points, many))
    assert math.isnan(found.low)
    assert math.isnan(found.high)
    assert found.mean == pytest.approx(np.mean(points))
    assert found.note == "Too few positives for an interval."
    text = json.dumps(found.to_json(), allow_nan=False)
    assert json.loads(text)["low"] is None


def test_json_holds_every_field() -> None:
    found = difference(arm_of([0.41, 0.43, 0.4], sets=(0, 1, 2)), arm_of([0.4, 0.4, 0.41]))
    assert Interval(**json.loads(json.dumps(found.to_json()))) == found


def test_the_same_seed_gives_the_same_interval() -> None:
    arm = arm_of([0.41, 0.43, 0.40], normal_images(0.01))
    assert interval(arm, seed=4) == interval(arm, seed=4)
    assert interval(arm, seed=5) != interval(arm, seed=4)


def test_real_metrics_of_the_same_predictor_differ_nowhere() -> None:
    rng = np.random.default_rng(0)
    targets = (rng.random((60, 3)) < 0.4).astype(np.int8)
    weights = draw_image_weights(60, 50, seed=0)
    logits = [rng.standard_normal((60, 3)) + targets for _ in range(3)]
    points = np.array([mean_average_precision(average_precision(z, targets)) for z in logits])
    resampled = np.stack([resampled_metrics(z, targets, weights).mAP for z in logits])
    arm = ArmScores(points, resampled, seeds=(0, 1, 2))
    assert ends(difference(arm, arm)) == (0, 0)
    found = interval(arm)
    assert 0 < found.low < found.mean < found.high < 1


def test_method_names_what_intervals_cover_and_what_not() -> None:
    for words in ("further seeds and further test splits", "other data", "one teacher set"):
        assert words.replace("one ", "") in METHOD
    assert METHOD.count("\n\n") == 5
    assert max(map(len, METHOD.split("\n\n"))) < 700


def test_method_names_the_coverage_that_was_found() -> None:
    evidence = (Path(__file__).resolve().parents[2] / "docs" / "evidence.md").read_text("utf-8")
    section = evidence.split("## How often the intervals")[1].split("\n## ")[0]
    rows = [line.strip("| ").split(" | ") for line in section.splitlines() if line[2:3].isdigit()]
    first = [float(cell.strip("*")) for row in rows if len(row) == 8 for cell in row[3:5]]
    second = [(row[2], float(row[5].strip("*"))) for row in rows if len(row) == 7]
    assert (len(first), len(second)) == (54, 10)
    rare = [found for positives, found in second if positives == "5"]
    found = [*first, *(found for positives, found in second if positives != "5")]
    assert f"{min(found):.0f} to {max(found):.0f} %" in METHOD
    assert f"{rare[0]:.0f} % for a label with five positives" in METHOD


@pytest.mark.parametrize(
    ("sets", "student_too_wide"),
    [(None, 2.2), ((0, 1, 2), 2.2), ((0, 0, 1, 1, 1), 3.5), ((0, 0, 1, 1, 2), 2.5)],
)
def test_intervals_hold_the_truth_in_simulation(
    sets: tuple[int, ...] | None, student_too_wide: float
) -> None:
    rng = np.random.default_rng(8)
    num_seeds = 3 if sets is None else len(sets)
    held, widths = 0, []
    repetitions = 200
    for _ in range(repetitions):
        common = 0.02 * rng.standard_normal(NUM_RESAMPLES + 1)
        arms = []
        for of_arm in (sets, None):
            chance = 0.004 * rng.standard_normal(num_seeds)
            if of_arm is not None:
                chance += 0.004 * rng.standard_normal(max(of_arm) + 1)[list(of_arm)]
            own = 0.002 * rng.standard_normal((num_seeds, NUM_RESAMPLES + 1))
            points = 0.5 + chance + common[-1] + own[:, -1]
            arms.append(arm_of(points, common[:-1] + own[:, :-1], sets=of_arm))
        found = difference(*arms)
        held += found.low <= 0 <= found.high
        widths.append(found.high - found.low)
    sizes = np.zeros(1) if sets is None else np.bincount(sets)
    variance = 2 * (0.004**2 + 0.002**2) / num_seeds
    variance += 0.004**2 * float((sizes**2).sum()) / num_seeds**2
    # 200 repetitions of 95 % have a standard deviation of 1.5 %.
    assert held / repetitions > 0.91
    assert np.median(widths) < student_too_wide * 2 * 1.96 * math.sqrt(variance)


@pytest.mark.parametrize(
    ("points", "resampled", "seeds", "sets", "words"),
    [
        ([], (0, 5), (), None, "one finite value or more"),
        ([math.nan], (1, 5), (0,), None, "one finite value or more"),
        ([0.4], (2, 5), (0,), None, "Resamples of shape"),
        ([0.4], (5,), (0,), None, "Resamples of shape"),
        ([0.4], (1, 0), (0,), None, "Resamples of shape"),
        ([0.4, 0.5], (2, 5), (0, 0), None, "distinct seeds"),
        ([0.4, 0.5], (2, 5), (0,), None, "distinct seeds"),
        ([0.4, 0.5], (2, 5), None, None, "distinct seeds"),
        ([0.4, 0.5], (2, 5), None, (0, 0), "distinct seeds"),
        ([0.4, 0.5], (2, 5), (0, 1), (0,), "of teacher sets"),
    ],
)
def test_scores_that_do_not_fit_are_refused(
    points: list[float],
    resampled: tuple[int, ...],
    seeds: tuple[int, ...] | None,
    sets: tuple[int, ...] | None,
    words: str,
) -> None:
    with pytest.raises(ValueError, match=words):
        ArmScores(np.array(points), np.zeros(resampled), seeds, sets)


def test_arms_that_cannot_be_compared_are_refused() -> None:
    arm = arm_of([0.4, 0.5], sets=(0, 1))
    with pytest.raises(ValueError, match="400 and 5 resamples"):
        difference(arm, arm_of([0.4, 0.5], np.zeros(5)))
    with pytest.raises(ValueError, match="no seed"):
        difference(arm, arm_of([0.4, 0.5], seeds=(2, 3)))
    with pytest.raises(ValueError, match="in two ways"):
        difference(arm, arm_of([0.4, 0.5], sets=(0, 0)))
