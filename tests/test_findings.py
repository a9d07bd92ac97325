"""What a finished run's findings are made of: its predictions, and nothing else."""

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from cpsd.evaluation.prediction_files import read_predictions
from cpsd.evaluation.predictions import Predictions
from cpsd.run_predictions import predictions_file

SPLITS = ("test", "test-unseen")
PREDICTORS = (
    *("baseline", "teachers/co-occurrence", "teachers/dis-occurrence", "student", "teachers"),
)


def finding(run: Path, name: str, split: str) -> Any:
    content = json.loads((run / "findings" / f"{name}-{split}.json").read_text())
    assert content["split"] == split
    return content


def predictions(run: Path, name: str, split: str) -> Predictions:
    return read_predictions(predictions_file(run, name, split))


@pytest.mark.parametrize("split", SPLITS)
def test_intervals_lie_around_the_scores(finished: Path, split: str) -> None:
    found = finding(finished, "intervals", split)
    board = json.loads((finished / "evaluation" / f"{split}.json").read_text())["predictors"]
    assert set(found["predictors"]) == set(PREDICTORS)
    for name in PREDICTORS:
        for metric in ("mAP", "CF1", "OF1"):
            one = found["predictors"][name][metric]
            assert one["mean"] == pytest.approx(board[name][metric], abs=1e-9)
            assert one["low"] <= one["mean"] <= one["high"]
            assert not one["covers_seeds"]  # it is one training, and its note says so
            assert "test images only" in one["note"]
    difference = found["differences"]["student"]["mAP"]["mean"]
    expected = board["student"]["mAP"] - board["baseline"]["mAP"]
    assert difference == pytest.approx(expected, abs=1e-9)
    (said,) = found["verdicts"]
    assert said["outcome"] == "no verdict"


@pytest.mark.parametrize("split", SPLITS)
def test_context_is_counted_on_the_predicted_labels(finished: Path, split: str) -> None:
    found = finding(finished, "context", split)
    assert found["compared"] == ["baseline", "student"]
    student = predictions(finished, "student", split)
    column = {name: c for c, name in enumerate(student.labels)}
    for pair in found["pairs"]:
        label, context = column[pair["label"]], column[pair["context"]]
        has, beside = student.targets[:, label] == 1, student.targets[:, context] == 1
        assert pair["images"]["with_context"] == (has & beside).sum()
        predicted = student.logits[:, label] >= 0
        rate = pair["predictors"]["student"]["recall_with_context"]
        assert rate == pytest.approx(predicted[has & beside].mean(), abs=1e-6)


@pytest.mark.parametrize("split", SPLITS)
def test_unseen_combinations_are_those_that_no_training_picture_has(
    finished: Path, digits: Path, split: str
) -> None:
    with digits.open() as stream:
        rows = list(csv.DictReader(stream))
    combinations = {row["labels"] for row in rows if row["split"] == "train"}
    unseen = sum(row["labels"] not in combinations for row in rows if row["split"] == split)
    images = finding(finished, "unseen-combinations", split)["images"]
    assert images == {"unseen": unseen, "seen": 32 - unseen, "undetermined": 0}


def test_thresholds_temperatures_and_pairs_come_from_validation(finished: Path) -> None:
    for split in SPLITS:
        assert finding(finished, "thresholds", split)["chosen_on"] == "validation"
        assert finding(finished, "calibration", split)["fitted_on"] == "validation"
        pairs = finding(finished, "biased-pairs", split)
        assert (pairs["chosen_on"], pairs["chosen_by"]) == ("validation", "baseline")
    kept = json.loads((finished / "student" / "temperatures.json").read_text())["temperature"]
    curves = finding(finished, "calibration", "test")["predictors"]["student"]["labels"]
    for name, temperature in kept.items():
        known = curves[name]["temperature"]
        assert known is None or known == pytest.approx(temperature, rel=1e-5)


def test_label_errors_are_what_both_ensembles_deny_of_held_out_targets(finished: Path) -> None:
    found = finding(finished, "label-errors", "validation")
    ensembles = ["teachers/co-occurrence", "teachers/dis-occurrence"]
    assert found["ensembles"] == ensembles
    assert found["entries_considered"] == 40 * 20
    known = {name: predictions(finished, name, "validation") for name in ensembles}
    for entry in found["entries"]:
        one = known[ensembles[0]]
        row, column = one.images.index(entry["image"]), list(one.labels).index(entry["label"])
        assert one.targets[row, column] == entry["given"]
        for name in ensembles:
            probability = 1 / (1 + np.exp(-known[name].logits[row, column]))
            assert entry["probabilities"][name] == pytest.approx(probability, abs=1e-5)
    with Image.open(finished / "findings" / "label-errors-validation.png") as sheet:
        assert min(sheet.size) > 100
