"""What evaluation is timed against computes the same figures, one item at a time."""

from collections.abc import Callable
from types import ModuleType

import numpy as np
import pytest
import torch

from cpsd.evaluation.metrics import evaluate
from cpsd.labels import LabelSpace


@pytest.fixture
def speed(benchmark_module: Callable[[str], ModuleType]) -> ModuleType:
    return benchmark_module("evaluation_speed")


def test_loops_over_items_come_to_the_same_figures(speed: ModuleType) -> None:
    rng = np.random.default_rng(5)
    targets = (rng.random((70, 6)) < 0.3).astype(np.int8)
    targets[:, 4] = 0  # a label without a positive
    scores = (rng.standard_normal(targets.shape) + targets - 0.5).astype(np.float32)
    metrics = evaluate(scores, targets, LabelSpace(tuple("abcdef")))
    names = ("CP", "CR", "OP", "OR")
    expected = {
        "mAP": metrics.mAP,
        **{name: getattr(metrics, name) for name in names},
        **{f"top-{name}": getattr(metrics.at_top_k, name) for name in names},
    }
    by_tensor = speed.figures_by_tensor_item(torch.from_numpy(scores), torch.from_numpy(targets))
    assert by_tensor == pytest.approx(expected, rel=1e-9)
    by_number = speed.figures_by_number(scores.tolist(), targets.tolist())
    assert by_number == pytest.approx(expected, rel=1e-9)


def test_every_row_has_its_bar(speed: ModuleType) -> None:
    rows = speed.measure(smoke=True)
    assert [row.must for row in rows] == ["<= 0.5", ">= 50", None]
    assert all(row.value > 0 for row in rows)
