"""What is shown of a run: its scores, verdicts, and whether plain training overfitted."""

import json
import shutil
from pathlib import Path

import pytest

from cpsd.cli import main
from printed_errors import said


def test_evaluate_without_data_shows_the_run(
    finished: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["evaluate", str(finished)]) == 0
    printed = capsys.readouterr().out
    student = json.loads((finished / "evaluation/test.json").read_text())["predictors"]["student"]
    assert f"{100 * student['mAP']:.1f}" in printed
    assert "teachers/co-occurrence" in printed
    [verdict] = json.loads((finished / "findings/intervals-test.json").read_text())["verdicts"]
    assert verdict["text"] in " ".join(printed.split())


def test_a_folder_that_is_not_there_is_told_from_an_unfinished_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["evaluate", str(tmp_path / "rnus")]) == 2
    assert "rnus is no folder; name the folder of a run" in said(capsys)
    (tmp_path / "begun").mkdir()
    assert main(["evaluate", str(tmp_path / "begun")]) == 2
    assert "begun has no evaluation yet" in said(capsys)


def test_the_test_split_is_shown_first(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", str(finished)]) == 0
    printed = capsys.readouterr().out
    assert 0 < printed.index("│ test ") < printed.index("│ test-unseen ")


@pytest.mark.parametrize(
    ("last", "words"),
    [
        ("0.2", "overfitted: its best mAP on validation was 50.0 in epoch 1 of 2, and 30.0 points"),
        ("0.498", "did not overfit: its best mAP on validation was 50.0 in epoch 1 of 2, and 49.8"),
    ],
)
def test_a_run_says_whether_plain_training_overfitted(
    last: str, words: str, finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    shutil.copytree(finished, run)
    metrics = f"epoch,validation_raw,validation_ema\n0,0.5,0.1\n1,{last},0.1\n"
    (run / "baseline/metrics.csv").write_text(metrics)
    assert main(["evaluate", str(run)]) == 0
    assert f"Plain training {words}" in " ".join(capsys.readouterr().out.split())


def test_it_is_said_before_teachers_are_trained(
    quick: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = str(tmp_path / "run")
    assert main(["train", *quick, run, "--training.epochs", "1", "--teachers.epochs", "1"]) == 0
    printed = capsys.readouterr().out
    told = [place for place in range(len(printed)) if printed.startswith("Plain training", place)]
    assert len(told) == 2  # and at the end
    assert printed.index("\nbaseline") < told[0] < printed.index("\nteachers/co-occurrence")
    assert main(["train", *quick, run, "--training.epochs", "1", "--teachers.epochs", "1"]) == 0
    assert capsys.readouterr().out.count("Plain training") == 1


def test_damaged_verdicts_are_named(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    shutil.copytree(finished, run)
    (run / "findings/intervals-test.json").write_text("[]")
    assert main(["evaluate", str(run)]) == 2
    assert "intervals-test.json is damaged" in said(capsys)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("evaluation/test.json", "[]"),
        ("evaluation/test.json", '{"split": "test", "predictors": {}}'),
        ("manifest.json", "{}"),
        ("manifest.json", '{"stages": 3}'),
    ],
)
def test_damaged_scores_of_a_run_are_named(
    name: str, content: str, finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    shutil.copytree(finished, run, ignore=shutil.ignore_patterns("*.safetensors", "*.parquet"))
    (run / name).write_text(content)
    assert main(["evaluate", str(run)]) == 2
    assert f"{run / name} is damaged: it has no '" in said(capsys)
