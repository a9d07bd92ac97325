import json

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score

from cpsd.config import EvaluationConfig
from cpsd.evaluation.scoreboard import ensemble_name, score, together
from cpsd.labels import LabelSpace

LABELS = LabelSpace(("cat", "dog", "tram"))
CO, DIS = ensemble_name("co-occurrence"), ensemble_name("dis-occurrence")
PREDICTORS = ("baseline", CO, DIS, "teachers", "student")


def inputs() -> tuple[dict[str, NDArray[np.float32]], NDArray[np.int8]]:
    rng = np.random.default_rng(4)
    logits = {name: rng.standard_normal((30, 3)).astype(np.float32) for name in PREDICTORS}
    return logits, rng.integers(0, 2, (30, 3)).astype(np.int8)


def test_every_predictor_is_scored_on_its_own_logits() -> None:
    logits, targets = inputs()
    board = score(logits, targets, LABELS, EvaluationConfig())
    assert tuple(board.metrics) == PREDICTORS
    for name, logits_NC in logits.items():
        expected = average_precision_score(targets, logits_NC, average="macro")
        assert board.metrics[name].mAP == pytest.approx(expected, abs=1e-12)


def test_threshold_and_top_k_come_from_the_settings() -> None:
    logits, targets = inputs()
    config = EvaluationConfig(threshold=0.8, top_k=1)
    metrics = score(logits, targets, LABELS, config).metrics["student"]
    predicted = logits["student"] >= np.log(4)
    hits = (predicted & (targets == 1)).sum()
    assert pytest.approx(hits / predicted.sum()) == metrics.OP
    first = np.zeros_like(predicted)
    first[np.arange(30), logits["student"].argmax(axis=1)] = True
    hits_at_1 = (predicted & first & (targets == 1)).sum()
    assert pytest.approx(hits_at_1 / (targets == 1).sum()) == metrics.at_top_k.OR


def test_the_student_is_measured_against_each_ensemble_and_all_together() -> None:
    logits, targets = inputs()
    distances = score(logits, targets, LABELS, EvaluationConfig()).distances
    assert set(distances) == {CO, DIS, "teachers"}
    for name, distance in distances.items():
        gap = logits["student"].astype(np.float64) - logits[name]
        assert distance.squared_logit == pytest.approx((gap**2).mean(), rel=1e-5)
        student, teacher = (
            1 / (1 + np.exp(-logits[n].astype(np.float64))) for n in ("student", name)
        )
        assert distance.absolute_probability == pytest.approx(
            np.abs(student - teacher).mean(), rel=1e-5
        )


def test_without_a_student_there_is_no_distance() -> None:
    logits, targets = inputs()
    del logits["student"]
    assert score(logits, targets, LABELS, EvaluationConfig()).distances == {}


def test_together_is_where_the_squared_error_draws_the_student() -> None:
    logits, _ = inputs()
    shares = {CO: 0.3, DIS: 0.7}
    found = together(logits, shares)
    assert found.dtype == np.float32

    def pull(student: NDArray[np.float32]) -> float:
        gaps = {name: (student - logits[name]).astype(np.float64) for name in shares}
        return float(sum(shares[name] * (gap**2).sum() for name, gap in gaps.items()))

    at_rest = pull(found)
    rng = np.random.default_rng(0)
    for _ in range(20):
        step = 0.1 * rng.standard_normal(found.shape).astype(np.float32)
        assert pull(found + step) > at_rest


def test_json_is_plain_and_has_no_nan() -> None:
    logits, targets = inputs()
    targets[:, 2] = 0  # nothing to find for this label
    board = score(logits, targets, LABELS, EvaluationConfig()).to_json()
    again = json.loads(json.dumps(board, allow_nan=False))
    assert list(again["predictors"]) == list(PREDICTORS)
    assert again["predictors"]["student"]["excluded_labels"] == ["tram"]
    assert again["student_teacher_distance"][CO]["squared_logit"] > 0
