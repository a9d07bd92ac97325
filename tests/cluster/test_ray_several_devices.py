"""Trainings on several devices of a real Ray cluster, held to those that this machine starts.

For ``make test-ray``.
"""

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cpsd.cli import main
from ray_clusters import assert_same_run, meanwhile, nodes, processes

pytestmark = pytest.mark.ray
FROZEN = ["--model.freeze_batch_norm", "true", "--machine.threads", "1"]
TWO_NODES = ["--trainer.num_nodes", "2", "--executor", "ray", "--ray-address"]


@pytest.fixture
def cluster() -> Iterator[Any]:
    with nodes() as cluster:
        yield cluster


@pytest.mark.parametrize("lost", ["ray::Follower", "ray::baseline"])
def test_a_training_on_two_nodes_loses_one_and_comes_to_what_two_processes_here_come_to(
    lost: str,
    quick: list[str],
    cluster: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert main(["run", *quick, str(here), *FROZEN, "--trainer.devices", "2"]) == 0

    def kill() -> None:
        for process in processes(lost.encode()):
            os.kill(process, signal.SIGKILL)

    begun = there / ".partial" / "baseline" / "last.ckpt"
    with meanwhile(begun.exists, kill) as struck:
        run = ["run", *quick, str(there), *FROZEN, *TWO_NODES, cluster.address]
        assert main(run) == 0, capsys.readouterr().err
    said = capsys.readouterr().out
    assert struck
    assert "2 devices train together: each takes" in said
    assert "baseline: its worker on" in said
    assert "student: epoch 2/2" in said
    assert_same_run(there, here)


def test_what_a_member_cannot_do_is_said_once(
    quick: list[str],
    cluster: Any,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    uneven = ["--training.batch_size", "15"]
    run = ["run", *quick, str(tmp_path / "run"), *FROZEN, *uneven, *TWO_NODES, cluster.address]
    assert main(run) == 2
    said = " ".join(capsys.readouterr().err.split())
    assert said.count("training.batch_size is 15, which 2 devices cannot share evenly") == 1
    assert not list((tmp_path / "run").rglob("*.rank-*"))
