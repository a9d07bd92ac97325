"""A comparison whose runs are performed at once, held to one that does run after run."""

from pathlib import Path

import pytest

from cpsd.cli import main
from ray_clusters import assert_same_files, figures, nodes

pytestmark = pytest.mark.ray


def test_a_comparison_on_a_cluster_is_the_one_without(digits: Path, tmp_path: Path) -> None:
    arguments = [
        "compare", str(digits), "--config", "demo", "--image.size", "16", "--partition.parts", "2",
        "--training.epochs", "1", "--teachers.epochs", "1", "--distillation.views", "1",
        "--arms", "psd-c,ensemble-kd,baseline-long", "--seeds", "2", "--teacher-seeds", "1",
        "--resamples", "50", "--machine.workers", "0", "--machine.accelerator", "cpu",
        "--machine.threads", "1", "--out",
    ]  # fmt: skip
    here, there = tmp_path / "here", tmp_path / "there"
    assert main([*arguments, str(here)]) == 0
    with nodes() as cluster:
        on = ["--executor", "ray", "--ray-address", cluster.address]
        assert main([*arguments, str(there), *on]) == 0
    assert figures(there) == figures(here)
    assert_same_files(there / "runs", here / "runs")
    # What has the same fingerprint was made once, though both were begun before either was done.
    shared = "teachers/co-occurrence/0/model.safetensors"
    for run in ("psd-c/0", "cpsd/1", "psd-c/1"):
        assert (there / "runs/cpsd/0" / shared).samefile(there / "runs" / run / shared)
