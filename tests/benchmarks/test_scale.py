"""The simulation of a run on many GPUs, held to sums by hand."""

from collections.abc import Callable
from types import ModuleType

import pytest


@pytest.fixture
def scale(benchmark_module: Callable[[str], ModuleType]) -> ModuleType:
    return benchmark_module("scale")


def test_pieces_start_when_what_they_need_is_done(scale: ModuleType) -> None:
    piece = scale.Piece
    pieces = [piece("a", 100), piece("b", 50), piece("c", 30, ("a",)), piece("d", 20, ("b", "c"))]
    assert scale.makespan(pieces, 1, start=0) == 200
    assert scale.makespan(pieces, 2, start=0) == 150  # b beside a
    assert scale.makespan(pieces, 1, start=5) == 220
    assert scale.critical_path(pieces, start=0) == 150


def test_a_slow_piece_takes_as_many_times_as_long(scale: ModuleType) -> None:
    slow = scale.Trouble(slow_share=1.0, slowness=3.0)
    assert scale.makespan([scale.Piece("a", 100)], 1, trouble=slow, start=0) == 300


def test_a_lost_machine_costs_what_was_done_since_the_last_epoch(scale: ModuleType) -> None:
    trouble = scale.Trouble(hours_to_loss=0.05, hours_away=0.01)
    whole = [scale.Piece("a", 600, parts=1)]
    epochs = [scale.Piece("a", 600, parts=600)]
    for seed in range(20):
        with_epochs = scale.makespan(epochs, 1, trouble=trouble, start=0, seed=seed)
        without = scale.makespan(whole, 1, trouble=trouble, start=0, seed=seed)
        assert 600 <= with_epochs <= without
    lost = [scale.makespan(whole, 1, trouble=trouble, start=0, seed=seed) for seed in range(20)]
    assert max(lost) > 1200


def test_a_recipe_takes_as_long_on_one_gpu_as_its_estimate_says(scale: ModuleType) -> None:
    gpu_hours = scale.stage_flops.__globals__
    config = scale.run_config(scale.parse(["run", "--config", "coco-resnet101"])[1])
    pieces = scale.pieces_of(config, scale.SIZES["coco"])
    hours = scale.makespan(pieces, 1, start=0) / 3600
    assert hours == pytest.approx(sum(gpu_hours["estimate"]("coco-resnet101").values()))
    assert len([piece for piece in pieces if "occurrence/" in piece.name]) == 10
    twice = scale.pieces_of(config, scale.SIZES["coco"], step_seconds=1.0)
    train = 82_081 * 0.9
    (baseline,) = (piece for piece in twice if piece.name == "baseline")
    assert baseline.seconds == pytest.approx(80 * train / 24)
