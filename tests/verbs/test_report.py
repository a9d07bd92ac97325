"""`cpsd report`: the page of a run, written anew."""

import json
import shutil
from pathlib import Path

import pytest

from cpsd.cli import main


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
