"""A whole run is made up of its pieces as often as it does them."""

from collections.abc import Callable
from types import ModuleType

import pytest

from cpsd.config import DistillationConfig, RunConfig, TeachersConfig, TrainingConfig


def test_pieces_make_up_a_run(benchmark_module: Callable[[str], ModuleType]) -> None:
    whole_run = benchmark_module("whole_run")
    config = RunConfig(
        training=TrainingConfig(epochs=20),
        teachers=TeachersConfig(epochs=3),
        distillation=DistillationConfig(views=5),
    )
    pieces = {"baseline": 1.0, "teachers": 2.0, "soft labels": 0.5, "student": 1.1}
    found = whole_run.stages(config, pieces)
    # Both strategies' teachers, one after the other.
    expected = {"baseline": 20, "teachers": 12, "soft labels": 2.5, "student": 22}
    assert found == pytest.approx(expected)
