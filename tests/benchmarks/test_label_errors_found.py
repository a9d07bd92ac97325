"""The benchmark of planted label errors runs on a run's files and says what was found."""

import importlib.util
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from cpsd.evaluation.prediction_files import write_predictions
from cpsd.evaluation.predictions import Predictions
from simulated_scores import label_space

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "label_errors.py"


@pytest.fixture(scope="module")
def benchmark() -> ModuleType:
    spec = importlib.util.spec_from_file_location("label_errors", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def write_run(run: Path, *, unknown: float) -> dict[str, Predictions]:
    """Two ensembles that are nearly always right."""
    rng = np.random.default_rng(1)
    right = (rng.random((300, 6)) < 0.2).astype(np.int8)
    targets = np.where(rng.random(right.shape) < unknown, -1, right).astype(np.int8)
    targets[:, 5] = 0  # a label that nobody can judge
    images = tuple(f"{n}.jpg" for n in range(300))
    found = {}
    for name in ("teachers.co-occurrence", "teachers.dis-occurrence"):
        logits = (6 * right - 3 + rng.standard_normal(right.shape)).astype(np.float32)
        found[name] = Predictions(images, logits, targets, label_space(6), name)
        write_predictions(run / "predictions" / name / "validation.parquet", found[name])
    return found


def test_the_table_names_every_ranking_and_finds_what_is_easy_to_find(tmp_path: Path) -> None:
    write_run(tmp_path, unknown=0.01)
    done = subprocess.run(
        [sys.executable, str(SCRIPT), str(tmp_path), "--rates", "0.02", "--seeds", "2"],
        capture_output=True,
        text=True,
        check=True,
    )
    head, _, *rows = done.stdout.splitlines()
    assert head.split(" | ")[3:] == [
        "ours",
        "cleanlab",
        "cleanlab, filtered",
        "cleanlab, calibrated |",
    ]
    assert [row.split(" | ")[0] for row in rows] == ["| uniform", "| balanced", "| missing"]
    for row in rows:
        for figure in row.split(" | ")[3:]:
            assert float(figure.split()[0]) > 0.8


def test_images_and_labels_that_not_every_ranking_can_judge_are_left_out(
    benchmark: ModuleType, tmp_path: Path
) -> None:
    predictions = write_run(tmp_path, unknown=0.05)
    logits, targets = benchmark.judged(predictions)
    own = predictions["teachers.co-occurrence"]
    whole = (own.targets != -1).all(axis=1)
    assert targets.shape == (whole.sum(), 5)
    assert set(np.unique(targets)) == {0, 1}
    np.testing.assert_array_equal(logits["teachers.co-occurrence"], own.logits[whole, :5])


def test_a_run_without_these_predictions_is_told_so(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(SCRIPT), str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "validation.parquet does not exist" in done.stderr
    assert "Traceback" not in done.stderr
