"""`cpsd evaluate` on given pictures: the run's own scores and settings, and what it refuses."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml

from cpsd.cli import main
from cpsd.evaluation.prediction_files import read_predictions
from cpsd.run_predictions import predictions_file
from printed_errors import said


@pytest.mark.parametrize("predictor", ["student", "baseline", "teachers/co-occurrence", "teachers"])
def test_evaluate_on_the_same_pictures_gives_the_runs_scores(
    predictor: str, finished: Path, digits: Path, tmp_path: Path
) -> None:
    arguments = [str(finished), str(digits), "--split", "test", "--machine.workers", "0"]
    out = tmp_path / "scores"
    assert main(["evaluate", *arguments, "--predictor", predictor, "--out", str(out)]) == 0
    run = json.loads((finished / "evaluation/test.json").read_text())["predictors"][predictor]
    here = json.loads((out / "test.json").read_text())["predictors"][predictor]
    assert here["mAP"] == pytest.approx(run["mAP"], abs=1e-9)
    assert here["CF1"] == pytest.approx(run["CF1"], abs=1e-9)
    before = read_predictions(predictions_file(finished, predictor, "test"))
    np.testing.assert_allclose(
        read_predictions(out / "test.parquet").logits, before.logits, atol=1e-5
    )


def test_evaluate_calls_splits_as_a_run_does(
    finished: Path, digits: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    renamed = tmp_path / "renamed.csv"
    renamed.write_text(digits.read_text().replace(",validation", ",val"))
    scores = [str(finished), str(renamed), "--data.root", str(digits.parent), "--out"]
    quickly = ["--machine.workers", "0"]
    named = ["--data.test_split", "val", "--split", "test"]
    assert main(["evaluate", *scores, str(tmp_path / "as-test"), *named, *quickly]) == 0
    assert main(["evaluate", *scores, str(tmp_path), "--split", "validation", *quickly]) == 0
    as_test = json.loads((tmp_path / "as-test/test.json").read_text())["predictors"]
    as_validation = json.loads((tmp_path / "validation.json").read_text())["predictors"]
    assert as_test == as_validation
    assert as_test["student"]["num_images"] == 40
    capsys.readouterr()
    assert main(["evaluate", *scores, str(tmp_path), "--data.test_split", "vla"]) == 2
    assert "Did you mean 'val'?" in said(capsys)
    renamed.write_text(renamed.read_text().replace("split", "notes"))
    assert main(["evaluate", *scores, str(tmp_path), "--split", "test"]) == 2
    assert "'test'; the data name no splits; leave --split out." in said(capsys)


def test_evaluate_scores_as_the_run_did_unless_told(
    finished: Path, digits: Path, tmp_path: Path
) -> None:
    run = shutil.copytree(finished, tmp_path / "run")
    settings = yaml.safe_load((run / "config.yaml").read_text())
    settings["evaluation"] = {"threshold": 0.25, "top_k": 2}
    (run / "config.yaml").write_text(yaml.safe_dump(settings))
    arguments = ["evaluate", str(run), str(digits), "--split", "test", "--machine.workers", "0"]
    assert main([*arguments, "--out", str(tmp_path / "own")]) == 0
    assert main([*arguments, "--out", str(tmp_path / "told"), "--threshold", "0.75"]) == 0
    scored = {
        name: json.loads((tmp_path / name / "test.json").read_text())["predictors"]["student"]
        for name in ("own", "told")
    }
    assert (scored["own"]["threshold"], scored["own"]["top_k"]) == (0.25, 2)
    assert (scored["told"]["threshold"], scored["told"]["top_k"]) == (0.75, 2)


def test_evaluate_overwrites_nothing(
    finished: Path, digits: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["evaluate", str(finished), str(digits), "--split", "test"]
    arguments += ["--machine.workers", "0", "--out", str(tmp_path)]
    assert main(arguments) == 0
    assert main(arguments) == 2
    assert "is there already" in said(capsys)


def test_evaluate_refuses_labels_that_the_model_has_not(
    finished: Path, table: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["evaluate", str(finished), str(table)]) == 2
    message = said(capsys)
    assert "row 2" in message
    assert "'x'" in message
