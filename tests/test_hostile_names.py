"""Names that are no text, lead elsewhere, loop, are formulas, or are too long."""

import csv
import io
import json
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cpsd.cli import main
from cpsd.config import DataConfig
from cpsd.data.check import check_data
from cpsd.data.images import (
    find_pictures,
)
from cpsd.data.records import Records
from cpsd.data.splits import normalise_split
from cpsd.errors import DataError
from cpsd.files import read_json
from cpsd.labels import LabelSpace
from cpsd.report.predicted import as_csv
from hostile_data import lay_nuswide, picture


def test_names_with_commas_quotes_and_bytes(tmp_path: Path) -> None:
    names = [
        "a, b.png",
        'the "best".png',
        "it's; so.png",
        " .png",
        "-x.png",
        "=1+1.png",
        "ß\u2028.png",
    ]
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\r\n")
    writer.writerow(["image", "labels", "split"])
    for i, name in enumerate(names):
        (tmp_path / name.strip()).write_bytes(picture("PNG") if i else picture("BMP"))
        writer.writerow([name, "=cmd()", ("train", "val", "test")[min(i, 2)]])
    (tmp_path / "t.csv").write_bytes(b"\xef\xbb\xbf" + table.getvalue().encode())
    report = check_data(DataConfig(table=str(tmp_path / "t.csv")), seed=0)
    assert {problem.kind for problem in report.problems} <= {"two splits"}
    assert report.labels == ("=cmd()",)


def test_file_names_that_are_no_text(digits: Path, tmp_path: Path) -> None:
    folder = tmp_path / "more"
    folder.mkdir()
    (folder / os.fsdecode(b"caf\xe9.png")).write_bytes(picture("PNG"))
    (folder / os.fsdecode(b"cut\xff.png")).write_bytes(picture("PNG")[:60])
    run = tmp_path / "run"
    settings = [
        "--config",
        "demo",
        "--image.size",
        "24",
        "--partition.parts",
        "2",
        "--out",
        str(run),
    ]
    settings += ["--data.unlabelled", str(folder), "--on-bad-image", "skip"]
    assert main(["partition", str(digits), *settings]) == 0
    [skipped] = read_json(run / "manifest.json")["data"]["skipped"]["pictures"]
    assert os.fsencode(skipped["picture"]).endswith(b"cut\xff.png")
    assert b"caf\xe9.png" in (run / "splits.csv").read_bytes()
    assert main(["report", str(run)]) == 0
    assert "cut\\xff.png" in (run / "report.html").read_text()


def test_folders_that_link_to_themselves(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(picture("PNG"))
    (tmp_path / "again").symlink_to(tmp_path)
    assert [path.name for path in find_pictures(tmp_path)] == ["a.png"]


@pytest.mark.parametrize(
    "split",
    [
        "test-../../x",
        "test-/etc",
        "test-a\\b",
        "test-a:b",
        "test-\0",
        "test-a\nb",
        "test-" + "x" * 99,
    ],
)
def test_splits_name_files_of_the_run_alone(split: str) -> None:
    with pytest.raises(DataError, match="files are named after it"):
        normalise_split(split)
    assert normalise_split("Test-Night 2") == "test-night 2"


def test_labels_lead_nowhere_and_are_no_formulas(tmp_path: Path) -> None:
    labels = ("../../x", "=cmd()", "/etc/passwd", "@sum", "<b>", "..")
    rows = ["image,labels,split"]
    for i in range(18):
        split = ("train", "train", "train", "val", "test", "test")[i % 6]
        pixels = np.random.default_rng(i).integers(0, 256, (8, 8, 3), dtype=np.uint8)
        (tmp_path / "data").mkdir(exist_ok=True)
        Image.fromarray(pixels).save(tmp_path / f"data/={i}.png")
        rows.append(f"={i}.png,{labels[i % 6]}; {labels[(i + i // 6 + 1) % 6]},{split}")
    (tmp_path / "data/t.csv").write_text("\n".join(rows))
    out = tmp_path / "deep" / "down" / "run"
    settings = ["--config", "demo", "--image.size", "24", "--partition.parts", "2"]
    settings += ["--training.epochs", "1", "--teachers.epochs", "1", "--machine.workers", "0"]
    before = {*tmp_path.rglob("*")}
    assert main(["run", str(tmp_path / "data/t.csv"), *settings, "--out", str(out)]) == 0
    new = {*tmp_path.rglob("*")} - before - {tmp_path / "deep", tmp_path / "deep" / "down"}
    assert all(path.is_relative_to(out) for path in new)
    for table in out.rglob("*.csv"):
        with table.open(newline="") as file:
            cells = [cell for row in csv.reader(file) for cell in row]
        formulas = [cell for cell in cells if cell[:1] in "=+-@\t\r" and not _is_number(cell)]
        assert formulas == [], table
    assert "'=0.png" in (out / "splits.csv").read_text()


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return cell == ""
    return True


def test_predictions_for_spreadsheets_are_no_formulas() -> None:
    records = Records(
        paths=("=a.png", "b.png"),
        targets=np.zeros((2, 2), np.int8),
        labels=LabelSpace(("=cmd()", "dog")),
        splits=("", ""),
        root=Path(),
        origins=("", ""),
    )
    rows = list(csv.reader(as_csv(records, np.full((2, 2), 0.9), 0.5).splitlines()))
    assert rows[0] == ["image", "labels", "'=cmd()", "dog"]
    assert rows[1][:2] == ["'=a.png", "'=cmd(); dog"]
    assert rows[2][:2] == ["b.png", "'=cmd(); dog"]


@pytest.mark.parametrize("label", ["a\0b", "a\ud800"])
def test_labels_that_no_file_can_hold(label: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="NUL or half a character"):
        LabelSpace((label,))
    lay_coco = {"id": 1, "name": label}
    (tmp_path / "annotations").mkdir()
    (tmp_path / "annotations/instances_train2014.json").write_text(
        json.dumps(
            {"images": [{"id": 1, "file_name": "\ud800.png"}]}
            | {"categories": [lay_coco]}
            | {"annotations": [{"image_id": 1, "category_id": 1}]}
        )
    )
    report = check_data(DataConfig(format="coco", root=str(tmp_path)), seed=0)
    assert "NUL or half a character" in report.problems[0].detail


def test_a_concept_of_nus_wide_may_be_longer_than_a_file_name(tmp_path: Path) -> None:
    lay_nuswide(tmp_path)
    (tmp_path / "Concepts81.txt").write_text("x" * 300)
    report = check_data(DataConfig(format="nus-wide", root=str(tmp_path)), seed=0)
    assert "File name too long" in report.problems[0].detail


@pytest.mark.parametrize("verb", ["data check {}", "run {} --out runs", "predict {} photo.jpg"])
def test_names_longer_than_the_system_allows_are_refused(
    verb: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.chdir(tmp_path)  # where nobody has runs yet, as beside a demo
    name = "x" * 300
    assert main(verb.format(name).split()) == 2
    said = capsys.readouterr().err
    assert name in said
    assert "longer than the system allows" in said


def test_concepts_of_nus_wide_name_no_files_elsewhere(tmp_path: Path) -> None:
    lay_nuswide(tmp_path)
    (tmp_path / "Concepts81.txt").write_text("ant\nx/../../../secret\n")
    report = check_data(DataConfig(format="nus-wide", root=str(tmp_path)), seed=0)
    assert "has a slash" in report.problems[0].detail
