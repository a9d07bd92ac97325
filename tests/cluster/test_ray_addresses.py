"""Runs at an address on a real Ray cluster whose nodes share no disk, held to a run without Ray.

Each node has copies of its own, and the folder that the command is started in is on none of them.
For ``make test-ray``.
"""

import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cpsd.cli import main
from cpsd.run_home import at_home
from ray_clusters import (
    SIGNALS,
    assert_same_files,
    assert_same_run,
    figures,
    left_with,
    meanwhile,
    nodes,
    processes,
)

pytestmark = pytest.mark.ray
RUN = "s3://pictures/runs/a"
COMPARISON = "s3://pictures/compared"


@pytest.fixture
def cluster(s3: Any, tmp_path: Path) -> Iterator[Any]:
    """A cluster of two nodes beside the driver's, each with a folder of copies."""
    places = [tmp_path / "node-1", tmp_path / "node-2"]
    with nodes(environments=[{"CPSD_CACHE": str(place)} for place in places]) as cluster:
        yield cluster


@pytest.fixture
def at_address(s3: Any, quick: list[str], monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Arguments of a run whose data lie at an address, but for where it shall lie itself."""
    s3.put(str(Path(quick[0]).parent), "pictures/digits", recursive=True)
    monkeypatch.setattr(Path, "cwd", lambda: Path("/nowhere"))
    return ["s3://pictures/digits/labels.csv", *quick[1:]]


def on(cluster: Any) -> list[str]:
    return ["--executor", "ray", "--ray-address", cluster.address]


def test_nodes_without_a_common_disk_make_the_same_run(
    s3: Any,
    finished: Path,
    at_address: list[str],
    cluster: Any,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def works() -> bool:
        return any(tmp_path.glob("*/.pieces/*/.partial/baseline/last.ckpt"))

    def kill() -> None:
        for process in processes(b"ray::baseline"):
            os.kill(process, signal.SIGKILL)

    assert main(["partition", *at_address, RUN]) == 0  # begun here, and ended there
    with meanwhile(works, kill) as struck:
        assert main(["run", *at_address, RUN, *on(cluster)]) == 0, capsys.readouterr().err
    said = capsys.readouterr().out
    assert "teachers/co-occurrence/1: epoch 2/2" in said  # a piece of its own
    assert struck
    assert "baseline: its worker on" in said
    monkeypatch.setenv("CPSD_CACHE", str(tmp_path / "reader"))
    with at_home(RUN) as folder:
        assert_same_run(folder, finished)
    assert_nothing_left_over(s3, "pictures/runs/a", tmp_path)


def test_a_comparison_of_nodes_without_a_common_disk_is_the_one_without(
    s3: Any,
    digits: Path,
    cluster: Any,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    arms = [
        "--config", "demo", "--image.size", "16", "--partition.parts", "2",
        "--training.epochs", "1", "--teachers.epochs", "1", "--distillation.views", "1",
        "--arms", "psd-c,baseline-long", "--seeds", "1", "--resamples", "50",
        "--machine.workers", "0", "--machine.threads", "1", "--machine.accelerator", "cpu", "--out",
    ]  # fmt: skip
    here = tmp_path / "here"
    assert main(["compare", str(digits), *arms, str(here)]) == 0
    s3.put(str(digits.parent), "pictures/digits", recursive=True)
    monkeypatch.setattr(Path, "cwd", lambda: Path("/nowhere"))
    compared = ["compare", "s3://pictures/digits/labels.csv", *arms, COMPARISON, *on(cluster)]
    assert main(compared) == 0, capsys.readouterr().err
    monkeypatch.setenv("CPSD_CACHE", str(tmp_path / "reader"))
    with at_home(COMPARISON) as there:
        assert figures(there) == figures(here)
        assert_same_files(there / "runs", here / "runs")
    assert_nothing_left_over(s3, "pictures/compared", tmp_path)


@pytest.mark.parametrize(("number", "code", "sentence"), SIGNALS)
def test_a_signal_leaves_what_is_done_at_the_address(
    s3: Any,
    finished: Path,
    quick: list[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    number: int,
    code: int,
    sentence: str,
) -> None:
    s3.put(str(Path(quick[0]).parent), "pictures/digits", recursive=True)
    run, mark = ["run", "s3://pictures/digits/labels.csv", *quick[1:], RUN], uuid.uuid4().hex
    process = subprocess.Popen(
        [sys.executable, "-m", "cpsd", *run, "--executor", "ray"],
        env={**os.environ, "CPSD_TEST_MARK": mark},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    of_pieces = "copies/.pieces/*/.partial/*/last.ckpt"
    while process.poll() is None and not any(tmp_path.glob(of_pieces)):
        time.sleep(0.02)
    process.send_signal(number)
    said = process.communicate(timeout=180)[0]
    assert process.returncode == code, said
    assert sentence in said
    assert "Traceback" not in said
    assert left_with(mark) == []
    assert_nothing_of_pieces(s3, "pictures/runs/a", tmp_path)
    assert s3.exists("pictures/runs/a/.whole/objects")  # what there is to go on from
    monkeypatch.setenv("CPSD_CACHE", str(tmp_path / "another"))  # a machine that has nothing of it
    assert main(run) == 0
    assert_nothing_left_over(s3, "pictures/runs/a", tmp_path)
    with at_home(RUN) as folder:
        assert_same_run(folder, finished)


def assert_nothing_left_over(s3: Any, place: str, machines: Path) -> None:
    """Hold a finished home to have nothing of pieces or of what was unfinished."""
    assert_nothing_of_pieces(s3, place, machines)
    assert not s3.exists(f"{place}/.whole/objects")


def assert_nothing_of_pieces(s3: Any, place: str, machines: Path) -> None:
    """Hold a home to have nothing that pieces have sent, and its machines no pieces."""
    assert not s3.exists(f"{place}/.whole/made")
    assert not [*machines.glob("*/.pieces/*")]
