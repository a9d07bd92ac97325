"""`cpsd predict`: its formats, file names of any bytes, and pictures that cannot be read."""

import csv
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from cpsd.cli import main
from printed_errors import said


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
