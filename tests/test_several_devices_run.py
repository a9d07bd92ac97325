"""``cpsd run`` on two devices: killed, started again, and come to what one device comes to."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from cpsd.cli import main
from cpsd.errors import EXIT_USER_ERROR

FROZEN = ["--model.freeze_batch_norm", "true"]
TWO = ["--trainer.devices", "2"]


def started(arguments: list[str], log: Path) -> "subprocess.Popen[bytes]":
    with log.open("wb") as file:
        return subprocess.Popen(
            [sys.executable, "-m", "cpsd", *arguments], stdout=file, stderr=file
        )


def processes_of(run: Path) -> Iterator[int]:
    """Yield the processes whose command line has the run directory in it (Linux)."""
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                words = (folder / "cmdline").read_bytes()
            except OSError:  # it has ended
                continue
            if os.fsencode(run) in words:
                yield int(folder.name)


@pytest.mark.skipif(sys.platform != "linux", reason="looks for processes in /proc")
def test_two_devices_killed_and_resumed_come_to_what_one_comes_to(
    quick: list[str], tmp_path: Path
) -> None:
    two, one = tmp_path / "two", tmp_path / "one"
    arguments = ["run", *quick, str(two), *FROZEN, *TWO]
    killed = started(arguments, tmp_path / "killed.log")
    checkpoint = two / ".partial" / "baseline" / "last.ckpt"
    while not checkpoint.exists():
        assert killed.poll() is None, (tmp_path / "killed.log").read_text()
        time.sleep(0.05)
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    while list(processes_of(two)):  # the kernel tells them that who started them has ended
        time.sleep(0.05)

    again = started(arguments, tmp_path / "again.log")
    assert again.wait() == 0, (tmp_path / "again.log").read_text()
    said = (tmp_path / "again.log").read_text()
    assert "2 devices train together: each takes" in said
    assert "baseline going on where it stopped" in said
    assert said.count("The run lies in") == 1, "one process speaks"
    assert not any((two / ".partial").iterdir())

    assert main(["run", *quick, str(one), *FROZEN]) == 0
    for file in sorted(path.relative_to(one) for path in one.rglob("metrics.csv")):
        of_one, of_two = (
            list(csv.DictReader((run / file).read_text().splitlines())) for run in (one, two)
        )
        assert len(of_one) == 2
        for row, other in zip(of_one, of_two, strict=True):
            for key, value in row.items():
                np.testing.assert_allclose(
                    float(other[key]), float(value), rtol=1e-4, err_msg=f"{file} {key}"
                )
    predictions = Path("predictions", "student", "test.parquet")
    tables = [pq.read_table(run / predictions).to_pydict() for run in (one, two)]
    assert tables[0].keys() == tables[1].keys()
    for name, column in tables[0].items():
        if isinstance(column[0], float):
            np.testing.assert_allclose(tables[1][name], column, atol=1e-3, err_msg=name)
    costs = [
        json.loads((run / ".stages" / "student.json").read_text())["cost"] for run in (one, two)
    ]
    assert costs[0]["images_backward"] == costs[1]["images_backward"]


def test_a_batch_that_devices_cannot_share_is_refused_once(
    quick: list[str], tmp_path: Path
) -> None:
    arguments = ["run", *quick, str(tmp_path / "run"), *TWO, "--training.batch_size", "7"]
    log = tmp_path / "log"
    assert started(arguments, log).wait() == EXIT_USER_ERROR
    said = log.read_text()
    assert "training.batch_size is 7, which 2 devices cannot share evenly" in said
    assert "take 6." in said
    assert "Traceback" not in said


def test_a_comparison_is_not_spread(
    quick: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["compare", *quick, str(tmp_path / "run"), *TWO]) == EXIT_USER_ERROR
    assert "trainings of a comparison are on one device each" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_machines_that_would_not_see_one_copy_of_a_run_at_an_address_are_refused(
    quick: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("CPSD_CACHE", raising=False)
    run = ["run", *quick, "s3://pictures/run", "--trainer.num_nodes", "2"]
    assert main(run) == EXIT_USER_ERROR
    said = " ".join(capsys.readouterr().err.split())
    assert "--out is s3://pictures/run" in said
    assert "set CPSD_CACHE to a folder on a disk that all of them share" in said
    assert "or take --executor ray" in said
