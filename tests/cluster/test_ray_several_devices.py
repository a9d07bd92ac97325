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
from cpsd.run_home import at_home
from ray_clusters import assert_same_run, meanwhile, nodes, processes

pytestmark = pytest.mark.ray
FROZEN = ["--model.freeze_batch_norm", "true", "--machine.threads", "1"]
TWO_NODES = ["--trainer.num_nodes", "2", "--executor", "ray", "--ray-address"]
HALF_A_NETWORK = """
import os
import torch
from cpsd.errors import ModelError


class Half(torch.nn.Module):
    def __init__(self, num_labels):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(num_labels))

    def forward(self, images):
        if os.environ.get("RANK") == "1" and self.training:
            raise ModelError("Half a network is none.")
        return images.mean(dim=(1, 2, 3))[:, None] * self.weight


def make_model(labels):
    return Half(len(labels))
"""
"""It cannot be trained by the process that does not lead."""


@pytest.fixture(autouse=True)
def _copies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have members that follow work in a folder of this test."""
    monkeypatch.setenv("CPSD_CACHE", str(tmp_path / "copies"))


@pytest.fixture
def cluster(_copies: None) -> Iterator[Any]:
    with nodes() as cluster:
        yield cluster


@pytest.mark.parametrize(
    ("lost", "when"),
    [
        ("ray::Follower", "begun"),
        ("ray::baseline", "begun"),
        ("ray::Follower.prepare", "ray::Follower.prepare"),
    ],
)
def test_a_training_on_two_nodes_loses_one_and_comes_to_what_two_processes_here_come_to(
    lost: str,
    when: str,
    quick: list[str],
    cluster: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert main(["run", *quick, str(here), *FROZEN, "--trainer.devices", "2"]) == 0

    def ready() -> bool:
        begun = there / ".partial" / "baseline" / "last.ckpt"
        return begun.exists() if when == "begun" else bool(processes(when.encode()))

    def kill() -> None:
        for process in processes(lost.encode()):
            os.kill(process, signal.SIGKILL)

    with meanwhile(ready, kill) as struck:
        run = ["run", *quick, str(there), *FROZEN, *TWO_NODES, cluster.address]
        assert main(run) == 0, capsys.readouterr().err
    said = capsys.readouterr().out
    assert struck
    assert "2 devices train together: each takes" in said
    assert ": its worker on" in said
    assert "student: epoch 2/2" in said
    assert_same_run(there, here)
    assert not [*tmp_path.glob("*/.pieces/*")]


def test_a_training_on_machines_without_a_common_disk_comes_to_the_same(
    s3: Any,
    quick: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    here, devices = tmp_path / "here", ["--trainer.devices", "2"]
    assert main(["run", *quick, str(here), *FROZEN, *devices]) == 0
    s3.put(str(Path(quick[0]).parent), "pictures/digits", recursive=True)
    monkeypatch.setattr(Path, "cwd", lambda: Path("/nowhere"))
    places = [tmp_path / "node-1", tmp_path / "node-2"]

    def begun() -> bool:
        return any(tmp_path.glob("*/.pieces/*/.partial/baseline/last.ckpt"))

    def kill() -> None:
        for process in processes(b"ray::Follower"):
            os.kill(process, signal.SIGKILL)

    table, run = "s3://pictures/digits/labels.csv", "s3://pictures/runs/several"
    with nodes(environments=[{"CPSD_CACHE": str(place)} for place in places]) as cluster:
        there = ["run", table, *quick[1:], run, *FROZEN, *TWO_NODES, cluster.address]
        with meanwhile(begun, kill) as struck:
            assert main(there) == 0, capsys.readouterr().err
    said = capsys.readouterr().out
    assert struck
    assert "baseline: its worker on" in said
    assert not [*tmp_path.glob("*/.pieces/*")]
    monkeypatch.setenv("CPSD_CACHE", str(tmp_path / "reader"))
    with at_home(run) as folder:
        assert_same_run(folder, here)


def test_a_training_at_an_address_is_done_again(
    s3: Any,
    quick: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    s3.put(str(Path(quick[0]).parent), "pictures/digits", recursive=True)
    run = ["train", "s3://pictures/digits/labels.csv", *quick[1:], "s3://pictures/again", *FROZEN]
    assert main(run) == 0
    with at_home("s3://pictures/again") as folder:
        before = (folder / "teachers" / "co-occurrence" / "0" / "metrics.csv").read_text()
    places = [tmp_path / "node-1", tmp_path / "node-2"]
    with nodes(environments=[{"CPSD_CACHE": str(place)} for place in places]) as cluster:
        again = ["--training.learning_rate", "0.002", "--redo", *TWO_NODES, cluster.address]
        assert main([*run, *again]) == 0, capsys.readouterr().err
    monkeypatch.setenv("CPSD_CACHE", str(tmp_path / "reader"))
    with at_home("s3://pictures/again") as folder:
        assert "learning_rate: 0.002" in (folder / "config.yaml").read_text()
        after = (folder / "teachers" / "co-occurrence" / "0" / "metrics.csv").read_text()
        assert len(after.splitlines()) == len(before.splitlines())
        assert after != before
        assert not [*folder.glob(".partial/*")]


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
    assert not [*tmp_path.glob("*/.pieces/*")]


def test_what_only_the_other_member_meets_is_what_is_said(
    quick: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "half_a_network.py").write_text(HALF_A_NETWORK)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.syspath_prepend(tmp_path)
    half = ["--model.factory", "half_a_network:make_model"]
    with nodes() as cluster:
        run = ["run", *quick, str(tmp_path / "run"), *half, *FROZEN, *TWO_NODES, cluster.address]
        assert main(run) == 2
    said = " ".join(capsys.readouterr().err.split())
    assert said.count("Half a network is none.") == 1
    assert "near this line" not in said
