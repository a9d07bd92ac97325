"""Members: the networks that one training trains side by side.

The losses of this field are sums over labels and sub-task teachers share no parameter, so training
a teacher ensemble is training its members, each on its own labels. A baseline or a student is a
training with one member that has all labels; there is no other path.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from cpsd.errors import ModelError
from cpsd.files import write_text, written_whole
from cpsd.labels import Targets
from cpsd.models.ensemble import TeacherEnsemble
from cpsd.models.weights import read_own_weights, write_weights
from cpsd.training.learning_curve import METRICS_FILE

Scorer = Callable[[NDArray[np.float32], Targets], float]
"""Logits and targets, both (N, C), to a number: higher is better, NaN where none can be given."""

RAW = "raw"
EMA = "ema"


@dataclass(frozen=True)
class Best:
    """The epoch whose weights are kept.

    Args:
        epoch: counted from 0.
        weights: ``raw`` as the optimizer left them, or ``ema``, their moving average.
        score: on the validation pictures; NaN where no validation label has a positive.
    """

    epoch: int
    weights: str
    score: float


@dataclass
class Member:
    """One network in training.

    Args:
        network: images to logits over its labels.
        columns: its labels' columns in the targets.
        name: how messages and metrics call it.
        folder: where its best weights and ``metrics.csv`` go.
    """

    network: nn.Module
    columns: tuple[int, ...]
    name: str
    folder: Path
    best: Best | None = None
    history: list[dict[str, float]] = field(default_factory=list)

    @property
    def best_file(self) -> Path:
        """Weights of the best epoch so far; those of the model directory in the end."""
        return self.folder / "model.safetensors"

    def consider(self, candidate: Best, network: nn.Module) -> None:
        """Keep the weights of ``network`` if ``candidate`` is better than the best so far.

        An epoch without a score (NaN) replaces another without one, so that the last is kept.
        """
        unscored = np.isnan(candidate.score) and (self.best is None or np.isnan(self.best.score))
        better = self.best is None or np.isnan(self.best.score) or candidate.score > self.best.score
        if unscored or (better and not np.isnan(candidate.score)):
            # Contiguous: safetensors refuses other layouts, such as channels last.
            state = {
                key: value.detach().cpu().clone(memory_format=torch.contiguous_format)
                for key, value in network.state_dict().items()
            }
            with written_whole(self.best_file) as temporary:
                write_weights(temporary, state)
            self.best = candidate

    def load_best(self) -> Best:
        """Put the weights of the best epoch into the network, and say which these are."""
        assert self.best is not None, "a member has no best epoch before its first validation"
        self.network.load_state_dict(read_own_weights(self.best_file))
        return self.best

    def write_metrics(self) -> None:
        """Write the history as ``metrics.csv``, a row an epoch."""
        keys = list(dict.fromkeys(key for row in self.history for key in row))
        lines = [
            ",".join(f"{row[key]:.10g}" if key in row else "" for key in keys)
            for row in self.history
        ]
        write_text(self.folder / METRICS_FILE, "\n".join([",".join(keys), *lines]) + "\n")

    def state_dict(self) -> dict[str, Any]:
        """Return what a resumed training needs beside the weights."""
        best = None if self.best is None else (self.best.epoch, self.best.weights, self.best.score)
        return {"best": best, "history": self.history}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up what ``state_dict`` returned."""
        self.best = None if state["best"] is None else Best(*state["best"])
        self.history = list(state["history"])


def members_of(
    predictor: nn.Module, columns: Sequence[int], *, name: str, folder: Path
) -> tuple[Member, ...]:
    """Return the networks of ``predictor`` that learn on their own.

    An ensemble has one for each part, ``name/<part>`` in ``folder/<part>``; any other predictor is
    its own and only member.

    Args:
        predictor: images to logits over the labels in ``columns``.
        columns: of the targets.
        name: how messages call the predictor.
        folder: where weights and metrics go.
    """
    if not isinstance(predictor, TeacherEnsemble):
        return (Member(predictor, tuple(columns), name, folder),)
    return tuple(
        Member(teacher, part, f"{name}/{index}", folder / str(index))
        for index, (teacher, part) in enumerate(
            zip(predictor.teachers, predictor.partition.parts, strict=True)
        )
    )


def checked_logits(logits: object, needed: tuple[int, int], name: str) -> torch.Tensor:
    """Return ``logits``, refused where they are no tensor of shape ``needed``, (B, P).

    Raises:
        ModelError: they are not, as those of a user's own network may be.
    """
    if isinstance(logits, torch.Tensor) and logits.shape == needed:
        return logits
    found = tuple(logits.shape) if isinstance(logits, torch.Tensor) else type(logits).__name__
    raise ModelError(
        f"The network of {name} returns {found} for {needed[0]} pictures and {needed[1]} labels; "
        f"logits of shape {needed} are needed."
    )


def decayed_parameters(
    network: nn.Module, weight_decay: float
) -> list[dict[str, float | list[nn.Parameter]]]:
    """Return optimizer groups: weight decay on matrices and kernels, none on norms and biases."""
    trainable = [p for p in network.parameters() if p.requires_grad]
    return [
        {"params": [p for p in trainable if p.ndim > 1], "weight_decay": weight_decay},
        {"params": [p for p in trainable if p.ndim <= 1], "weight_decay": 0.0},
    ]


def lay_channels_last(network: nn.Module) -> None:
    """Lay the kernels of convolutions out as ``scaled_pixels`` lays out pictures.

    Those of ``nn.Conv2d`` alone: another module may count on the layout of what it has.
    """
    for module in network.modules():
        if isinstance(module, nn.Conv2d) and "weight" in module._parameters:
            weight = module.weight
            weight.data = weight.data.contiguous(memory_format=torch.channels_last)


def scaled_pixels(images_BHW: torch.Tensor) -> torch.Tensor:
    """Return uint8 pixels (B, 3, H, W) as float32 in [0, 1], what every predictor takes.

    Channels lie last in memory, which convolutions are faster on: 1.3 to 1.7 times on two cores.
    """
    return images_BHW.contiguous(memory_format=torch.channels_last).float().div_(255)
