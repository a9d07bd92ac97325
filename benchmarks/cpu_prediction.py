"""Prediction on a CPU: the network as ``predict`` runs it, beside the module as it is."""

import copy

import torch
from harness import Row, alternate
from student_step import Case
from torch import nn

from cpsd.flops import counted
from cpsd.models.folding import folded

PEAK = 1024
"""Width of the matrices whose product tells how fast the machine multiplies."""


def measure(*, smoke: bool) -> list[Row]:
    """Return how many times as fast the quick way is, for a small and a large network."""
    if smoke:
        return _rows("mobilenetv2_035", 32, batch=2, rounds=1)
    return [
        row
        for backbone, batch, rounds in (
            ("mobilenetv2_100", 1, 31),
            ("mobilenetv2_100", 32, 7),
            ("resnet50", 1, 21),
            ("resnet50", 32, 3),
        )
        for row in _rows(backbone, 224, batch=batch, rounds=rounds)
    ]


def _rows(backbone: str, size: int, *, batch: int, rounds: int) -> list[Row]:
    network = Case(backbone, size, batch).network().eval()
    eager = copy.deepcopy(network)
    images = torch.rand(batch, 3, size, size)
    with torch.inference_mode(), folded(network, from_picture=1) as quick:
        seconds = alternate(
            {"eager": lambda: eager(images), "quick": lambda: quick(images)}, rounds
        )
        bound = _operations(eager, images) / _operations_a_second()
    return [
        Row(
            f"prediction on a CPU, batch of {batch} / the module in eager mode ({backbone}, "
            f"{size} px)",
            seconds["eager"] / seconds["quick"],
            "x",
            must=">= 1.3",
            bound=f"FLOPs at the speed of matrix products: {seconds['eager'] / bound:.1f} x",
            of_bound=bound / seconds["quick"],
        )
    ]


def _operations(network: nn.Module, images: torch.Tensor) -> float:
    with counted() as counter:
        network(images)
    return float(counter.flops)


def _operations_a_second() -> float:
    """Return what the machine reaches in its best case, a product of large matrices."""
    left, right = torch.rand(PEAK, PEAK), torch.rand(PEAK, PEAK)
    (seconds,) = alternate({"product": lambda: left @ right}, rounds=9).values()
    return 2 * PEAK**3 / seconds
