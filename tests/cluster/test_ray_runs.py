"""Runs on a real Ray cluster of two nodes on this machine, held to a run without Ray.

For ``make test-ray``: once its tasks were never begun, in the midst of the whole suite.
"""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from cpsd.arguments import parse, run_config
from cpsd.cli import main
from cpsd.data.sources import load_records
from cpsd.pipeline import Pipeline
from cpsd.run import RunDirectory
from cpsd.stage import StageState
from ray_clusters import assert_same_run, nodes
from tiny import StopError, StopIn

pytestmark = pytest.mark.ray


@pytest.fixture(scope="module")
def cluster() -> Iterator[list[str]]:
    """Arguments that name a cluster of two nodes."""
    with nodes() as cluster:
        yield ["--executor", "ray", "--ray-address", cluster.address]


def test_a_run_that_stops_in_a_training_goes_on_on_a_cluster(
    finished: Path,
    quick: list[str],
    cluster: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "mixed"
    assert main(["partition", *quick, str(out)]) == 0
    config = run_config(parse(["run", *quick, str(out)])[1])
    records = load_records(config.data, seed=config.seed)[0]
    stages = Pipeline(config, records, out, callbacks=lambda name: [StopIn(1)]).stages()
    baseline = next(stage for stage in stages if stage.name == "baseline")
    with pytest.raises(StopError):
        RunDirectory(out).perform(baseline)
    assert RunDirectory(out).state(baseline) is StageState.STARTED
    capsys.readouterr()
    assert main(["run", *quick, str(out), *cluster]) == 0
    assert_same_run(out, finished)
    said = capsys.readouterr().out
    assert "Ray: 2 machines, 2 CPUs" in said
    assert "baseline: epoch 2/2" in said
    assert "baseline: epoch 1/2" not in said  # it went on from its checkpoint
    assert "teachers/co-occurrence/1: epoch 2/2" in said  # a piece of its own
    assert os.environ["RAY_USAGE_STATS_ENABLED"] == "0"
    # What is done is not done again, here or there.
    assert main(["run", *quick, str(out)]) == 0
    assert "baseline: epoch" not in capsys.readouterr().out
