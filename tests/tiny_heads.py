"""Heads of a few numbers' width, what they may know of labels, and a small network a family."""

from typing import Any

import numpy as np
import pytest
import timm
import torch
from torch import Tensor, nn

from cpsd.graph import LabelGraph
from cpsd.labels import LabelSpace
from cpsd.model_config import (
    CTranConfig,
    GCNConfig,
    MLDecoderConfig,
    ModelConfig,
    QueryConfig,
    TransformerConfig,
)
from cpsd.models.classifier import Classifier, build_classifier
from cpsd.models.label_information import LabelInformation

LABELS = LabelSpace(("ant", "bee", "cat", "dog", "eel"))
EMBEDDING_WIDTH = 6
HEADS = ("linear", "transformer", "query", "ml-decoder", "csra", "gcn", "ctran")
FAMILIES = ("test_resnet", "tresnet_m", "test_vit", "swin_tiny_patch4_window7_224")
_SMALLER: dict[str, dict[str, Any]] = {
    "tresnet_m": {"layers": [1, 1, 1, 1], "width_factor": 0.25},
    "swin_tiny_patch4_window7_224": {
        "embed_dim": 8,
        "depths": (1, 1, 1, 1),
        "num_heads": (1, 1, 2, 2),
    },
}
"""What makes a network of its family small; timm has tiny ones of the other two itself."""
_SECTIONS: dict[str, Any] = {
    "transformer": TransformerConfig(width=8, layers=2, heads=2, head_width=8, feedforward=12),
    "query": QueryConfig(width=8, heads=2, feedforward=12, encoder_layers=1, decoder_layers=2),
    "ml_decoder": MLDecoderConfig(width=8, groups=3, heads=2, feedforward=12),
    "gcn": GCNConfig(hidden=7),
    "ctran": CTranConfig(width=8, layers=2, heads=2, feedforward=12),
}


def model_config(head: str, backbone: str = "test_resnet", **changes: Any) -> ModelConfig:
    """Return the configuration of a network with a tiny ``head``."""
    settings: dict[str, Any] = {
        "backbone": backbone,
        "weights": "none",
        "head": head,
        "label_embedding_width": EMBEDDING_WIDTH,
        **_SECTIONS,
        **changes,
    }
    return ModelConfig(**settings)


def information(labels: LabelSpace = LABELS, *, given: bool = False) -> LabelInformation:
    """Return a label graph of chance targets and, where ``given``, chance embeddings."""
    generator = np.random.default_rng(7)
    targets = generator.integers(-1, 2, size=(60, len(labels))).astype(np.int8)
    vectors = generator.normal(size=(len(labels), EMBEDDING_WIDTH)).astype(np.float32)
    return LabelInformation(
        labels,
        LabelGraph.from_targets(targets, labels),
        vectors if given else None,
        EMBEDDING_WIDTH,
    )


def classifier(
    head: str,
    backbone: str = "test_resnet",
    *,
    labels: LabelSpace = LABELS,
    given: bool = False,
    **changes: Any,
) -> Classifier:
    """Return a network whose weights depend on the arguments alone, in evaluation mode."""
    torch.manual_seed(5)
    config = model_config(head, backbone, **changes)
    return build_classifier(labels, config, information(LABELS, given=given)).eval()


def use_small_backbones(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let timm make TResNet and Swin with fewer and narrower layers, weights at random."""
    create = timm.create_model

    def create_small(name: str, **settings: Any) -> nn.Module:
        network: nn.Module = create(name, **_SMALLER.get(name, {}), **settings)
        return network

    monkeypatch.setattr(timm, "create_model", create_small)


def pictures(number: int = 2, size: int = 64, *, seed: int = 1) -> Tensor:
    """Return pictures of noise."""
    return torch.rand(number, 3, size, size, generator=torch.Generator().manual_seed(seed))


def features(*shape: int, seed: int = 2) -> Tensor:
    """Return chance numbers in float64."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def shake(module: nn.Module) -> nn.Module:
    """Return ``module`` in float64 and evaluation mode, no parameter at 0 or 1 any more."""
    generator = torch.Generator().manual_seed(3)
    module = module.double().eval()
    with torch.no_grad():
        for parameter in module.parameters():
            noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
            parameter.add_(0.3 * noise)
    return module
