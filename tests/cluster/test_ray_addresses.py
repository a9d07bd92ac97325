"""Runs at an address on a real Ray cluster whose nodes share no disk, held to a run without Ray.

Each node has copies of its own, and the folder that the command is started in is on none of them.
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
RUN = "s3://pictures/runs/a"


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
    assert not s3.exists("pictures/runs/a/.whole/made")
    assert not s3.exists("pictures/runs/a/.whole/objects")
    assert not [*tmp_path.glob("*/.pieces/*")]
