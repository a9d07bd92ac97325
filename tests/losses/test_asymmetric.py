import json
import math
from pathlib import Path
from types import ModuleType
from typing import Protocol

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from cpsd.losses.asymmetric import asymmetric_loss, binary_cross_entropy
from cpsd.losses.reduction import Reduction


class Loss(Protocol):
    def __call__(
        self, logits_BC: Tensor, targets_BC: Tensor, *, reduction: Reduction = "sum"
    ) -> Tensor: ...


def random_batch(seed: int, *, scale: float = 3.0) -> tuple[Tensor, Tensor]:
    rng = np.random.default_rng(seed)
    logits = torch.from_numpy(rng.standard_normal((7, 5)) * scale)
    return logits, torch.from_numpy(rng.choice([1, 0, -1], (7, 5)).astype(np.int8))


@pytest.mark.dataset
def test_equals_the_published_losses(shared: Path, seeded: ModuleType) -> None:
    for case in json.loads((shared / "reference" / "losses_metrics.json").read_text()):
        y, z, _, _ = map(
            torch.from_numpy, seeded.scores(case["seed"], case["images"], case["labels"])
        )
        asl = asymmetric_loss(z, y, gamma_neg=4, gamma_pos=0, clip=0.05, eps=1e-8)
        q2l = asymmetric_loss(z, y, gamma_neg=2, gamma_pos=0, clip=0, eps=1e-5, reduction="mean")
        assert asl.item() == pytest.approx(case["asl_sum"], rel=1e-5)
        assert 1000 * q2l.item() == pytest.approx(case["asl_q2l_sum"], rel=1e-5)


@settings(max_examples=25, deadline=None)
@given(
    z=st.floats(-40, 40),
    present=st.booleans(),
    gamma_neg=st.floats(0, 6),
    gamma_pos=st.floats(0, 6),
    clip=st.floats(0, 0.3),
)
def test_equals_the_formula_for_one_entry(
    z: float, present: bool, gamma_neg: float, gamma_pos: float, clip: float
) -> None:
    p = 1 / (1 + math.exp(-z))
    shifted = max(p - clip, 0.0)
    expected = (
        -((1 - p) ** gamma_pos) * math.log(max(p, 1e-8))
        if present
        else -(shifted**gamma_neg) * math.log(max(1 - shifted, 1e-8))
    )
    loss = asymmetric_loss(
        torch.tensor([[z]], dtype=torch.float64),
        torch.tensor([[int(present)]]),
        gamma_neg=gamma_neg,
        gamma_pos=gamma_pos,
        clip=clip,
    )
    assert loss.item() == pytest.approx(expected, rel=1e-6, abs=1e-12)


def test_focusing_weight_is_outside_the_gradient() -> None:
    # d/dz of -(w * log(1 - p)) with w = p ** 4 held constant is w * p.
    z = torch.tensor([[0.7]], dtype=torch.float64, requires_grad=True)
    loss = asymmetric_loss(z, torch.tensor([[0]]), gamma_neg=4, clip=0)
    (gradient,) = torch.autograd.grad(loss, z)
    p = 1 / (1 + math.exp(-0.7))
    assert gradient.item() == pytest.approx(p**5, rel=1e-9)


def test_bce_gradient_is_probability_minus_target() -> None:
    logits, targets = random_batch(3)
    logits.requires_grad_()
    (gradient,) = torch.autograd.grad(binary_cross_entropy(logits, targets), logits)
    expected = (torch.sigmoid(logits) - targets).masked_fill(targets == -1, 0)
    torch.testing.assert_close(gradient, expected.detach(), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("grad_enabled", [True, False])
def test_autograd_switch_is_left_alone(grad_enabled: bool) -> None:
    with torch.set_grad_enabled(grad_enabled):
        asymmetric_loss(*random_batch(0))
        assert torch.is_grad_enabled() is grad_enabled


@pytest.mark.parametrize("loss", [asymmetric_loss, binary_cross_entropy])
class TestBothLosses:
    @pytest.mark.parametrize("reduction", ["sum", "mean"])
    def test_unknown_entries_have_neither_loss_nor_gradient(
        self, loss: Loss, reduction: Reduction
    ) -> None:
        logits, targets = random_batch(1)
        unknown = targets == -1
        # Whatever an unknown entry holds: even what is not a number.
        poisoned = logits.masked_fill(unknown, math.nan).requires_grad_()
        value = loss(poisoned, targets, reduction=reduction)
        (gradient,) = torch.autograd.grad(value, poisoned)
        known_only = loss(logits[~unknown][None], targets[~unknown][None], reduction=reduction)
        assert value.item() == pytest.approx(known_only.item(), rel=1e-12)
        assert torch.equal(gradient[unknown], torch.zeros(int(unknown.sum())).double())
        assert (gradient[~unknown] != 0).any()
        assert gradient.isfinite().all()

    @pytest.mark.parametrize("reduction", ["sum", "mean"])
    def test_nothing_known_is_zero_with_zero_gradient(
        self, loss: Loss, reduction: Reduction
    ) -> None:
        logits = torch.randn(3, 4, generator=torch.Generator().manual_seed(0)).requires_grad_()
        value = loss(logits, torch.full((3, 4), -1), reduction=reduction)
        (gradient,) = torch.autograd.grad(value, logits)
        assert value.item() == 0
        assert torch.equal(gradient, torch.zeros(3, 4))

    def test_mean_is_the_sum_over_known_entries(self, loss: Loss) -> None:
        logits, targets = random_batch(2)
        known = int((targets != -1).sum())
        assert loss(logits, targets, reduction="mean").item() == pytest.approx(
            loss(logits, targets, reduction="sum").item() / known, rel=1e-12
        )

    def test_extreme_logits_stay_finite(self, loss: Loss) -> None:
        logits = torch.tensor([[1e4, -1e4, 1e4, -1e4]], requires_grad=True)
        value = loss(logits, torch.tensor([[1, 1, 0, 0]]))
        (gradient,) = torch.autograd.grad(value, logits)
        assert value.isfinite()
        assert gradient.isfinite().all()

    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
    def test_half_precision_is_computed_in_float32(self, loss: Loss, dtype: torch.dtype) -> None:
        logits, targets = random_batch(4)
        coarse = logits.to(dtype)
        with torch.autocast("cpu", torch.bfloat16):
            value = loss(coarse, targets)
        assert value.dtype == torch.float32
        assert value.item() == pytest.approx(loss(coarse.double(), targets).item(), rel=1e-5)

    def test_target_type_does_not_matter(self, loss: Loss) -> None:
        logits, targets = random_batch(5)
        assert torch.equal(loss(logits, targets), loss(logits, targets.float()))

    def test_other_shapes_are_refused(self, loss: Loss) -> None:
        with pytest.raises(ValueError, match="differ"):
            loss(torch.zeros(3, 4), torch.zeros(3, 1))

    def test_parts_add_up_to_the_whole(self, loss: Loss) -> None:
        # What makes training an ensemble the same as training its teachers.
        logits, targets = random_batch(6)
        parts = [loss(logits[:, p], targets[:, p]).item() for p in ([0, 3], [1, 2, 4])]
        assert sum(parts) == pytest.approx(loss(logits, targets).item(), rel=1e-12)
