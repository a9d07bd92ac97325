import json
from typing import Any

import numpy as np
import pytest

from cpsd.errors import ConfigError, DataError, RunError
from cpsd.evaluation.threshold_choice import choose_thresholds
from cpsd.evaluation.thresholds import Criterion, Thresholds
from cpsd.labels import LabelSpace
from simulated_scores import label_space, targets_and_logits


def chosen() -> Thresholds:
    targets, logits = targets_and_logits(1, shape=(60, 3))
    targets[:, 1] = 0
    return choose_thresholds(
        logits["student"], targets, label_space(3), criterion=Criterion("precision", 0.8)
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("f1", Criterion("f1")),
        ("precision=0.9", Criterion("precision", 0.9)),
        (" recall = 1", Criterion("recall", 1.0)),
    ],
)
def test_a_criterion_is_read_from_text(text: str, expected: Criterion) -> None:
    assert Criterion.from_text(text) == expected


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("f2", "No criterion 'f2'"),
        ("f1=0.5", "takes no number"),
        ("precision", "wanted precision is None"),
        ("precision=0", "must be above 0"),
        ("recall=1.5", "at most 1"),
        ("recall=many", "not a number"),
    ],
)
def test_a_criterion_that_makes_no_sense_is_refused(text: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        Criterion.from_text(text)


def test_json_brings_back_every_threshold_to_the_last_bit() -> None:
    thresholds = chosen()
    again = Thresholds.from_json(json.loads(json.dumps(thresholds.to_json(), allow_nan=False)))
    np.testing.assert_array_equal(again.of(label_space(3)), thresholds.of(label_space(3)))
    assert again.criterion == thresholds.criterion
    assert again.kept_default == ("label 1",)
    assert np.isnan(again.by_label["label 1"].f1)
    assert again.to_json() == thresholds.to_json()


def test_thresholds_come_in_the_order_asked_for() -> None:
    thresholds = chosen()
    turned = thresholds.of(LabelSpace(("label 2", "label 0")))
    assert turned.tolist() == [thresholds.by_label[f"label {c}"].threshold for c in (2, 0)]


def test_a_label_without_a_threshold_is_named() -> None:
    with pytest.raises(DataError, match="'zebra' has no threshold"):
        chosen().of(LabelSpace(("label 0", "zebra")))


def test_other_json_is_refused() -> None:
    said = chosen().to_json()
    said["labels"]["label 0"]["threshold"] = 1.5
    with pytest.raises(RunError, match=r"'label 0' is 1\.5"):
        Thresholds.from_json(said)
    wrong: list[Any] = [[], {"criterion": {"kind": "f1"}}, said | {"criterion": {"kind": "best"}}]
    for value in wrong:
        with pytest.raises(RunError, match="no thresholds"):
            Thresholds.from_json(value)
