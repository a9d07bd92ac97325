"""How much of a network's forward pass lies before the end of each stage, in operations."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import cast

import torch
from torch import nn

from cpsd.errors import ModelError
from cpsd.flops import counted
from cpsd.labels import LabelSpace
from cpsd.model_config import ModelConfig
from cpsd.models.backbones import NO_WEIGHTS, Backbone
from cpsd.models.classifier import build_classifier
from cpsd.models.store import blank_information
from cpsd.models.trunk import Trunk, stage_ends

NUM_LABELS = 80
"""Labels that a head is counted with; what stages take does not depend on them."""


@dataclass(frozen=True)
class StageShares:
    """Shares of a forward pass.

    Args:
        stages: of all up to the end of each stage, in order; none where none can be shared.
        backbone: of the backbone; the head has the rest.
    """

    stages: tuple[float, ...]
    backbone: float


def stage_shares(config: ModelConfig, image_size: int) -> StageShares:
    """Return how the network of ``config`` spends its operations; nothing is computed.

    Args:
        config: of the network; one of the user's own has no stages.
        image_size: height and width of pictures.

    Raises:
        ModelError: timm has no such model, or it takes no pictures of this size.
    """
    if config.factory is not None:
        return StageShares((), 1.0)
    labels = LabelSpace(tuple(f"label {number}" for number in range(NUM_LABELS)))
    config = replace(config, weights=NO_WEIGHTS, label_embeddings=None)
    with torch.device("meta"):
        network = build_classifier(labels, config, blank_information(labels, config)).eval()
        images = torch.empty(1, 3, image_size, image_size)
    backbone = cast(Backbone, network.backbone)
    ends = stage_ends(backbone.network)
    try:
        if ends:
            Trunk(network, 1)
    except ModelError:
        ends = []
    modules = [*(backbone.network.get_submodule(end) for end in ends), backbone, network]
    *stages, of_backbone, whole = _operations_until(modules, images)
    return StageShares(tuple(count / whole for count in stages), of_backbone / whole)


def _operations_until(modules: Sequence[nn.Module], images: torch.Tensor) -> list[int]:
    """Return the operations of the last of ``modules`` up to the end of each of them."""
    counts: dict[nn.Module, int] = {}
    with torch.no_grad(), counted() as counter:

        def count(module: nn.Module, *_: object) -> None:
            counts[module] = counter.flops

        hooks = [module.register_forward_hook(count) for module in modules]
        modules[-1](images)
    for hook in hooks:
        hook.remove()
    return [counts[module] for module in modules]
