"""Files as the published code leaves them, small: checkpoints, lists of labels and of parts."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from cpsd.labels import LabelSpace
from cpsd.model_config import TransformerConfig
from cpsd.models.published import ARCHITECTURES
from published_networks import (
    FEEDFORWARD,
    HEAD_WIDTH,
    HEADS,
    WIDTH,
    PublishedLinear,
    randomized,
)

LABELS = LabelSpace(("ant", "bee", "cat", "dog", "eel"))
PARTS = ((0, 3), (1, 2, 4))
EMBEDDINGS = np.random.default_rng(1).standard_normal((len(LABELS), 300))


def shrink_architectures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have ResNet-18 and a narrow transformer in place of ResNet-101 and the published one."""
    transformer = TransformerConfig(
        width=WIDTH, layers=2, heads=HEADS, head_width=HEAD_WIDTH, feedforward=FEEDFORWARD
    )
    for name in ("resnet101", "resnet101-tf"):
        published = ARCHITECTURES[name]
        config = replace(published.config, backbone="resnet18", transformer=transformer)
        monkeypatch.setitem(ARCHITECTURES, name, replace(published, config=config))


def write_labels(folder: Path) -> str:
    path = folder / "labels.txt"
    path.write_text("\n".join(LABELS) + "\n")
    return str(path)


def write_parts(folder: Path) -> Path:
    """Write a published partition file under its published name."""
    path = folder / "idx_coocurrence2_0.json"
    parts = [{str(column): position for position, column in enumerate(part)} for part in PARTS]
    path.write_text(json.dumps(parts))
    return path


def linear_checkpoint(path: Path, num_labels: int = len(LABELS)) -> Path:
    torch.save(randomized(PublishedLinear(num_labels)).state_dict(), path)
    return path


def pictures(size: int = 64) -> Tensor:
    return torch.rand(2, 3, size, size, generator=torch.Generator().manual_seed(3))
