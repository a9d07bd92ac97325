import math

import numpy as np
import pytest
import sklearn.metrics
from hypothesis import given, settings
from hypothesis import strategies as st

from cpsd.evaluation.metrics import evaluate
from cpsd.evaluation.predicted_labels import predicted_labels
from cpsd.evaluation.threshold_choice import choose_thresholds, find_thresholds
from cpsd.evaluation.thresholds import Criterion, LabelThreshold
from cpsd.labels import LabelSpace
from simulated_scores import label_space, logits_of, targets_and_logits, targets_of

CRITERIA = (Criterion("f1"), Criterion("precision", 0.8), Criterion("recall", 0.75))


def one_label(logits: list[float], targets: list[int], criterion: Criterion) -> LabelThreshold:
    chosen = choose_thresholds(
        logits_of(logits)[:, None],
        targets_of(targets)[:, None],
        LabelSpace(("cat",)),
        criterion=criterion,
    )
    return chosen.by_label["cat"]


def all_outcomes(scores: np.ndarray, present: np.ndarray) -> list[tuple[float, float, float]]:
    """Precision, recall and F1 at every distinct score, the highest first, by scikit-learn."""
    outcomes = []
    for cut in sorted(set(scores.tolist()), reverse=True):
        p, r, f, _ = sklearn.metrics.precision_recall_fscore_support(
            present, scores >= cut, average="binary", zero_division=0
        )
        outcomes.append((p, r, f))
    return outcomes


@settings(deadline=None, max_examples=40)
@given(seed=st.integers(0, 10_000), criterion=st.sampled_from(CRITERIA), levels=st.integers(1, 4))
def test_nothing_better_is_found_by_trying_every_cut(
    seed: int, criterion: Criterion, levels: int
) -> None:
    targets, logits = targets_and_logits(seed, shape=(25, 2), unknown=0.1)
    scores = (np.round(logits["student"] * levels) / levels).astype(np.float32)
    chosen = choose_thresholds(scores, targets, label_space(2), criterion=criterion)
    predicted = predicted_labels(scores, chosen.of(label_space(2)))
    for c, (name, own) in enumerate(chosen.by_label.items()):
        known = targets[:, c] != -1
        present = targets[known, c] == 1
        if not present.any():
            assert name in chosen.kept_default
            assert own.threshold == 0.5
            continue
        # The figures are those of really predicting with the threshold that was chosen.
        p, r, f, _ = sklearn.metrics.precision_recall_fscore_support(
            present, predicted[known, c], average="binary", zero_division=0
        )
        assert (own.precision, own.recall, own.f1) == pytest.approx((p, r, f))
        outcomes = all_outcomes(scores[known, c], present)
        if criterion.kind == "f1":
            assert own.f1 == pytest.approx(max(f for _, _, f in outcomes))
            continue
        assert criterion.wanted is not None
        goal, other = (0, 1) if criterion.kind == "precision" else (1, 0)
        met = [outcome for outcome in outcomes if outcome[goal] >= criterion.wanted]
        if met:
            assert name not in chosen.unreachable
            best = max((outcome[other], outcome[goal]) for outcome in met)
            assert ((p, r)[other], (p, r)[goal]) == pytest.approx(best)
        else:
            assert name in chosen.unreachable
            assert p == pytest.approx(max(outcome[0] for outcome in outcomes))


def test_the_threshold_lies_half_way_to_the_next_lower_logit() -> None:
    own = one_label([3.0, 1.0, -1.0], [1, 1, 0], Criterion("f1"))
    assert own.threshold == 0.5
    own = one_label([3.0, 1.0, -1.0], [1, 0, 0], Criterion("f1"))
    assert own.threshold == pytest.approx(1 / (1 + math.exp(-2)))


def test_of_equal_f1_the_higher_threshold_is_taken() -> None:
    # One of one right (F1 2/3), or two of four right (F1 2/3).
    own = one_label([3, 2, 1, 0], [1, 0, 0, 1], Criterion("f1"))
    assert (own.precision, own.recall) == (1.0, 0.5)


def test_images_of_equal_logits_are_never_torn_apart() -> None:
    own = one_label([1, 1, 1, 0], [1, 0, 0, 1], Criterion("precision", 0.9))
    assert own.precision == 0.5  # the best there is


def test_an_unreachable_precision_is_named_and_gets_the_highest_there_is() -> None:
    targets, logits = targets_of([[0], [1], [1], [0]]), logits_of([[3], [2], [1], [0]])
    chosen = choose_thresholds(
        logits, targets, LabelSpace(("cat",)), criterion=Criterion("precision", 0.9)
    )
    assert chosen.unreachable == ("cat",)
    assert chosen.by_label["cat"].precision == pytest.approx(2 / 3)
    assert chosen.by_label["cat"].recall == 1.0


def test_every_recall_can_be_reached() -> None:
    own = one_label([3, 2, -40], [0, 0, 1], Criterion("recall", 1.0))
    assert own.recall == 1.0
    assert 0 < own.threshold < 1e-10


def test_neighbouring_and_saturated_logits_keep_their_side() -> None:
    # Half-way between neighbours is rounded to the even one: here the upper, there the lower.
    below, above = (float(np.nextafter(np.float32(2), np.float32(to))) for to in (1, 3))
    for logits in ([2.0, below], [above, 2.0], [60.0, 1.0], [16.0, 14.9]):
        own = one_label(logits, [1, 0], Criterion("f1"))
        scores = logits_of(logits)[:, None]
        assert predicted_labels(scores, np.array([own.threshold]))[:, 0].tolist() == [True, False]


def test_a_label_without_positives_keeps_the_default_and_is_named() -> None:
    targets, logits = targets_and_logits(2, shape=(30, 2))
    targets[:, 1] = np.where(np.arange(30) < 10, -1, 0)
    chosen = choose_thresholds(
        logits["student"], targets, label_space(2), criterion=Criterion(), default=0.3
    )
    assert chosen.kept_default == ("label 1",)
    assert chosen.by_label["label 1"].threshold == 0.3
    assert chosen.to_json()["labels"]["label 1"]["f1"] is None


def test_the_finding_holds_the_scores_at_both_kinds_of_threshold() -> None:
    targets, logits = targets_and_logits(3, shape=(200, 4))
    labels = label_space(4)
    thresholds = {
        name: choose_thresholds(z[:100], targets[:100], labels, criterion=Criterion("recall", 0.9))
        for name, z in logits.items()
    }
    test = {name: z[100:] for name, z in logits.items()}
    finding = find_thresholds(test, targets[100:], labels, thresholds=thresholds)
    for name, z in test.items():
        expected = evaluate(z, targets[100:], labels, threshold=thresholds[name].of(labels))
        assert finding.at_thresholds[name].CF1 == expected.CF1
        assert finding.at_default[name].OR == evaluate(z, targets[100:], labels).OR
        assert finding.at_thresholds[name].OR > finding.at_default[name].OR
    assert finding.to_json()["predictors"]["student"]["thresholds"]["criterion"] == {
        "kind": "recall",
        "wanted": 0.9,
    }


def test_shapes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="differ"):
        choose_thresholds(
            np.zeros((2, 2), np.float32),
            np.zeros((2, 3), np.int8),
            label_space(2),
            criterion=Criterion(),
        )
