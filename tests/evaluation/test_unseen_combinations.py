import numpy as np
import pytest
import sklearn.metrics
from hypothesis import given, settings
from hypothesis import strategies as st

from cpsd.evaluation import unseen_combinations
from cpsd.evaluation.unseen_combinations import compare_combinations, find_unseen_combinations
from cpsd.labels import Targets
from simulated_scores import label_space, logits_of, targets_and_logits


def could_be(row: np.ndarray, other: np.ndarray) -> bool:
    return all(a == b or -1 in (a, b) for a, b in zip(row.tolist(), other.tolist(), strict=True))


def random_targets(seed: int, rows: int, unknown: float) -> Targets:
    rng = np.random.default_rng(seed)
    targets = (rng.random((rows, 9)) < 0.3).astype(np.int8)
    targets[rng.random(targets.shape) < unknown] = -1
    return targets


@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 1000), unknown=st.sampled_from([0.0, 0.02, 0.3]))
def test_groups_equal_a_loop_over_pairs_of_rows(seed: int, unknown: float) -> None:
    targets = random_targets(seed, 30, unknown / 2)
    training = random_targets(seed + 1, 40, unknown)
    found = compare_combinations(targets, training)
    for n, row in enumerate(targets):
        whole = -1 not in row
        same = any(whole and (row == other).all() for other in training)
        assert found.seen[n] == same
        assert found.unseen[n] == (whole and not any(could_be(row, other) for other in training))


def test_small_steps_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    targets, training = random_targets(1, 60, 0.05), random_targets(2, 60, 0.3)
    at_once = compare_combinations(targets, training)
    monkeypatch.setattr(unseen_combinations, "_MOST_CELLS", 100)
    np.testing.assert_array_equal(compare_combinations(targets, training).unseen, at_once.unseen)


def test_scores_are_those_of_the_images_of_each_group() -> None:
    targets, logits = targets_and_logits(3, shape=(200, 5))
    training = targets[:12]
    finding = find_unseen_combinations(logits, targets, label_space(5), training_MC=training)
    known = {tuple(row) for row in training.tolist()}
    seen = np.array([tuple(row) in known for row in targets.tolist()])
    assert (finding.seen, finding.unseen) == (seen.sum(), (~seen).sum())
    assert finding.training_combinations == len(known)
    for name, scores in finding.scores.items():
        for score, group in zip(scores, (~seen, seen), strict=True):
            columns = [c for c in range(5) if targets[group, c].any()]
            expected = np.mean(
                [
                    sklearn.metrics.average_precision_score(
                        targets[group, c], logits[name][group, c]
                    )
                    for c in columns
                ]
            )
            assert score.mAP == pytest.approx(expected)
    said = finding.to_json()["predictors"]["student"]
    assert said["difference"] == pytest.approx(
        said["unseen"]["mAP_common_labels"] - said["seen"]["mAP_common_labels"], abs=1e-5
    )


def test_only_labels_of_both_groups_are_compared() -> None:
    targets = np.array([[1, 0, 0], [0, 1, 0], [1, 0, 1], [0, 0, 0], [1, 1, 0]], np.int8)
    training = np.array([[1, 0, 0], [0, 1, 0], [0, 0, 0]], np.int8)
    logits = logits_of([[2, 0, 0], [0, 2, 0], [3, 0, 3], [0, 0, 0], [1, 1, 5]])
    finding = find_unseen_combinations(
        {"student": logits}, targets, label_space(3), training_MC=training
    )
    assert (finding.unseen, finding.seen, finding.common_labels) == (2, 3, 2)
    unseen, _ = finding.scores["student"]
    assert unseen.mAP == pytest.approx((1 + 1 + 0.5) / 3)
    assert unseen.mAP_common_labels == 1.0


def test_a_group_without_images_has_no_figures() -> None:
    targets, logits = targets_and_logits(4, shape=(20, 3))
    said = find_unseen_combinations(logits, targets, label_space(3), training_MC=targets).to_json()
    assert said["images"] == {"unseen": 0, "seen": 20, "undetermined": 0}
    assert said["predictors"]["student"]["unseen"] == {"mAP": None, "mAP_common_labels": None}
    assert said["predictors"]["student"]["difference"] is None


def test_other_labels_are_refused() -> None:
    with pytest.raises(ValueError, match="labels"):
        compare_combinations(np.zeros((2, 3), np.int8), np.zeros((2, 4), np.int8))
