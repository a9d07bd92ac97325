"""A student's step with stored soft labels, and with ten live teachers, beside a plain step."""

import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from harness import Row, alternate
from soft_label_store import random_logits, write_store
from torch import nn

from cpsd.config import DistillationConfig, LossConfig, TrainingConfig
from cpsd.data.picture_dataset import Batch
from cpsd.labels import LabelSpace
from cpsd.losses.objective import build_objective
from cpsd.model_config import ModelConfig
from cpsd.models.classifier import build_classifier
from cpsd.models.ensemble import TeacherEnsemble
from cpsd.partition import LabelPartition
from cpsd.training.members import Member, decayed_parameters, lay_channels_last
from cpsd.training.soft_labels import LiveSoftLabels, SoftLabelStore
from cpsd.training.task import SoftLabels, TrainingTask

STRATEGIES = ("co-occurrence", "dis-occurrence")
AUTOCAST = {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}


@dataclass(frozen=True)
class Case:
    """What is trained, on what.

    Args:
        backbone: a timm model.
        size: height and width of the pictures.
        batch: pictures.
        num_labels: C.
        parts: teachers of each strategy.
        device: that computes.
        precision: as ``training.precision``.
    """

    backbone: str
    size: int
    batch: int
    num_labels: int = 80
    parts: int = 5
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    precision: str = "32"

    def network(self, num_labels: int | None = None) -> nn.Module:
        """Return an untrained network on the device."""
        labels = LabelSpace(tuple(f"label {i}" for i in range(num_labels or self.num_labels)))
        network = build_classifier(labels, ModelConfig(backbone=self.backbone, weights="none"))
        if self.device.type == "cuda":
            lay_channels_last(network)
        return network.to(self.device)

    def data(self) -> Batch:
        """Return a batch as the step gets it: pictures and targets on the device, rows not."""
        generator = torch.Generator().manual_seed(0)
        shape = (self.batch, 3, self.size, self.size)
        images = torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)
        targets = torch.randint(0, 2, (self.batch, self.num_labels), generator=generator)
        rows = torch.arange(self.batch)
        return Batch(images.to(self.device), targets.to(self.device, torch.int8), rows)

    def ensembles(self) -> dict[str, nn.Module]:
        """Return untrained teachers of each strategy."""
        labels = LabelSpace(tuple(f"label {i}" for i in range(self.num_labels)))
        parts = tuple(tuple(range(i, self.num_labels, self.parts)) for i in range(self.parts))
        return {
            strategy: TeacherEnsemble(
                LabelPartition(strategy, labels, parts), [self.network(len(p)) for p in parts]
            ).to(self.device)
            for strategy in STRATEGIES
        }


def training_step(
    case: Case, networks: Mapping[tuple[int, ...], nn.Module], soft_labels: SoftLabels | None
) -> Callable[[], None]:
    """Return what takes a whole step as ``fit`` does: losses, gradients, optimizer, averages.

    Args:
        case: sizes, device, precision.
        networks: by the columns of their labels.
        soft_labels: what a student follows.
    """
    config = TrainingConfig(precision=case.precision)  # type: ignore[arg-type]
    members = [
        Member(network.train(), columns, str(index), Path())
        for index, (columns, network) in enumerate(networks.items())
    ]
    task = TrainingTask(
        members,
        build_objective(
            LossConfig(),
            None if soft_labels is None else DistillationConfig(),
            strategies=() if soft_labels is None else STRATEGIES,
        ),
        config,
        seed=0,
        scorer=lambda logits, targets: 0.0,
        image_names=[str(row) for row in range(case.batch)],
        reduction="sum",
        soft_labels=soft_labels,
    ).to(case.device)
    task._reset_epoch()
    groups = [group for n in networks.values() for group in decayed_parameters(n, 1e-4)]
    optimizer = torch.optim.Adam(groups, lr=1e-6, decoupled_weight_decay=True, fused=True)
    batch, dtype = case.data(), AUTOCAST.get(case.precision)

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast(case.device.type, dtype=dtype, enabled=dtype is not None):
            task.add_gradients(batch, 0, torch.Tensor.backward)
        optimizer.step()
        for average, network in zip(task.averages, networks.values(), strict=True):
            average.update(network, step=100)
        if case.device.type == "cuda":
            torch.cuda.synchronize()

    return step


@contextmanager
def steps(case: Case) -> Iterator[dict[str, Callable[[], None]]]:
    """Give the steps: plain, of a student with stored soft labels, and with live teachers."""
    everything = tuple(range(case.num_labels))
    with tempfile.TemporaryDirectory() as name:
        shape = (
            8,
            max(case.batch, 100 if case.size < 64 else 5000),
            len(STRATEGIES),
            case.num_labels,
        )
        write_store(Path(name), random_logits(np.random.default_rng(0), shape))
        networks = {everything: case.network()}
        live = LiveSoftLabels(case.ensembles(), case.num_labels)
        yield {
            "plain": training_step(case, networks, None),
            "stored": training_step(case, networks, SoftLabelStore(Path(name))),
            "live": training_step(case, networks, live),
        }


def measure(*, smoke: bool) -> list[Row]:
    """Return the student's steps in plain steps."""
    case = (
        Case("mobilenetv2_035", 32, 2, num_labels=6, parts=2) if smoke else Case("resnet50", 224, 8)
    )
    with steps(case) as arms:
        seconds = alternate(arms, rounds=1 if smoke else 5)
    return rows_of(case, seconds)


def rows_of(case: Case, seconds: Mapping[str, float]) -> list[Row]:
    """Return the lines of the table from the medians of ``steps``."""
    what = f"{case.backbone}, {case.size} px, batch of {case.batch}, {case.precision}"
    num_teachers = len(STRATEGIES) * case.parts
    # Backward takes two products for each of forward; a teacher has the forward ones only.
    live = (3 + num_teachers) / 3
    return [
        Row(
            f"student step with stored soft labels / plain training step ({what})",
            seconds["stored"] / seconds["plain"],
            "x",
            must="<= 1.05",
            bound="FLOPs: 1 x",
            of_bound=seconds["plain"] / seconds["stored"],
        ),
        Row(
            f"the same with {num_teachers} live teachers",
            seconds["live"] / seconds["plain"],
            "x",
            bound=f"FLOPs: {live:.2f} x",
            of_bound=live * seconds["plain"] / seconds["live"],
        ),
    ]
