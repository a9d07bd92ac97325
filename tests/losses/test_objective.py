import json
from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch import Tensor

from cpsd.config import DistillationConfig, LossConfig
from cpsd.losses.asymmetric import asymmetric_loss, binary_cross_entropy
from cpsd.losses.distillation import bernoulli_kl, squared_error
from cpsd.losses.objective import build_objective, strategy_shares

BOTH = ("co-occurrence", "dis-occurrence")


def batch(seed: int = 0, num_strategies: int = 2) -> tuple[Tensor, Tensor, Tensor]:
    """Logits (4, 3), targets (4, 3) and soft labels (4, S, 3)."""
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(4, 3, generator=generator)
    targets = torch.randint(0, 2, (4, 3), generator=generator, dtype=torch.int8)
    return logits, targets, torch.randn(4, num_strategies, 3, generator=generator)


@pytest.mark.dataset
def test_equals_the_published_objective(shared: Path, seeded: ModuleType) -> None:
    folder = shared / "reference"
    objective = build_objective(LossConfig(), DistillationConfig(), strategies=BOTH)
    for case in json.loads((folder / "losses_metrics.json").read_text()):
        y, z, cgp, dgp = map(
            torch.from_numpy, seeded.scores(case["seed"], case["images"], case["labels"])
        )
        result = objective(z, y, torch.stack([cgp, dgp], dim=1))
        found = {"total": result.total.item()} | {k: v.item() for k, v in result.terms.items()}
        expected = {
            "total": case["cpsd_total"],
            "classification": case["asl_sum"],
            "co_occurrence": case["mse_sum_cgp"],
            "dis_occurrence": case["mse_sum_dgp"],
        }
        assert found == pytest.approx(expected, rel=1e-5)


def test_baseline_is_classification_alone() -> None:
    logits, targets, _ = batch()
    result = build_objective(LossConfig(gamma_neg=2, clip=0.1))(logits, targets)
    expected = asymmetric_loss(logits, targets, gamma_neg=2, clip=0.1)
    assert torch.equal(result.total, expected)
    assert result.terms == {"classification": expected}


def test_settings_reach_the_losses() -> None:
    logits, targets, soft = batch(num_strategies=1)
    objective = build_objective(
        LossConfig(name="bce", reduction="mean"),
        DistillationConfig(weight=0.2, term="bernoulli-kl", temperature=3.0),
        strategies=("random",),
    )
    result = objective(logits, targets, soft)
    bce = binary_cross_entropy(logits, targets, reduction="mean").item()
    kl = bernoulli_kl(logits, soft[:, 0], temperature=3.0, reduction="mean").item()
    assert set(result.terms) == {"classification", "random"}
    assert result.terms["random"].item() == pytest.approx(kl)
    assert result.total.item() == pytest.approx(0.8 * bce + 0.2 * kl)


@pytest.mark.parametrize(
    ("alpha", "strategies", "shares"),
    [
        (0.3, ("dis-occurrence",), [1.0]),  # PSD-D: alpha has nothing to share out
        (0.3, BOTH, [0.3, 0.7]),
        (0.3, BOTH[::-1], [0.3, 0.7]),  # the first that is given, whichever it is
        (1.0, BOTH, [1.0, 0.0]),
        (0.4, (*BOTH, "random"), [0.4, 0.3, 0.3]),
    ],
)
def test_alpha_shares_out_the_distillation(
    alpha: float, strategies: tuple[str, ...], shares: list[float]
) -> None:
    logits, targets, soft = batch(num_strategies=len(strategies))
    objective = build_objective(
        LossConfig(), DistillationConfig(weight=1.0, alpha=alpha), strategies=strategies
    )
    expected = sum(w * squared_error(logits, soft[:, s]).item() for s, w in enumerate(shares))
    assert objective(logits, targets, soft).total.item() == pytest.approx(expected, rel=1e-6)
    assert sum(strategy_shares(alpha, len(strategies))) == pytest.approx(1.0)


def test_the_baseline_has_its_share_and_alpha_shares_out_the_rest() -> None:
    logits, targets, soft = batch(num_strategies=3)
    settings = DistillationConfig(weight=0.5, alpha=0.25, baseline=0.2)
    objective = build_objective(LossConfig(), settings, strategies=(*BOTH, "baseline"))
    result = objective(logits, targets, soft)
    shares = [0.8 * 0.25, 0.8 * 0.75, 0.2]
    expected = sum(w * squared_error(logits, soft[:, s]).item() for s, w in enumerate(shares))
    known = 0.5 * result.terms["classification"].item()
    assert result.total.item() == pytest.approx(known + 0.5 * expected, rel=1e-6)
    assert result.terms["baseline"].item() == pytest.approx(squared_error(logits, soft[:, 2]))


@pytest.mark.parametrize("reduction", ["sum", "mean"])
def test_an_unlabelled_picture_adds_only_distillation(reduction: str) -> None:
    logits, targets, soft = batch()
    targets[1] = -1
    loss = LossConfig(reduction="sum" if reduction == "sum" else "mean")
    student = build_objective(loss, DistillationConfig(), strategies=BOTH)

    def gradient(objective_total: Tensor, leaf: Tensor) -> Tensor:
        return torch.autograd.grad(objective_total, leaf)[0]

    leaf = logits.clone().requires_grad_()
    by_targets = gradient(build_objective(loss)(leaf, targets).total, leaf)
    by_student = gradient(student(leaf, targets, soft).total, leaf)
    scale = 1.0 if reduction == "sum" else 1 / logits.numel()
    by_teachers = 0.5 * (2 * logits - soft[:, 0] - soft[:, 1]) * scale
    assert torch.equal(by_targets[1], torch.zeros(3))
    assert (by_targets[[0, 2, 3]] != 0).any()
    torch.testing.assert_close(by_student[1], by_teachers[1])
    torch.testing.assert_close(by_student, by_teachers + 0.5 * by_targets)


def test_only_unlabelled_pictures_still_teach() -> None:
    logits, targets, soft = batch()
    objective = build_objective(LossConfig(), DistillationConfig(), strategies=BOTH)
    result = objective(logits.requires_grad_(), torch.full_like(targets, -1), soft)
    torch.autograd.backward(result.total)
    assert result.terms["classification"].item() == 0
    assert logits.grad is not None
    assert logits.grad.isfinite().all()
    assert (logits.grad != 0).all()


def test_terms_are_detached_and_the_total_is_not() -> None:
    logits, targets, soft = batch()
    objective = build_objective(LossConfig(), DistillationConfig(), strategies=BOTH)
    result = objective(logits.requires_grad_(), targets, soft.requires_grad_())
    torch.autograd.backward(result.total)
    assert soft.grad is None
    assert not any(term.requires_grad for term in result.terms.values())
    assert logits.grad is not None


def test_float16_soft_labels_are_compared_in_float32() -> None:
    logits, targets, soft = batch()
    objective = build_objective(LossConfig(), DistillationConfig(), strategies=BOTH)
    stored = soft.half()
    assert torch.equal(
        objective(logits, targets, stored).total, objective(logits, targets, stored.float()).total
    )


@pytest.mark.parametrize("shape", [None, (4, 3), (4, 1, 3), (4, 3, 2), (1, 2, 3)])
def test_missing_or_misshapen_soft_labels_are_refused(shape: tuple[int, ...] | None) -> None:
    logits, targets, _ = batch()
    objective = build_objective(LossConfig(), DistillationConfig(), strategies=BOTH)
    with pytest.raises(ValueError, match=r"needs soft labels of shape .*\(4, 2, 3\)"):
        objective(logits, targets, None if shape is None else torch.zeros(shape))


def test_soft_labels_without_distillation_are_refused() -> None:
    logits, targets, soft = batch()
    with pytest.raises(ValueError, match="without distillation"):
        build_objective(LossConfig())(logits, targets, soft)


@pytest.mark.parametrize(
    ("distillation", "strategies", "message"),
    [
        (DistillationConfig(), (), "both or neither"),
        (None, BOTH, "both or neither"),
        (DistillationConfig(), ("random", "random"), "distinct"),
    ],
)
def test_settings_that_contradict_are_refused(
    distillation: DistillationConfig | None, strategies: tuple[str, ...], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        build_objective(LossConfig(), distillation, strategies=strategies)
