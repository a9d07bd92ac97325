"""Golden values: every loss on fixed inputs, as plain float64 loops compute it.

``golden.json`` changes on purpose only: ``python tests/losses/test_golden.py`` writes it anew.
"""

import json
import math
import random
from pathlib import Path
from typing import Any

import pytest
import torch

from cpsd.config import DistillationConfig, LossConfig
from cpsd.losses.asymmetric import asymmetric_loss, binary_cross_entropy
from cpsd.losses.distillation import bernoulli_kl, squared_error
from cpsd.losses.objective import build_objective

GOLDEN = Path(__file__).with_name("golden.json")
Matrix = list[list[float]]


def sigmoid(z: float) -> float:
    return 1 / (1 + math.exp(-z)) if z >= 0 else math.exp(z) / (1 + math.exp(z))


def log_sigmoid(z: float) -> float:
    return -math.log1p(math.exp(-z)) if z >= 0 else z - math.log1p(math.exp(z))


def naive_asymmetric(
    logits: Matrix,
    targets: Matrix,
    *,
    gamma_neg: float,
    gamma_pos: float,
    clip: float,
    eps: float,
) -> float:
    total = 0.0
    for z_row, y_row in zip(logits, targets, strict=True):
        for z, y in zip(z_row, y_row, strict=True):
            if y == 1:
                total -= sigmoid(-z) ** gamma_pos * math.log(max(sigmoid(z), eps))
            elif y == 0:
                q = min(sigmoid(-z) + clip, 1.0)
                total -= (1 - q) ** gamma_neg * math.log(max(q, eps))
    return total


def naive_bce(logits: Matrix, targets: Matrix) -> float:
    total = 0.0
    for z_row, y_row in zip(logits, targets, strict=True):
        for z, y in zip(z_row, y_row, strict=True):
            if y != -1:
                total -= log_sigmoid(z if y == 1 else -z)
    return total


def naive_squared_error(student: Matrix, teacher: Matrix) -> float:
    rows = zip(student, teacher, strict=True)
    return sum((s - t) ** 2 for s_row, t_row in rows for s, t in zip(s_row, t_row, strict=True))


def naive_kl(student: Matrix, teacher: Matrix, temperature: float) -> float:
    total = 0.0
    for s_row, t_row in zip(student, teacher, strict=True):
        for s, t in zip(s_row, t_row, strict=True):
            a, b = s / temperature, t / temperature
            total += sigmoid(b) * (log_sigmoid(b) - log_sigmoid(a))
            total += sigmoid(-b) * (log_sigmoid(-b) - log_sigmoid(-a))
    return total * temperature**2


def golden_inputs() -> dict[str, Matrix]:
    rng = random.Random(20220720)
    shape = [[0] * 6] * 5
    logits = [[round(rng.gauss(-1, 3), 4) for _ in row] for row in shape]
    logits[0][:3] = [30.0, -30.0, 0.0]  # beyond eps on either side
    targets: Matrix = [[rng.choice([1, 0, 0, -1]) for _ in row] for row in shape]
    targets[0][:3] = [0, 1, 1]
    targets[4] = [-1] * 6  # a picture of which nothing is known
    teachers = [[[round(z + rng.gauss(0, 1), 4) for z in row] for row in logits] for _ in range(2)]
    return {"logits": logits, "targets": targets, "first": teachers[0], "second": teachers[1]}


def golden_losses(inputs: dict[str, Matrix]) -> dict[str, float]:
    z, y, first, second = (inputs[key] for key in ("logits", "targets", "first", "second"))
    asl = naive_asymmetric(z, y, gamma_neg=4, gamma_pos=0, clip=0.05, eps=1e-8)
    known = sum(value != -1 for row in y for value in row)
    gaps = [naive_squared_error(z, first), naive_squared_error(z, second)]
    return {
        "asymmetric_sum": asl,
        "asymmetric_mean": asl / known,
        "asymmetric_2_1_sum": naive_asymmetric(z, y, gamma_neg=2, gamma_pos=1, clip=0.0, eps=1e-5),
        "bce_sum": naive_bce(z, y),
        "bce_mean": naive_bce(z, y) / known,
        "squared_error_sum": gaps[0],
        "squared_error_mean": gaps[0] / 30,
        "bernoulli_kl_t1_sum": naive_kl(z, first, 1.0),
        "bernoulli_kl_t4_sum": naive_kl(z, first, 4.0),
        "objective_weight_0.5_alpha_0.25": 0.5 * asl + 0.5 * (0.25 * gaps[0] + 0.75 * gaps[1]),
    }


def our_losses(inputs: dict[str, Matrix], dtype: torch.dtype) -> dict[str, float]:
    z, first, second = (torch.tensor(inputs[k], dtype=dtype) for k in ("logits", "first", "second"))
    y = torch.tensor(inputs["targets"], dtype=torch.int8)
    objective = build_objective(
        LossConfig(),
        DistillationConfig(weight=0.5, alpha=0.25),
        strategies=("co-occurrence", "dis-occurrence"),
    )
    losses = {
        "asymmetric_sum": asymmetric_loss(z, y),
        "asymmetric_mean": asymmetric_loss(z, y, reduction="mean"),
        "asymmetric_2_1_sum": asymmetric_loss(z, y, gamma_neg=2, gamma_pos=1, clip=0, eps=1e-5),
        "bce_sum": binary_cross_entropy(z, y),
        "bce_mean": binary_cross_entropy(z, y, reduction="mean"),
        "squared_error_sum": squared_error(z, first),
        "squared_error_mean": squared_error(z, first, reduction="mean"),
        "bernoulli_kl_t1_sum": bernoulli_kl(z, first),
        "bernoulli_kl_t4_sum": bernoulli_kl(z, first, temperature=4.0),
        "objective_weight_0.5_alpha_0.25": objective(z, y, torch.stack([first, second], 1)).total,
    }
    return {name: loss.item() for name, loss in losses.items()}


@pytest.fixture(scope="module")
def golden() -> dict[str, Any]:
    content: dict[str, Any] = json.loads(GOLDEN.read_text())
    return content


@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-12)], ids=str
)
def test_losses_equal_golden_values(
    golden: dict[str, Any], dtype: torch.dtype, tolerance: float
) -> None:
    assert our_losses(golden["inputs"], dtype) == pytest.approx(golden["losses"], rel=tolerance)


def test_golden_values_are_those_of_the_loops(golden: dict[str, Any]) -> None:
    assert golden["inputs"] == golden_inputs()
    assert golden["losses"] == pytest.approx(golden_losses(golden_inputs()), rel=1e-13)


if __name__ == "__main__":
    content = {"inputs": golden_inputs(), "losses": golden_losses(golden_inputs())}
    GOLDEN.write_text(json.dumps(content, indent=1) + "\n")
