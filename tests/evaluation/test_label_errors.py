import json

import numpy as np
import pytest
from cleanlab.multilabel_classification.rank import (  # type: ignore[import-untyped, unused-ignore]
    get_label_quality_scores_per_class,
)

from cpsd.evaluation.label_errors import (
    MOST_LISTED,
    calibrated,
    find_label_errors,
    label_quality,
)
from cpsd.evaluation.planted_errors import FlipKind, plant_errors, precision_at_planted
from cpsd.labels import Targets
from simulated_scores import Logits, label_space, targets_and_logits

ENSEMBLES = ("teachers/co-occurrence", "teachers/dis-occurrence")


def two_ensembles(seed: int, *, shift: float) -> tuple[Targets, dict[str, Logits]]:
    """Right targets, and ensembles that share half their noise; ``shift`` miscalibrates labels."""
    rng = np.random.default_rng(seed)
    shape = (800, 12)
    targets = (rng.random(shape) < rng.uniform(0.05, 0.3, 12)).astype(np.int8)
    shared = rng.standard_normal(shape)
    shifts = rng.uniform(0, 2 * shift, 12)
    logits = {}
    for name in ENSEMBLES:
        noise = (shared + rng.standard_normal(shape)) / np.sqrt(2)
        logits[name] = (4.5 * targets - 3 + 1.5 * noise + shifts).astype(np.float32)
    return targets, logits


def cleanlab_score(logits: dict[str, Logits], targets: Targets) -> np.ndarray:
    """Cleanlab's quality of each target, on the mean probability of the same ensembles."""
    probabilities = np.mean([1 / (1 + np.exp(-z)) for z in logits.values()], axis=0)
    given = [np.flatnonzero(row).tolist() for row in targets]
    score = get_label_quality_scores_per_class(given, probabilities)
    return np.asarray(score).reshape(targets.shape)


def ours_and_cleanlabs(kind: FlipKind, *, rate: float, shift: float) -> tuple[float, float]:
    """Return the mean precision at the number planted, of ours and of cleanlab's ranking."""
    found = []
    for seed in range(3):
        right, logits = two_ensembles(seed, shift=shift)
        targets, planted = plant_errors(right, rate=rate, seed=seed, kind=kind)
        scores = label_quality(logits, targets).score, cleanlab_score(logits, targets)
        found.append([precision_at_planted(score, planted) for score in scores])
    ours, theirs = np.mean(found, axis=0)
    return float(ours), float(theirs)


@pytest.mark.parametrize("rate", [0.01, 0.05])
@pytest.mark.parametrize(
    ("kind", "shift", "gain"),
    [
        ("balanced", 0.0, 0.0),
        ("balanced", 1.5, 0.15),  # labels that were pushed up do not fill the list
        ("uniform", 0.0, -0.03),  # nearly all errors are surplus, which cleanlab takes for granted
        ("uniform", 1.5, 0.2),
        ("missing", 0.0, 0.0),
        ("missing", 1.5, 0.0),  # pushed up is just what finds what is missing
    ],
)
def test_planted_errors_are_found_beside_cleanlab(
    kind: FlipKind, shift: float, gain: float, rate: float
) -> None:
    ours, theirs = ours_and_cleanlabs(kind, rate=rate, shift=shift)
    assert ours > theirs + gain
    assert ours > 0.65


def test_the_score_is_bayes_rule_with_the_estimated_rates() -> None:
    right, logits = two_ensembles(5, shift=0.5)
    quality = label_quality(logits, right)
    assert quality.rates is not None
    forgotten, surplus = quality.rates.forgotten, quality.rates.surplus
    for n, c in ((0, 0), (7, 3), (100, 11), *np.argwhere(right == 1)[:5].tolist()):
        p = float(quality.probability[n, c])
        given_if_there, given_if_not = (
            (1 - forgotten, surplus) if right[n, c] else (forgotten, 1 - surplus)
        )
        there = given_if_there * p / (given_if_there * p + given_if_not * (1 - p))
        credible = there if right[n, c] else 1 - there
        assert quality.score[n, c] == pytest.approx(credible)


def test_two_ensembles_find_more_than_one() -> None:
    both, single = [], []
    for seed in range(3):
        right, logits = two_ensembles(seed, shift=0)
        targets, planted = plant_errors(right, rate=0.03, seed=seed)
        both.append(precision_at_planted(label_quality(logits, targets).score, planted))
        alone = {ENSEMBLES[0]: logits[ENSEMBLES[0]]}
        single.append(precision_at_planted(label_quality(alone, targets).score, planted))
    assert np.mean(both) > np.mean(single) + 0.03


def test_calibration_makes_frequencies_of_probabilities() -> None:
    rng = np.random.default_rng(1)
    logits = rng.normal(2, 3, 5000)
    present = rng.random(5000) < 1 / (1 + np.exp(-(0.7 * logits - 3)))
    again = calibrated(logits, present)
    np.testing.assert_allclose(again, 0.7 * logits - 3, atol=0.6)
    assert np.mean(1 / (1 + np.exp(-again))) == pytest.approx(present.mean(), abs=1e-3)


def test_logits_that_rank_the_wrong_way_round_say_nothing() -> None:
    present = np.array([True, False, False, False])
    for logits in (np.array([-3.0, 1.0, 2.0, 3.0]), np.zeros(4)):
        np.testing.assert_allclose(calibrated(logits, present), np.log(1 / 3))


def test_only_what_every_ensemble_contradicts_is_listed() -> None:
    right, logits = two_ensembles(2, shift=0.5)
    targets, planted = plant_errors(right, rate=0.02, seed=2)
    targets[::7, 3] = -1
    labels, images = label_space(12), [f"photos/{n}.jpg" for n in range(len(targets))]
    finding = find_label_errors(logits, targets, labels, images=images)
    assert 0 < len(finding.entries) <= finding.suspected < finding.considered
    assert finding.considered == (targets != -1).sum()
    assert sum(finding.per_label.values()) == finding.suspected
    assert list(finding.per_label.values()) == sorted(finding.per_label.values(), reverse=True)
    scores = [entry.score for entry in finding.entries]
    assert scores == sorted(scores)
    for entry in finding.entries:
        n, c = images.index(entry.image), labels.index(entry.label)
        assert entry.given == targets[n, c] != -1
        for name, probability in entry.probabilities.items():
            assert probability == pytest.approx(1 / (1 + np.exp(-np.float64(logits[name][n, c]))))
    found = [
        planted[images.index(entry.image), labels.index(entry.label)]
        for entry in finding.entries[:50]
    ]
    assert np.mean(found) > 0.9


def test_both_kinds_of_error_are_listed() -> None:
    right, logits = two_ensembles(3, shift=0)
    targets, _ = plant_errors(right, rate=0.1, seed=3)
    images = [str(n) for n in range(len(targets))]
    finding = find_label_errors(logits, targets, label_space(12), images=images)
    given = [entry.given for entry in finding.entries]
    assert given.count(1) == MOST_LISTED
    assert given.count(0) > 20
    said = json.loads(json.dumps(finding.to_json(), allow_nan=False))
    assert said["entries_listed"] == len(said["entries"]) == len(given)


def test_an_entry_that_one_ensemble_defends_is_not_suspected() -> None:
    right, logits = two_ensembles(4, shift=0)
    n = int(np.flatnonzero(right[:, 0] == 0)[0])
    targets = right.copy()
    targets[n, 0] = 1
    for name in ENSEMBLES:
        logits[name][n, 0] = -6
    assert label_quality(logits, targets).suspected[n, 0]
    logits[ENSEMBLES[0]][n, 0] = 6
    assert not label_quality(logits, targets).suspected[n, 0]


def test_labels_that_cannot_be_judged_are_named() -> None:
    targets, logits = targets_and_logits(5, shape=(40, 3))
    targets[:, 1] = np.where(np.arange(40) < 5, -1, 0)
    finding = find_label_errors(logits, targets, label_space(3), images=[str(n) for n in range(40)])
    assert finding.left_out == ("label 1",)
    assert finding.considered == 80


def test_shapes_that_do_not_fit_are_refused() -> None:
    targets, logits = targets_and_logits(6, shape=(4, 3))
    with pytest.raises(ValueError, match="do not fit"):
        find_label_errors(logits, targets, label_space(3), images=["a"])
    with pytest.raises(ValueError, match="at least one"):
        label_quality({}, targets)
