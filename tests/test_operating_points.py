"""Thresholds and temperatures: chosen by a run, kept with its models, used by what predicts."""

import csv
import io
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import precision_recall_fscore_support

from cpsd.cli import main
from cpsd.evaluation.prediction_files import read_predictions
from cpsd.run_predictions import predictions_file


@pytest.fixture(scope="module")
def with_thresholds(
    finished: Path, quick: list[str], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """The finished run, scored anew with thresholds for F1."""
    out = tmp_path_factory.mktemp("thresholds") / "run"
    shutil.copytree(finished, out)
    assert main(["run", *quick, str(out), "--evaluation.thresholds", "f1", "--redo"]) == 0
    return out


def kept(run: Path) -> dict[str, float]:
    content = json.loads((run / "student" / "thresholds.json").read_text())
    assert content["criterion"] == {"kind": "f1"}
    return {name: entry["threshold"] for name, entry in content["labels"].items()}


def predicted(run: Path, pictures: Path, *extra: str) -> tuple[list[set[str]], np.ndarray]:
    """Return what ``cpsd predict`` says: the labels of each picture, and all probabilities."""
    console = io.StringIO()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.stdout", console)
        code = main(
            [
                "predict",
                str(run),
                str(pictures),
                "--format",
                "csv",
                "--machine.workers",
                "0",
                *extra,
            ]
        )
    assert code == 0
    rows = list(csv.reader(io.StringIO(console.getvalue())))[1:]
    labels = [{name for name in row[1].split("; ") if name} for row in rows]
    return labels, np.array([row[2:] for row in rows], dtype=float)


def test_only_scores_are_made_anew(with_thresholds: Path, finished: Path) -> None:
    for name in ("student", "baseline"):
        files = [run / name / "model.safetensors" for run in (with_thresholds, finished)]
        assert files[0].stat().st_mtime_ns == files[1].stat().st_mtime_ns
    assert not (finished / "student" / "thresholds.json").exists()


def test_scores_are_those_at_the_thresholds(with_thresholds: Path) -> None:
    thresholds = kept(with_thresholds)
    test = read_predictions(predictions_file(with_thresholds, "student", "test"))
    cut = np.array([thresholds[name] for name in test.labels])
    hits = 1 / (1 + np.exp(-test.logits.astype(float))) >= cut - 1e-9
    present = (test.targets == 1).any(axis=0)
    precision, recall, _, _ = precision_recall_fscore_support(
        test.targets[:, present], hits[:, present], average="macro", zero_division=0
    )
    board = json.loads((with_thresholds / "evaluation" / "test.json").read_text())
    scores = board["predictors"]["student"]
    assert scores["CP"] == pytest.approx(precision, abs=1e-9)
    assert scores["CR"] == pytest.approx(recall, abs=1e-9)


@pytest.mark.parametrize("place", ["", "student"])
def test_predict_uses_them_for_a_run_and_for_its_model_alone(
    place: str, with_thresholds: Path, digits: Path
) -> None:
    thresholds = kept(with_thresholds)
    labels, probabilities = predicted(with_thresholds / place, digits.parent / "images")
    cut = np.array(list(thresholds.values()))
    names = np.array(list(thresholds), dtype=object)
    assert labels == [set(names[row >= cut]) for row in probabilities]
    fixed, _ = predicted(with_thresholds / place, digits.parent / "images", "--threshold", "0.3")
    assert fixed == [set(names[row >= 0.3]) for row in probabilities]


def test_thresholds_that_are_not_wanted_any_more_are_removed(
    with_thresholds: Path, quick: list[str], tmp_path: Path
) -> None:
    out = tmp_path / "run"
    shutil.copytree(with_thresholds, out)
    assert main(["run", *quick, str(out), "--redo"]) == 0
    assert not (out / "student" / "thresholds.json").exists()
    assert (out / "student" / "temperatures.json").exists()


def test_calibrated_probabilities_are_of_divided_logits_and_predict_the_same_labels(
    with_thresholds: Path, digits: Path
) -> None:
    images = digits.parent / "images"
    plain_labels, plain = predicted(with_thresholds, images)
    labels, calibrated = predicted(with_thresholds, images, "--calibrated")
    file = with_thresholds / "student" / "temperatures.json"
    temperatures = np.array(list(json.loads(file.read_text())["temperature"].values()))
    logits = np.log(plain / (1 - plain))
    np.testing.assert_allclose(calibrated, 1 / (1 + np.exp(-logits / temperatures)), atol=1e-4)
    assert labels == plain_labels


def test_an_unknown_criterion_is_refused_before_anything_is_trained(
    quick: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "new"
    assert main(["run", *quick, str(out), "--evaluation.thresholds", "f2"]) == 2
    assert "No criterion 'f2'" in capsys.readouterr().err
    assert not (out / "baseline").exists()


def test_a_damaged_file_of_thresholds_is_named(
    with_thresholds: Path, digits: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = tmp_path / "student"
    shutil.copytree(with_thresholds / "student", model)
    picture = str(digits.parent / "images" / "test-00000.jpg")
    (model / "thresholds.json").write_text("[]")
    assert main(["predict", str(model), picture]) == 2
    assert "threshold" in capsys.readouterr().err
    (model / "thresholds.json").unlink()
    (model / "temperatures.json").unlink()
    assert main(["predict", str(model), picture, "--calibrated"]) == 2
    assert "no temperatures" in capsys.readouterr().err
