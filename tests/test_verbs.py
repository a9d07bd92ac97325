"""What each verb does, on real files, and what it says when something is wrong."""

import csv
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image
from rich.console import Console

from cpsd.cli import main
from cpsd.evaluation.prediction_files import read_predictions
from cpsd.partition import read_partition
from cpsd.run_predictions import predictions_file
from cpsd.verbs import data


def said(capsys: pytest.CaptureFixture[str]) -> str:
    """Return what was printed to standard error, in one line."""
    return " ".join(capsys.readouterr().err.split())


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """A table with three good pictures."""
    for index, name in enumerate(("a.png", "b.png", "c.png")):
        pixels = np.random.default_rng(index).integers(0, 256, (9, 12, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / name)
    path = tmp_path / "labels.csv"
    path.write_text("image,labels,split\na.png,x; y,train\nb.png,x,validation\nc.png,y; x,test\n")
    return path


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


def test_predict_formats_agree(
    finished: Path, digits: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pictures = sorted((digits.parent / "images").rglob("*.jpg"))[:3]
    arguments = ["predict", str(finished / "student"), *map(str, pictures)]
    arguments += ["--machine.workers", "0", "--threshold", "0.3"]
    assert main([*arguments, "--format", "csv"]) == 0
    rows = list(csv.DictReader(capsys.readouterr().out.splitlines()))
    assert main([*arguments, "--format", "jsonl"]) == 0
    objects = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert main(arguments) == 0
    printed = capsys.readouterr().out
    for picture, row, entry in zip(pictures, rows, objects, strict=True):
        assert row["image"] == entry["image"] == str(picture)
        over = [name for name, p in entry["probabilities"].items() if p >= 0.3]
        assert entry["labels"] == over
        assert row["labels"] == "; ".join(over)
        for name, probability in entry["probabilities"].items():
            assert float(row[name]) == pytest.approx(probability, rel=1e-5)
        assert picture.name in printed


def test_a_file_name_that_is_not_utf8_comes_out_of_predict_and_check(
    finished: Path, table: Path, tmp_path: Path, digits: Path
) -> None:
    name = b"a\xffb.jpg"
    good, bad = tmp_path / "good", tmp_path / "bad"
    for folder in (good, bad):
        folder.mkdir()
    shutil.copy(next((digits.parent / "images").rglob("*.jpg")), good / os.fsdecode(name))
    (bad / os.fsdecode(name)).write_bytes(b"no picture")
    predict = ["predict", str(finished), str(good), "--machine.workers", "0", "--format"]
    verbs = [[*predict, "csv"], [*predict, "jsonl"], [*predict, "table"]]
    verbs.append(["data", "check", str(table), "--data.unlabelled", str(bad)])
    # A real standard output: the tests' own takes any text.
    code = f"from cpsd.cli import main\nfor verb in {verbs}: print(end=chr(0) * (main(verb) < 2))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False)
    assert result.stderr == b""
    as_csv, as_json, as_table, checked, _ = result.stdout.split(b"\0")
    assert b"good/" + name in as_csv
    assert os.fsencode(json.loads(as_json)["image"]).endswith(b"good/" + name)
    assert rb"a\xffb.jpg" in as_table
    assert b"bad/" + name in checked


def test_predict_goes_on_after_a_bad_picture(
    finished: Path, digits: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good = next((digits.parent / "images").rglob("*.jpg"))
    bad = tmp_path / "bad.jpg"
    bad.write_bytes(good.read_bytes()[:200])
    code = main(["predict", str(finished), str(bad), str(good), str(tmp_path / "no.jpg")])
    captured = capsys.readouterr()
    assert code == 2
    assert "bad.jpg" in captured.err
    assert "no.jpg" in captured.err
    assert good.name in captured.out


@pytest.mark.parametrize("workers", ["0", "1"])
def test_predict_looks_at_each_picture_once_and_loses_none(
    workers: str,
    finished: Path,
    digits: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    good = sorted((digits.parent / "images").rglob("*.jpg"))[:4]
    arguments = ["--machine.workers", workers, "--machine.inference_batch_size", "2"]
    arguments += ["--format", "csv"]
    assert main(["predict", str(finished), *map(str, good), *arguments]) == 0
    expected = capsys.readouterr().out
    bad = [tmp_path / f"{name}.jpg" for name in ("short", "text", "empty", "none")]
    for path, content in zip(bad, (good[0].read_bytes()[:400], b"no picture", b""), strict=False):
        path.write_bytes(content)
    opened: list[Path] = []
    read = Image.open

    def noted(path: Path) -> Image.Image:
        opened.append(path)
        return read(path)

    monkeypatch.setattr(Image, "open", noted)
    # Between good ones, and one batch of bad ones alone.
    mixed = [good[0], bad[0], bad[1], bad[2], good[1], good[2], bad[3], good[3]]
    assert main(["predict", str(finished), *map(str, mixed), *arguments]) == 2
    captured = capsys.readouterr()
    assert captured.out == expected
    *_, short, text, empty, none = captured.err.strip().splitlines()
    assert short.startswith(f"cpsd: The picture {bad[0]} ends too early")
    assert text.startswith(f"cpsd: {bad[1]} is no picture")
    assert empty == f"cpsd: The picture {bad[2]} is an empty file; replace it."
    assert none == f"cpsd: There is no picture {bad[3]}; check the path."
    if workers == "0":
        assert opened == [path for path in mixed if path != bad[3]], "what is not there stays shut"


def test_predict_without_a_readable_picture_says_why(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "folder").mkdir()
    places = [str(tmp_path / "folder"), str(tmp_path / "no.jpg")]
    for named in (places, places[:1], places[1:]):
        assert main(["predict", str(finished), *named, "--format", "csv"]) == 2
        captured = capsys.readouterr()
        assert captured.out == ""
        assert captured.err.count("cpsd: ") == len(named)


def test_predict_refuses_an_unknown_predictor_with_the_nearest(
    finished: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["predict", str(finished), "x.jpg", "--predictor", "studnet"]) == 2
    assert "Did you mean 'student'?" in said(capsys)


def test_data_check_accounts_for_a_good_table(
    digits: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["data", "check", str(digits)]) == 0
    assert "200 rows" in (out := capsys.readouterr().out)
    assert "Nothing is wrong." in out


def test_data_check_shows_its_progress_in_a_terminal_only(
    digits: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    main(["data", "check", str(digits)])
    piped = capsys.readouterr()
    assert piped.err == ""
    terminal = Console(stderr=True, force_terminal=True, width=80, legacy_windows=False)
    monkeypatch.setattr(data, "stderr", terminal)
    main(["data", "check", str(digits)])
    shown = capsys.readouterr()
    assert "200/200 pictures" in shown.err
    assert shown.out == piped.out


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


def test_the_test_split_is_shown_first(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", str(finished)]) == 0
    printed = capsys.readouterr().out
    assert 0 < printed.index("│ test ") < printed.index("│ test-unseen ")


def test_data_check_names_offending_rows(table: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with table.open("a") as stream:
        stream.write("gone.png,x,train\na.png,x; y,train\n")
    (table.parent / "c.png").write_bytes((table.parent / "c.png").read_bytes()[:200])
    assert main(["data", "check", str(table)]) == 1
    printed = capsys.readouterr().out
    assert "row 5" in printed
    assert "gone.png" in printed
    assert "duplicate" in printed
    assert "c.png" in printed


def test_data_check_of_no_table_says_so_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["data", "check", str(tmp_path / "gone.csv")]) == 1
    printed = capsys.readouterr().out
    assert "There is no table" in printed
    assert "0 rows" not in printed


def test_data_demo_writes_what_run_reads(tmp_path: Path) -> None:
    folder = tmp_path / "demo"
    assert main(["data", "demo", str(folder), "--seed", "3"]) == 0
    rows = (folder / "labels.csv").read_text().splitlines()
    assert rows[0] == "image,labels,split"
    assert len(rows) == 1 + 1000 + 600 + 800 + 800


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ("", "empty"),
        ("image,labels\n", "no row"),
        ("image,Labels\na.png,x\n", "'Labels'"),
        ("image,labels,split\ngone.png,x,train\nb.png,x,val\nc.png,x,test\n", "gone.png"),
    ],
)
def test_bad_tables_end_with_one_sentence(
    rows: str, message: str, table: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table.write_text(rows)
    assert main(["run", str(table), "--out", str(table.parent / "run")]) == 2
    error = said(capsys)
    assert message in error
    assert "labels.csv" in error
    assert "Traceback" not in error
    assert not (table.parent / "run").exists()


def test_more_parts_than_labels_is_refused(
    quick: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["run", *quick, str(tmp_path / "run"), "--partition.parts", "30"]) == 2
    message = said(capsys)
    assert "30" in message
    assert "20" in message


def test_a_folder_of_the_users_is_not_taken_for_a_run(
    quick: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    assert main(["run", *quick, str(tmp_path)]) == 2
    assert "no run has written" in said(capsys)
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.txt"]


def test_debug_shows_the_traceback(table: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", str(table.parent / "no.csv"), "--debug"]) == 2
    assert "Traceback" in capsys.readouterr().err


def test_the_installed_command_answers() -> None:
    command = shutil.which("cpsd", path=str(Path(sys.executable).parent))
    assert command is not None
    result = subprocess.run([command, "--help"], capture_output=True, text=True, check=False)
    assert result.returncode == 0
    assert "evaluate" in result.stdout


def test_partition_shows_which_labels_share_a_part(
    digits: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "cut"
    cut = [str(digits), "--config", "demo", "--partition.parts", "2", "--out", str(out)]
    assert main(["partition", *cut]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    for strategy in ("co-occurrence", "dis-occurrence"):
        partition = read_partition(out / "partitions" / f"{strategy}.json")
        assert partition.normalized_cut is not None
        assert f"normalized cut {partition.normalized_cut:.4f}" in shown
        for index in range(2):
            first, second, *_ = partition.part_labels(index)
            assert f"{first}; {second};" in shown
    # A run that ends there has no student to evaluate or predict with.
    assert main(["predict", str(out), str(digits.parent / "images")]) == 2
    message = " ".join(capsys.readouterr().err.split())
    assert f"The run {out} has no student yet; go on with it (cpsd run)" in message


def test_explain_writes_a_picture_and_never_over_another(
    finished: Path, digits: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    picture, out = digits.parent / "images" / "test-00000.jpg", tmp_path / "panel.png"
    explain = ["explain", str(finished), str(picture), "--out", str(out)]
    assert main([*explain, "--labels", "red 3; blue 7"]) == 0
    with Image.open(out) as panel:
        assert panel.format == "PNG"
        assert panel.width > panel.height > 100  # two labels, four predictors
    before = out.read_bytes()
    assert main(explain) == 2
    assert str(out) in " ".join(capsys.readouterr().err.split())
    assert out.read_bytes() == before
    out.unlink()
    assert main([*explain, "--labels", "red 33"]) == 2
    assert "Did you mean 'red 3'?" in " ".join(capsys.readouterr().err.split())
    assert not out.exists()


def test_report_writes_the_page_of_a_run_anew(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    shutil.copytree(finished, out)
    first = (out / "report.html").read_text()
    (out / "report.html").unlink()
    assert main(["report", str(out)]) == 0
    assert str(out / "report.html") in " ".join(capsys.readouterr().out.split())
    # The title is the folder's name, which a copy has not.
    assert (out / "report.html").read_text() == first.replace("finished", "run")
    board = json.loads((out / "evaluation" / "test.json").read_text())["predictors"]["student"]
    assert f"{100 * board['mAP']:.1f}" in first
    assert main(["report", str(tmp_path)]) == 2
    assert "no run to report on" in capsys.readouterr().err
