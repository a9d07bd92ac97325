"""Bad pictures on the command line: verbs that read a data set tell them, or leave them out."""

import csv
import json
import shutil
from pathlib import Path
from typing import NamedTuple

import pytest

from cpsd.cli import main
from cpsd.evaluation.prediction_files import read_predictions
from page_sources import read_page

SKIP = ["--on-bad-image", "skip"]


class Damaged(NamedTuple):
    """A table of which a picture in each split ends too early."""

    table: Path
    origins: list[str]
    pictures: list[str]

    def settings(self, out: Path) -> list[str]:
        small = ["--image.size", "24", "--partition.parts", "2", "--machine.workers", "0"]
        return [str(self.table), "--config", "demo", *small, "--out", str(out)]


@pytest.fixture
def damaged(digits: Path, tmp_path: Path) -> Damaged:
    table = shutil.copytree(digits.parent, tmp_path / "data") / digits.name
    with table.open(newline="") as file:
        rows = list(csv.DictReader(file))
    origins, pictures = [], []
    for split in ("train", "validation", "test"):
        number, row = next((i, r) for i, r in enumerate(rows, start=2) if r["split"] == split)
        path = table.parent / row["image"]
        path.write_bytes(path.read_bytes()[:400])
        origins.append(f"{table.name}, row {number}")
        pictures.append(row["image"])
    return Damaged(table, origins, pictures)


@pytest.mark.parametrize("verb", ["run", "compare", "data pack"])
def test_nothing_begins_with_bad_pictures(
    damaged: Damaged, tmp_path: Path, verb: str, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert main([*verb.split(), *damaged.settings(out)]) == 2
    said = capsys.readouterr().err
    assert "3 of 200 pictures cannot be used: 3 truncated" in said
    assert [origin for origin in damaged.origins if f"\n{origin}: " not in said] == []
    assert "--on-bad-image skip" in said
    assert not out.exists()


def test_what_is_left_out_is_in_the_manifest_and_on_the_page(
    damaged: Damaged, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    assert main(["partition", *damaged.settings(run), *SKIP]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "left out: 1 of train, 1 of validation, 1 of test." in said
    data = json.loads((run / "manifest.json").read_text())["data"]
    assert data["skipped"]["counts"] == {"train": 1, "validation": 1, "test": 1}
    assert [entry["picture"] for entry in data["skipped"]["pictures"]] == damaged.pictures
    assert [entry["row"] for entry in data["skipped"]["pictures"]] == damaged.origins
    assert data["pictures"] == {"train": 95, "validation": 39, "test": 31, "test-unseen": 32}
    with (run / "splits.csv").open(newline="") as file:
        split_of = {row["image"]: row["split"] for row in csv.DictReader(file)}
    assert {split_of[picture] for picture in damaged.pictures} == {"skipped"}
    assert main(["report", str(run)]) == 0
    page = read_page(run / "report.html")
    shown = {text.text for text in page.shown}
    assert {*damaged.pictures} <= shown
    assert page.untraced == []
    # It goes on with the same pictures, and looks at none again.
    before = (run / ".stages" / "pictures.npz").stat().st_mtime_ns
    assert main(["partition", *damaged.settings(run), *SKIP]) == 0
    assert (run / ".stages" / "pictures.npz").stat().st_mtime_ns == before
    # Which were left out is in the fingerprint: with another one, the run is another.
    capsys.readouterr()
    other = next(path for path in split_of if split_of[path] == "train")
    (damaged.table.parent / other).unlink()
    assert main(["partition", *damaged.settings(run), *SKIP]) == 2
    said = " ".join(capsys.readouterr().err.split())
    assert "Settings or data have changed" in said
    assert "(no setting is another, so the data, a file that settings name," in said


def test_a_model_is_scored_on_what_can_be_used(
    finished: Path, damaged: Damaged, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scores = ["evaluate", str(finished), str(damaged.table), "--machine.workers", "0"]
    scores += ["--split", "test", "--out", str(tmp_path / "scores")]
    assert main(scores) == 2
    said = capsys.readouterr().err
    assert f"{damaged.origins[2]}: " in said
    assert "1 of 32 pictures" in said  # those of other splits are not looked at
    assert main([*scores, *SKIP]) == 0
    images = read_predictions(tmp_path / "scores" / "test.parquet").images
    assert len(images) == 31
    assert damaged.pictures[2] not in images
