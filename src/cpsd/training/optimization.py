"""The optimizer of a training and its schedule."""

import math
from collections.abc import Iterable

import torch
from torch import nn
from torch.optim.lr_scheduler import OneCycleLR

from cpsd.config import TrainingConfig
from cpsd.training.members import decayed_parameters


def optimizer_and_schedule(
    networks: Iterable[nn.Module], config: TrainingConfig, device: torch.device, *, num_steps: int
) -> tuple[torch.optim.Optimizer, OneCycleLR]:
    """Return Adam with the paper's coupled decay, or AdamW, and a one-cycle schedule by the step.

    Args:
        networks: that learn.
        config: rate, decay, warm-up.
        device: that they learn on.
        num_steps: of the whole training.
    """
    groups = [
        group for network in networks for group in decayed_parameters(network, config.weight_decay)
    ]
    optimizer = torch.optim.Adam(
        groups,
        lr=config.learning_rate,
        decoupled_weight_decay=config.decay == "decoupled",
        fused=_can_be_fused(config, device),
    )
    schedule = OneCycleLR(
        optimizer,
        max_lr=config.learning_rate,
        total_steps=num_steps,
        pct_start=_warmup_share(config.warmup, num_steps),
    )
    return optimizer, schedule


def _can_be_fused(config: TrainingConfig, device: torch.device) -> bool:
    """Return whether one kernel may take a whole step: 2.5 to 5 times as fast on a CPU.

    It unscales half-precision gradients itself, after they should have been clipped.
    """
    clipped_scaled = config.precision == "16-mixed" and config.clip_norm is not None
    return device.type in ("cpu", "cuda") and not clipped_scaled


def _warmup_share(warmup: float, total_steps: int) -> float:
    """Return ``warmup``, or the nearest share below it that OneCycleLR can take.

    It divides by zero where the rise would be of exactly one step; with a hair less it starts at
    the peak, which is what such a rise means.

    Example:
        >>> _warmup_share(0.25, 4) < 0.25, _warmup_share(0.25, 8)
        (True, 0.25)
    """
    return math.nextafter(warmup, 0) if warmup * total_steps == 1 else warmup
