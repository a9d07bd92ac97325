import json
import math
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import sklearn.metrics
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from cpsd.errors import DataError
from cpsd.evaluation.metrics import (
    PrecisionRecall,
    average_precision,
    evaluate,
    mean_average_precision,
    precision_recall,
    top_k_mask,
)
from cpsd.labels import LabelSpace, Targets

Floats = NDArray[np.float32]
SIX = ("CP", "CR", "CF1", "OP", "OR", "OF1")


def label_space(num_labels: int) -> LabelSpace:
    return LabelSpace(tuple(f"label {c}" for c in range(num_labels)))


def random_scores(
    seed: int, *, shape: tuple[int, int] = (60, 8), levels: int = 0, unknown: float = 0.0
) -> tuple[Floats, Targets]:
    """Scores that rank better than chance; with ``levels`` many distinct values, so ties."""
    rng = np.random.default_rng(seed)
    targets = (rng.random(shape) < 0.3).astype(np.int8)
    scores = (rng.standard_normal(shape) + targets - 0.5).astype(np.float32)
    if levels:
        scores = (np.round(scores * levels) / levels).astype(np.float32)
    targets[rng.random(shape) < unknown] = -1
    return scores, targets


def sklearn_average_precision(scores: Floats, targets: Targets) -> list[float]:
    result = []
    for z, y in zip(scores.T, targets.T, strict=True):
        known = y != -1
        has_positive = bool((y == 1).any())
        result.append(
            float(sklearn.metrics.average_precision_score(y[known], z[known]))
            if has_positive
            else math.nan
        )
    return result


def sklearn_six(predicted: NDArray[np.bool_], targets: Targets) -> dict[str, float]:
    def both(average: str) -> tuple[float, float]:
        precision, recall = (
            float(score(targets, predicted, average=average, zero_division=0))
            for score in (sklearn.metrics.precision_score, sklearn.metrics.recall_score)
        )
        return precision, recall

    cp, cr = both("macro")
    op, or_ = both("micro")
    f1 = {name: 2 * p * r / (p + r) for name, p, r in (("C", cp, cr), ("O", op, or_)) if p + r > 0}
    return dict(zip(SIX, (cp, cr, f1.get("C", 0.0), op, or_, f1.get("O", 0.0)), strict=True))


def six(scores: PrecisionRecall) -> dict[str, float]:
    return {name: getattr(scores, name) for name in SIX}


@pytest.mark.dataset
def test_equals_the_published_metrics(shared: Path, seeded: ModuleType) -> None:
    for case in json.loads((shared / "reference" / "losses_metrics.json").read_text()):
        y, z, _, _ = seeded.scores(case["seed"], case["images"], case["labels"])
        metrics = evaluate(
            z, y.astype(np.int8), label_space(case["labels"]), threshold=case["threshold"]
        )
        assert list(metrics.average_precision.values()) == pytest.approx(
            case["average_precision"],
            abs=6e-7,  # recorded with six decimals
        )
        assert 100 * metrics.mAP == pytest.approx(case["mAP"], rel=1e-5)
        assert six(metrics) == pytest.approx({name: case[name] for name in SIX}, rel=1e-5)
        top = six(metrics.at_top_k)
        if case["seed"] == 2:
            # Published OP counts one prediction for every label never predicted; ours does not.
            never = int((~(top_k_mask(z, 3) & (z >= math.log(4))).any(axis=0)).sum())
            hits = top["OR"] * y.sum()
            assert never > 0
            assert hits / (hits / top["OP"] + never) == pytest.approx(case["top3"]["OP"], rel=1e-5)
            top |= {"OP": case["top3"]["OP"], "OF1": case["top3"]["OF1"]}
        assert top == pytest.approx(case["top3"], rel=1e-5)


@pytest.mark.parametrize("levels", [0, 1, 4])  # 0: no ties; 1: hardly anything but ties
@pytest.mark.parametrize("unknown", [0.0, 0.3])
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_average_precision_equals_scikit_learn(levels: int, unknown: float, dtype: type) -> None:
    scores, targets = random_scores(levels, levels=levels, unknown=unknown)
    targets[:, 3] = np.minimum(targets[:, 3], 0)  # no positive
    targets[:, 4] = 1  # nothing but positives
    scores = scores.astype(dtype)
    found = average_precision(scores, targets)
    assert found.dtype == np.float64
    assert math.isnan(found[3])
    assert found[4] == 1
    assert found.tolist() == pytest.approx(
        sklearn_average_precision(scores, targets), rel=1e-12, nan_ok=True
    )


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 12))
def test_average_precision_depends_on_ranks_alone(seed: int, num_images: int) -> None:
    scores, targets = random_scores(seed, shape=(num_images, 3), levels=2, unknown=0.2)
    expected = average_precision(scores, targets)
    order = np.random.default_rng(seed).permutation(num_images)
    np.testing.assert_array_equal(average_precision(scores[order], targets[order]), expected)
    stretched = np.exp(scores.astype(np.float64)) * 7
    np.testing.assert_array_equal(average_precision(stretched, targets), expected)
    known = expected[~np.isnan(expected)]
    assert ((known > 0) & (known <= 1)).all()


def test_unknown_targets_do_not_exist_for_average_precision() -> None:
    scores, targets = random_scores(0, shape=(50, 1), unknown=0.4)
    known = targets[:, 0] != -1
    np.testing.assert_array_equal(
        average_precision(scores, targets), average_precision(scores[known], targets[known])
    )


def test_negative_zero_ties_with_zero() -> None:
    scores = np.array([[-0.0], [0.0]], np.float32)
    assert average_precision(scores, np.array([[1], [0]], np.int8)).tolist() == [0.5]


def test_mean_leaves_out_labels_without_positives() -> None:
    assert mean_average_precision(np.array([0.2, np.nan, 0.6])) == pytest.approx(0.4)
    assert math.isnan(mean_average_precision(np.array([np.nan, np.nan])))


@pytest.mark.parametrize("seed", range(5))
def test_precision_and_recall_equal_scikit_learn(seed: int) -> None:
    scores, targets = random_scores(seed, shape=(30, 6))
    targets[0] = 1  # every label has a positive
    predicted = scores > 0.8
    predicted[:, 2] = False  # a label never predicted
    assert six(precision_recall(predicted, targets)) == pytest.approx(
        sklearn_six(predicted, targets), rel=1e-12
    )


def test_a_label_without_positives_counts_in_overall_precision_only() -> None:
    scores, targets = random_scores(1, shape=(30, 6))
    targets[:, 5] = 0
    predicted = scores > 0
    found = six(precision_recall(predicted, targets))
    over_all = sklearn_six(predicted, targets)
    without = sklearn_six(predicted[:, :5], targets[:, :5])
    assert predicted[:, 5].any()
    expected = {n: (without if n.startswith("C") else over_all)[n] for n in SIX}
    assert found == pytest.approx(expected, rel=1e-12)
    assert over_all["CP"] < without["CP"]


def test_unknown_targets_count_in_no_precision_and_no_recall() -> None:
    predicted = np.array([[True, True], [True, False], [True, False]])
    targets = np.array([[1, -1], [0, 1], [-1, -1]], np.int8)
    assert precision_recall(predicted, targets) == PrecisionRecall(
        CP=0.25, CR=0.5, CF1=1 / 3, OP=0.5, OR=0.5, OF1=0.5
    )


def test_nothing_predicted_is_zero_and_nothing_present_is_nan() -> None:
    nothing = np.zeros((3, 2), bool)
    present = np.ones((3, 2), np.int8)
    assert set(six(precision_recall(nothing, present)).values()) == {0.0}
    assert all(math.isnan(v) for v in six(precision_recall(~nothing, present * 0)).values())


@pytest.mark.parametrize("top_k", [1, 3, 7, 8, 20])
@pytest.mark.parametrize("levels", [0, 1])
def test_top_k_takes_the_first_of_equal_labels(top_k: int, levels: int) -> None:
    scores, _ = random_scores(top_k, levels=levels)
    expected = np.zeros(scores.shape, bool)
    for n, row in enumerate(scores.tolist()):
        best = sorted(range(len(row)), key=lambda c: (-row[c], c))[:top_k]
        expected[n, best] = True
    np.testing.assert_array_equal(top_k_mask(scores, top_k), expected)


def test_top_k_predictions_also_reach_the_threshold() -> None:
    scores, targets = random_scores(7, shape=(40, 6))
    targets[0] = 1
    metrics = evaluate(scores, targets, label_space(6), threshold=0.6, top_k=2)
    probabilities = 1 / (1 + np.exp(-scores.astype(np.float64)))
    order = np.argsort(-scores, axis=1, kind="stable")[:, :2]
    in_top = np.zeros(scores.shape, bool)
    np.put_along_axis(in_top, order, True, axis=1)
    over = probabilities >= 0.6
    assert six(metrics) == pytest.approx(sklearn_six(over, targets))
    assert six(metrics.at_top_k) == pytest.approx(sklearn_six(over & in_top, targets))
    assert (in_top & ~over).any()


def test_probabilities_and_logits_score_alike() -> None:
    scores, targets = random_scores(8)
    logits = scores.astype(np.float64)
    of_logits = evaluate(logits, targets, label_space(8), threshold=0.7)
    probabilities = 1 / (1 + np.exp(-logits))
    assert of_logits == evaluate(
        probabilities, targets, label_space(8), threshold=0.7, kind="probabilities"
    )


def test_saturated_logits_are_still_ranked() -> None:
    logits = np.array([[40.0], [30.0], [20.0]], np.float32)  # float32 sigmoid: 1, 1, 1
    targets = np.array([[1], [0], [0]], np.int8)
    assert evaluate(logits, targets, label_space(1)).mAP == 1


def test_the_threshold_itself_counts_as_predicted() -> None:
    targets = np.ones((1, 1), np.int8)
    assert evaluate(np.zeros((1, 1)), targets, label_space(1)).OR == 1
    seventy = np.full((1, 1), 0.7, np.float32)
    metrics = evaluate(seventy, targets, label_space(1), threshold=0.7, kind="probabilities")
    assert metrics.OR == 1


def test_labels_without_positives_are_named_and_written_as_null() -> None:
    scores, targets = random_scores(9, shape=(20, 3))
    targets[:, 1] = -1
    metrics = evaluate(scores, targets, LabelSpace(("cat", "dog", "emu")), top_k=2)
    written = json.loads(json.dumps(metrics.to_json(), allow_nan=False))
    assert metrics.excluded_labels == ("dog",)
    assert metrics.mAP == pytest.approx(
        np.mean([metrics.average_precision[name] for name in ("cat", "emu")])
    )
    assert written["average_precision"]["dog"] is None
    assert written["average_precision"]["cat"] == metrics.average_precision["cat"]
    assert written["excluded_labels"] == ["dog"]
    assert written["top2"]["OF1"] == metrics.at_top_k.OF1
    assert (written["num_images"], written["threshold"], written["top_k"]) == (20, 0.5, 2)
    assert {name: written[name] for name in SIX} == six(metrics)


def test_no_positive_anywhere_excludes_every_label() -> None:
    metrics = evaluate(np.zeros((2, 2)), np.zeros((2, 2), np.int8), label_space(2))
    assert metrics.excluded_labels == label_space(2).names
    assert metrics.to_json()["mAP"] is None
    assert metrics.to_json()["OF1"] is None


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_scores_that_are_not_finite_are_refused(bad: float) -> None:
    scores, targets = random_scores(0)
    scores[5, 2] = bad
    with pytest.raises(DataError, match=r"1 scores are not finite .*row 5, label column 2"):
        evaluate(scores, targets, label_space(8))
    with pytest.raises(DataError, match="not finite"):
        average_precision(scores, targets)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"threshold": 0.0}, "threshold is 0.0"),
        ({"threshold": 1.0}, "threshold is 1.0"),
        ({"top_k": 0}, "top_k is 0"),
        ({"kind": "probabilities"}, r"must lie in \[0, 1\]"),
        ({"labels": label_space(7)}, "8 columns of scores do not fit 7 labels"),
        ({"targets_NC": np.zeros((60, 1), np.int8)}, r"\(60, 8\) do not fit .* \(60, 1\)"),
    ],
)
def test_arguments_that_do_not_fit_are_refused(changes: dict[str, object], message: str) -> None:
    scores, targets = random_scores(0)
    arguments = {"scores_NC": scores, "targets_NC": targets, "labels": label_space(8)} | changes
    with pytest.raises(ValueError, match=message):
        evaluate(**arguments)  # type: ignore[arg-type]


def test_no_picture_is_refused() -> None:
    with pytest.raises(DataError, match="no picture"):
        evaluate(np.zeros((0, 2)), np.zeros((0, 2), np.int8), label_space(2))
