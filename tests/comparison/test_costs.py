from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from cpsd.cli import main
from cpsd.comparison.arms import ARMS
from cpsd.comparison.costs import (
    consumed,
    consumed_by_teachers,
    long_epochs,
    shared_share,
    whole_teachers,
)
from cpsd.config import DistillationConfig, RunConfig, TeachersConfig, TrainingConfig
from cpsd.cost import Cost, passes
from cpsd.files import read_json
from cpsd.trained import load_trained

BASELINE = Cost(10.0, 100, 50, 1000, 1100)
COSTS = {
    "teachers/co-occurrence": Cost(20.0, 300, 150, 2000, 2200),
    "teachers/dis-occurrence": Cost(40.0, 200, 100, 1500, 1700),
    "soft-labels": Cost(5.0, 500, 0, 5000),
    "student": Cost(8.0, 90, 40, 900, 950),
}
PARTS = {"co-occurrence": 3, "dis-occurrence": 2}
BY_NAME = {arm.name: arm for arm in ARMS}
BOTH, FIRST = DistillationConfig(), DistillationConfig(alpha=1.0)


@pytest.mark.parametrize(
    ("name", "alpha", "expected"),
    [
        ("baseline", 0.5, BASELINE),
        ("baseline-long", 0.5, BASELINE),
        ("cpsd", 0.5, Cost(73.0, 1090, 290, 9400, 4850)),
        # Three of the five teachers that the soft labels were stored for.
        ("psd-c", 1.0, Cost(31.0, 90 + 300 + 300, 190, 900 + 3000 + 2000, 950 + 2200)),
        ("psd-d", 0.0, Cost(50.0, 90 + 200 + 200, 140, 900 + 2000 + 1500, 950 + 1700)),
    ],
)
def test_a_predictor_took_all_that_it_could_not_be_had_without(
    name: str, alpha: float, expected: Cost
) -> None:
    # The stages that an arm needs: a student needs no baseline.
    costs = {"baseline": BASELINE} if name.startswith("baseline") else COSTS
    assert (
        consumed(BY_NAME[name], DistillationConfig(alpha=alpha), PARTS, costs, shared=0.0)
        == expected
    )


def test_one_cut_alone_takes_all_that_both_share_when_soft_labels_are_stored() -> None:
    # Of a view five teachers take 0.4 + 5 * 0.6 forward passes, those of one cut 0.4 + 3 * 0.6.
    own, shared = (consumed(BY_NAME["psd-c"], FIRST, PARTS, COSTS, shared=s) for s in (0.0, 0.4))
    assert shared.flops_forward == 900 + 2000 + round(5000 * 2.2 / 3.4)
    assert shared.seconds == pytest.approx(8 + 20 + 5 * 2.2 / 3.4)
    assert shared.images_forward == own.images_forward
    # All share where all are used, whatever they share.
    assert consumed(BY_NAME["cpsd"], BOTH, PARTS, COSTS, shared=0.4) == consumed(
        BY_NAME["cpsd"], BOTH, PARTS, COSTS, shared=0.0
    )


def test_a_baseline_that_teachers_are_made_of_counts() -> None:
    costs = {**COSTS, "teachers-start": BASELINE}
    made = consumed(BY_NAME["psd-c"], FIRST, PARTS, costs, shared=0.0)
    assert made == consumed(BY_NAME["psd-c"], FIRST, PARTS, COSTS, shared=0.0) + BASELINE
    ensemble = consumed_by_teachers("teachers/co-occurrence", PARTS, costs)
    assert ensemble == COSTS["teachers/co-occurrence"] + BASELINE


def test_a_baseline_that_teaches_counts_and_so_does_its_look_at_each_view() -> None:
    costs = {**COSTS, "teachers-start": BASELINE}
    teaching = replace(FIRST, baseline=0.25)
    made = consumed(BY_NAME["psd-c"], teaching, PARTS, costs, shared=0.4)
    # Of a view six teachers take 0.4 + 6 * 0.6 forward passes, those used 0.4 + 4 * 0.6.
    assert made.flops_forward == 900 + 2000 + round(5000 * 2.8 / 4.0) + 1000
    assert made.images_forward == 90 + 300 + round(500 * 4 / 6) + 100


def test_the_long_baseline_never_costs_more_than_the_method() -> None:
    method, plain = Cost(0.0, 1090, 290, 3000, 5120), Cost(0.0, 100, 50, 400, 800)
    epochs = long_epochs(method, plain, 10)
    assert epochs == 67  # 8120 operations, of which an epoch takes 120
    assert long_epochs(Cost(0.0, 1, 0, 1), plain, 10) == 10  # never shorter than the baseline


def test_without_operations_the_long_baseline_is_counted_in_passes() -> None:
    method, plain = Cost(0.0, 1090, 290), Cost(0.0, 100, 50, 1, 1)
    epochs = long_epochs(method, plain, 10)
    assert epochs * passes(plain) / 10 <= passes(method) < (epochs + 1) * passes(plain) / 10


@pytest.mark.parametrize(("num_teachers", "shared", "expected"), [
    (4, 0.0, 4), (7, 0.0, 7), (10, 0.0, 10),
    # An epoch of ten sub-task teachers and their share of a view: 2 * 0.5 + 10 * 0.5 * (3 + 1);
    # of one of all labels: 0.5 + 0.5 * (3 + 1).
    (10, 0.5, 8),
    (4, 0.5, 3),
    # 2 * 0.9 + 10 * 0.1 * 4 over 0.9 + 0.1 * 4
    (10, 0.9, 4),
    (4, 1.0, 2),
])  # fmt: skip
def test_teachers_of_all_labels_cost_no_more_than_the_sub_task_teachers(
    num_teachers: int, shared: float, expected: int
) -> None:
    config = RunConfig(
        training=TrainingConfig(epochs=12),
        teachers=TeachersConfig(epochs=6, shared_stages=2 if shared else 0),
        distillation=DistillationConfig(views=6),
    )
    assert whole_teachers(config, num_teachers, 2, shared) == expected


@pytest.fixture(scope="module")
def cheap(digits: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished comparison whose teachers share stages of a baseline; tests only read it."""
    out = tmp_path_factory.mktemp("cheap") / "compared"
    assert main([
        "compare", str(digits), "--config", "demo", "--image.size", "16", "--partition.parts", "2",
        "--training.epochs", "1", "--distillation.views", "1", "--teachers.epochs", "1",
        "--teachers.shared_stages", "4", "--teachers.start", "baseline", "--seeds", "1",
        "--arms", "ensemble-kd", "--resamples", "20", "--machine.workers", "0",
        "--machine.accelerator", "cpu", "--out", str(out),
    ]) == 0  # fmt: skip
    return out


def costs_by_row(comparison: Path) -> dict[str, Any]:
    return {row["name"]: row["cost"] for row in read_json(comparison / "compare.json")["rows"]}


def test_where_teachers_share_stages_fewer_of_all_labels_are_to_be_had(cheap: Path) -> None:
    taught = sorted(path.name for path in (cheap / "runs/ensemble-kd/0/teachers").iterdir())
    assert taught == ["whole", "whole-2", "whole-3"]
    # They start with the same weights, and must not end with the same.
    models = cheap.glob("runs/ensemble-kd/0/teachers/*/0/model.safetensors")
    assert len({path.read_bytes() for path in models}) == 3
    # By the operations that were counted: one more would cost more than the method. Heads of all
    # labels take a little more than those of some.
    costs = costs_by_row(cheap)
    method, control = (costs[name]["plain_trainings"] for name in ("cpsd", "ensemble-kd"))
    stages = read_json(cheap / "runs/ensemble-kd/0/manifest.json")["stages"]
    one = stages["teachers/whole"]["cost"]
    plain = read_json(cheap / "runs/baseline/0/manifest.json")["stages"]["baseline"]["cost"]
    operations = [cost["flops_forward"] + cost["flops_backward"] for cost in (one, plain)]
    assert control - 0.1 < method < control + operations[0] / operations[1]


@dataclass
class Operations:
    """Multiplications and additions of convolutions and matrix products for one picture.

    Args:
        shared: of the layers that all teachers share, forward.
        forward: of the rest.
        backward: of the rest, as far as gradients are wanted.
    """

    shared: int = 0
    forward: int = 0
    backward: int = 0


def by_hand(network: nn.Module, shared: set[str]) -> Operations:
    """Count layer by layer what a picture takes, the layers of these names being frozen."""
    found = Operations()

    def count(name: str, module: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        operations = 2 * output.numel() * module.weight[0].numel()
        if f"{name}.weight" in shared:
            found.shared += operations
        else:
            found.forward += operations
            found.backward += operations * (1 + inputs[0].requires_grad)

    for name, parameter in network.named_parameters():
        parameter.requires_grad_(name not in shared)
    for name, module in network.named_modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            module.register_forward_hook(partial(count, name))
    network.eval()(torch.rand(1, 3, 16, 16))
    return found


def test_teachers_on_a_shared_trunk_cost_their_own_layers_alone(cheap: Path) -> None:
    run = cheap / "runs/cpsd/0"
    of_two = [load_file(run / f"teachers/co-occurrence/{n}/model.safetensors") for n in (0, 1)]
    shared = {
        name for name, one in of_two[0].items()
        if one.shape == of_two[1][name].shape and bool((one == of_two[1][name]).all())
    }  # fmt: skip
    whole = by_hand(load_trained(run, "baseline").predictor, set())
    part = by_hand(load_trained(run, "baseline").predictor, shared)
    assert 0.5 < part.shared / whole.forward < 0.9
    # 96 pictures to learn from and 40 for validation, which both sets of weights are scored on.
    plain = 96 * (whole.forward + whole.backward) + 2 * 40 * whole.forward
    two_teachers = 96 * (part.shared + 2 * part.forward + 2 * part.backward)
    two_teachers += 40 * (part.shared + 2 * 2 * part.forward)
    views = 96 * (part.shared + 4 * part.forward)
    costs = costs_by_row(cheap)
    # The baseline that the teachers are made of, the teachers of two cuts, and with the method
    # their views and the student. Heads of few labels take a little less than they do here.
    teachers = 1 + 2 * two_teachers / plain
    assert costs["cpsd: teachers"]["plain_trainings"] == pytest.approx(teachers, rel=0.02)
    method = teachers + views / plain + 1
    assert costs["cpsd"]["plain_trainings"] == pytest.approx(method, rel=0.02)
    # Without a trunk in common: four networks, their views and the student.
    faithful = 4 + 96 * 4 * whole.forward / plain + 1
    assert 0.6 < costs["cpsd"]["plain_trainings"] / faithful < 0.7


def test_nothing_is_shared_by_default() -> None:
    assert shared_share(RunConfig()) == 0.0
