"""A comparison on a data set some of whose pictures are damaged, killed and started again."""

import contextlib
import csv
import io
import shutil
from pathlib import Path

import numpy as np
import pytest

from cpsd.cli import main
from cpsd.evaluation.prediction_files import open_predictions
from cpsd.files import read_json
from killed_comparison import arguments, kill_when_there, without_measured
from page_sources import read_page

ARMS = ("baseline", "cpsd")


def skipping(table: Path, out: Path) -> list[str]:
    return [*arguments(table, out), "--on-bad-image", "skip", "--arms", "baseline"]


@pytest.fixture(scope="module")
def damaged(digits: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """A table of which a picture in each split ends too early or is gone, and these pictures."""
    table = shutil.copytree(digits.parent, tmp_path_factory.mktemp("bad") / "data") / digits.name
    with table.open(newline="") as file:
        rows = list(csv.DictReader(file))
    bad = []
    for split in ("train", "validation", "test", "test-unseen"):
        path = next(row["image"] for row in rows if row["split"] == split)
        if split == "test":
            (table.parent / path).unlink()
        else:
            (table.parent / path).write_bytes((table.parent / path).read_bytes()[:400])
        bad.append(path)
    return table, bad


@pytest.fixture(scope="module")
def compared(
    damaged: tuple[Path, list[str]], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, str]:
    """The folder of a comparison that left them out, and what it printed."""
    out = tmp_path_factory.mktemp("compared") / "out"
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        assert main(skipping(damaged[0], out)) == 0
    return out, " ".join(printed.getvalue().split())


def test_all_arms_leave_out_the_same_pictures(
    damaged: tuple[Path, list[str]], compared: tuple[Path, str]
) -> None:
    _, bad = damaged
    out, said = compared
    assert "left out: 1 of train, 1 of validation, 1 of test, 1 of test-unseen" in said
    assert read_json(out / "compare.json")["runs_done"] == 2
    for arm in ARMS:
        assert_left_out(out / "runs" / arm / "0", bad)
    for page in (out / "report.html", out / "runs" / "cpsd" / "0" / "report.html"):
        assert {*bad} <= {shown.text for shown in read_page(page).shown}


def test_it_goes_on_with_the_same_pictures_and_with_no_others(
    damaged: tuple[Path, list[str]],
    compared: tuple[Path, str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    table, bad = damaged
    out = shutil.copytree(compared[0], tmp_path / "out")
    kept = (out / "runs/cpsd/0/student/model.safetensors").stat().st_mtime_ns
    assert main(skipping(table, out)) == 0
    assert (out / "runs/cpsd/0/student/model.safetensors").stat().st_mtime_ns == kept
    picture = table.parent / bad[0]
    before = picture.read_bytes()
    sound = next(path for path in picture.parent.iterdir() if path.name not in str(bad))
    shutil.copy(sound, picture)
    capsys.readouterr()
    assert main(skipping(table, out)) == 2
    assert "data have changed" in " ".join(capsys.readouterr().err.split())
    picture.write_bytes(before)


@pytest.mark.slow
def test_killed_with_bad_pictures_it_ends_where_an_undisturbed_one_does(
    damaged: tuple[Path, list[str]], compared: tuple[Path, str], tmp_path: Path
) -> None:
    table, bad = damaged
    killed = tmp_path / "killed"
    kill_when_there(skipping(table, killed), killed / "runs/cpsd/0/.stages/student.json")
    assert main(skipping(table, killed)) == 0
    found, expected = (read_json(out / "compare.json") for out in (killed, compared[0]))
    assert without_measured(found) == without_measured(expected)
    for arm in ARMS:
        assert_left_out(killed / "runs" / arm / "0", bad)


def assert_left_out(run: Path, bad: list[str]) -> None:
    """Hold what a run says it left out to ``bad``, and its predictions to what is left."""
    skipped = read_json(run / "manifest.json")["data"]["skipped"]
    assert [entry["picture"] for entry in skipped["pictures"]] == bad
    files = [*(run / "predictions").rglob("test.parquet")]
    assert files
    for file in files:
        predictions = open_predictions(file)
        assert len(predictions) == 31
        assert not {*bad} & {*predictions.images()}
        assert all(np.isfinite(logits).all() for logits, _ in predictions.by_label())
