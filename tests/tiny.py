"""A tiny network, tiny pictures and quick settings: what tests of training share."""

from functools import partial
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from cpsd.config import ImageConfig, RunConfig, TrainingConfig
from cpsd.data.records import Records
from cpsd.labels import LabelSpace
from cpsd.machine_config import MachineConfig
from cpsd.models.classifier import make_seeded
from cpsd.models.ensemble import TeacherEnsemble
from cpsd.partition import LabelPartition

# Tiny tensors gain nothing from a second thread, and on a busy machine they lose much by it.
torch.set_num_threads(1)

LABELS = LabelSpace(("red", "green", "blue", "bright"))
NUM_TRAIN, NUM_VALIDATION, NUM_TEST = 24, 10, 6
PARTITION = LabelPartition("co-occurrence", LABELS, ((0, 3), (1, 2)))
OTHER_PARTITION = LabelPartition("dis-occurrence", LABELS, ((0, 1), (2, 3)))


class TinyNetwork(nn.Module):
    """A convolution, pooling and a linear layer; batch norm and dropout on request."""

    def __init__(
        self, labels: LabelSpace, *, batch_norm: bool = True, dropout: float = 0.0
    ) -> None:
        super().__init__()
        # Before batch norm a bias has no gradient but rounding, which Adam would make steps of.
        self.conv = nn.Conv2d(3, 8, 3, stride=2, bias=not batch_norm)
        self.norm = nn.BatchNorm2d(8) if batch_norm else nn.Identity()
        self.dropout = nn.Dropout(dropout)
        self.linear = nn.Linear(8, len(labels))

    def forward(self, images: Tensor) -> Tensor:
        features: Tensor = torch.relu(self.norm(self.conv(images)))
        logits: Tensor = self.linear(self.dropout(features.mean(dim=(2, 3))))
        return logits


class RawWeights(lightning.Callback):
    """Keeps the members' raw weights after every optimizer step and every epoch."""

    def __init__(self) -> None:
        self.after_step: list[list[dict[str, Tensor]]] = []
        self.after_epoch: list[list[dict[str, Tensor]]] = []
        self.averages: list[dict[str, Tensor]] = []

    def on_train_batch_end(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, *_: Any
    ) -> None:
        if trainer.global_step > len(self.after_step):
            self.after_step.append(self._networks(pl_module))

    def on_validation_end(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule
    ) -> None:
        self.after_epoch.append(self._networks(pl_module))
        averages: Any = pl_module.averages
        self.averages = [weights(average.module) for average in averages]

    def _networks(self, task: lightning.LightningModule) -> list[dict[str, Tensor]]:
        networks: Any = task.networks
        return [weights(network) for network in networks]


class StopError(Exception):
    """An interruption."""


class StopIn(lightning.Callback):
    """Stops after the first batch of an epoch."""

    def __init__(self, epoch: int) -> None:
        self.epoch = epoch

    def on_train_batch_end(self, trainer: lightning.Trainer, *_: Any) -> None:
        if trainer.current_epoch == self.epoch:
            raise StopError


def network(
    labels: LabelSpace = LABELS, *, seed: int = 0, batch_norm: bool = True, dropout: float = 0.0
) -> nn.Module:
    """Return a network whose initial weights depend on ``seed`` alone."""
    make_model = partial(TinyNetwork, batch_norm=batch_norm, dropout=dropout)
    return make_seeded(make_model, labels, seed=seed)


def ensemble(
    partition: LabelPartition = PARTITION, *, batch_norm: bool = True, dropout: float = 0.0
) -> TeacherEnsemble:
    """Return untrained teachers, each with a seed of its own."""
    teachers = [
        network(LABELS.select(part), seed=10 + i, batch_norm=batch_norm, dropout=dropout)
        for i, part in enumerate(partition.parts)
    ]
    return TeacherEnsemble(partition, teachers)


def teachers() -> dict[str, nn.Module]:
    """Return an untrained ensemble for each of two strategies."""
    return {part.strategy: ensemble(part) for part in (PARTITION, OTHER_PARTITION)}


def write_pictures(folder: Path) -> Records:
    """Write noisy pictures of 8 x 8 pixels whose labels can be learned from their colours."""
    generator = np.random.default_rng(0)
    splits = ["train"] * NUM_TRAIN + ["validation"] * NUM_VALIDATION + ["test"] * NUM_TEST
    names, targets = [], []
    for i in range(len(splits)):
        colour = generator.integers(0, 256, size=3)
        noise = generator.integers(-60, 61, size=(8, 8, 3))
        pixels = np.clip(colour + noise, 0, 255).astype(np.uint8)
        names.append(f"{i:02d}.png")
        Image.fromarray(pixels).save(folder / names[-1])
        targets.append([*(colour > 150), colour.sum() > 400])
    return Records(
        paths=tuple(names),
        targets=np.array(targets, dtype=np.int8),
        labels=LABELS,
        splits=tuple(splits),
        root=folder,
        origins=tuple(f"labels.csv, row {i + 2}" for i in range(len(splits))),
    )


def noisy_records(folder: Path, num_images: int) -> Records:
    """Write pictures of noise, 9 x 10 pixels, of which three labels are known or not at random."""
    generator = np.random.default_rng(0)
    names = [f"{i}.png" for i in range(num_images)]
    for name in names:
        pixels = generator.integers(0, 256, size=(10, 9, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / name)
    return Records(
        paths=tuple(names),
        targets=generator.integers(-1, 2, size=(num_images, 3)).astype(np.int8),
        labels=LabelSpace(("a", "b", "c")),
        splits=("train",) * num_images,
        root=folder,
        origins=tuple(f"labels.csv, row {i + 2}" for i in range(num_images)),
    )


def settings(
    *,
    epochs: int = 2,
    batch_size: int = 8,
    accumulate: int = 1,
    learning_rate: float = 1e-2,
    ema_decay: float = 0.0,
    clip_norm: float | None = None,
    workers: int = 0,
) -> RunConfig:
    """Return settings that train in less than a second."""
    return RunConfig(
        seed=3,
        image=ImageConfig(size=8),
        training=TrainingConfig(
            epochs=epochs,
            batch_size=batch_size,
            accumulate=accumulate,
            learning_rate=learning_rate,
            warmup=0.3,
            ema_decay=ema_decay,
            clip_norm=clip_norm,
        ),
        machine=MachineConfig(accelerator="cpu", workers=workers, inference_batch_size=7),
    )


def weights(module: nn.Module) -> dict[str, Tensor]:
    """Return a copy of the weights and buffers."""
    return {key: value.detach().clone() for key, value in module.state_dict().items()}


def assert_same(first: dict[str, Tensor], second: dict[str, Tensor]) -> None:
    """Hold two networks' weights to be the same bits."""
    assert first.keys() == second.keys()
    for key, value in first.items():
        assert torch.equal(value, second[key]), key


def assert_close(
    first: dict[str, Tensor], second: dict[str, Tensor], *, atol: float = 1e-6
) -> None:
    """Hold two networks' weights to be the same to rounding."""
    assert first.keys() == second.keys()
    for key, value in first.items():
        np.testing.assert_allclose(value, second[key], rtol=1e-4, atol=atol, err_msg=key)
