"""What happens to runs on Ray when something is wrong: held to undisturbed runs, to the bit.

For ``make test-ray``: each takes half a minute or more.
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
from ray_clusters import SIGNALS, assert_same_run, left_with, meanwhile, nodes, processes

pytestmark = pytest.mark.ray


@pytest.fixture
def cluster() -> Iterator[Any]:
    with nodes() as cluster:
        yield cluster


def on(cluster: Any) -> list[str]:
    return ["--executor", "ray", "--ray-address", cluster.address]


def has_checkpoint(run: Path, stage: str) -> bool:
    return (run / ".partial" / stage / "last.ckpt").exists()


def test_a_killed_worker_costs_no_result(
    finished: Path,
    quick: list[str],
    cluster: Any,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "killed"

    def kill() -> None:
        for process in processes(b"ray::baseline"):
            os.kill(process, signal.SIGKILL)

    with meanwhile(lambda: has_checkpoint(out, "baseline"), kill) as struck:
        assert main(["run", *quick, str(out), *on(cluster)]) == 0
    assert struck
    assert_same_run(out, finished)
    said = capsys.readouterr().out
    assert "baseline: its worker on" in said
    assert said.count("baseline: epoch 1/2") <= 1  # the second worker went on from the checkpoint
    assert "baseline: epoch 2/2" in said


def test_a_lost_node_costs_no_result(
    finished: Path, quick: list[str], cluster: Any, tmp_path: Path
) -> None:
    out = tmp_path / "lost"
    (node,) = cluster.worker_nodes

    def lose() -> None:
        cluster.remove_node(node, allow_graceful=False)

    with meanwhile(lambda: has_checkpoint(out, "baseline"), lose) as struck:
        assert main(["run", *quick, str(out), *on(cluster)]) == 0
    assert struck
    assert_same_run(out, finished)


def test_what_the_user_can_mend_is_said_and_not_tried_again(
    quick: list[str], cluster: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "diverged"
    diverging = ["--training.learning_rate", "1e30", "--training.clip_norm", "null"]
    assert main(["run", *quick, str(out), *diverging, *on(cluster)]) == 2
    told = capsys.readouterr()
    assert "cpsd: " in told.err
    assert "loss" in told.err
    assert "Traceback" not in told.err
    assert "its worker on" not in told.out


def test_data_that_a_machine_does_not_have_are_named(
    quick: list[str], cluster: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    (tmp_path / "gone").mkdir()
    monkeypatch.setattr(Path, "cwd", lambda: tmp_path / "elsewhere")
    assert main(["partition", *quick, str(tmp_path / "out"), *on(cluster)]) == 2
    assert "must lie at the same paths on all machines" in capsys.readouterr().err


@pytest.mark.parametrize(
    "spread", [[], ["--trainer.devices", "2", "--machine.threads", "1"]], ids=["one", "gang"]
)
@pytest.mark.parametrize(("number", "code", "sentence"), SIGNALS)
def test_a_signal_leaves_no_task_and_no_process(
    finished: Path,
    quick: list[str],
    tmp_path: Path,
    number: int,
    code: int,
    sentence: str,
    spread: list[str],
) -> None:
    out, mark, copies = tmp_path / "stopped", uuid.uuid4().hex, tmp_path / "copies"
    command = [sys.executable, "-m", "cpsd", "run", *quick, str(out), "--executor", "ray"]
    loading = ["--machine.workers", "1"]  # a process of a worker process
    process = subprocess.Popen(
        [*command, *loading, *spread],
        env={**os.environ, "CPSD_TEST_MARK": mark, "CPSD_CACHE": str(copies)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    # A busy machine may be through with the baseline between two looks; then it ends later.
    while process.poll() is None and not (
        has_checkpoint(out, "baseline") or (out / "baseline").exists()
    ):
        time.sleep(0.02)
    process.send_signal(number)
    said = process.communicate(timeout=120)[0]
    assert process.returncode == code, said
    assert sentence in said
    assert "Traceback" not in said
    assert left_with(mark) == []
    assert not [*copies.glob(".pieces/*")]
    assert has_checkpoint(out, "baseline") or (out / "baseline").exists()
    # No lock is left either: the run goes on here, from where it was.
    assert main(["run", *quick, str(out)]) == 0
    assert not list(out.rglob(".partial/*"))
    if not spread:  # batch norm on two learns from halves of batches
        assert_same_run(out, finished)
