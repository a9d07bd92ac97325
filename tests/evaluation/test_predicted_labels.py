import numpy as np
import pytest

from cpsd.evaluation.metrics import evaluate
from cpsd.evaluation.predicted_labels import predicted_labels
from simulated_scores import label_space, logits_of, targets_and_logits


def test_one_threshold_for_each_label_equals_one_label_after_the_other() -> None:
    _, logits = targets_and_logits(3, shape=(80, 4))
    scores = logits["student"]
    thresholds = np.array([0.1, 0.3, 0.5, 0.9])
    together = predicted_labels(scores, thresholds)
    for c, threshold in enumerate(thresholds.tolist()):
        np.testing.assert_array_equal(together[:, [c]], predicted_labels(scores[:, [c]], threshold))
        probability = 1 / (1 + np.exp(-scores[:, c].astype(np.float64)))
        np.testing.assert_array_equal(together[:, c], probability >= threshold)


def test_a_float32_probability_reaches_the_threshold_of_the_same_name() -> None:
    scores = logits_of([[0.7, 0.1]])
    assert predicted_labels(scores, np.array([0.7, 0.1]), kind="probabilities").all()
    assert predicted_labels(scores, 0.1, kind="probabilities").all()


def test_metrics_take_thresholds_by_label_and_name_them() -> None:
    targets, logits = targets_and_logits(4, shape=(90, 3))
    labels = label_space(3)
    alike = evaluate(logits["student"], targets, labels, threshold=np.full(3, 0.3))
    single = evaluate(logits["student"], targets, labels, threshold=0.3)
    mixed = evaluate(logits["student"], targets, labels, threshold=np.array([0.3, 0.3, 0.9]))
    assert (alike.CF1, alike.OF1, alike.at_top_k) == (single.CF1, single.OF1, single.at_top_k)
    assert mixed.OR < single.OR
    assert mixed.to_json()["threshold"] == {"label 0": 0.3, "label 1": 0.3, "label 2": 0.9}
    assert single.to_json()["threshold"] == 0.3


@pytest.mark.parametrize("threshold", [np.array([0.5, 0.5]), np.array([0.5, 0.5, 1.0])])
def test_thresholds_that_do_not_fit_are_refused(threshold: np.ndarray) -> None:
    with pytest.raises(ValueError, match="threshold"):
        predicted_labels(np.zeros((2, 3), np.float32), threshold)
