"""Which layer's feature map explains a network: the deepest that still tells places apart.

Shapes: B images, D channels, h x w places of a feature map.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from cpsd.errors import ModelError
from cpsd.models.backbones import Backbone

LEAST_PLACES = 4
"""Places a side that a map should have: with fewer it hardly says where something is."""

LAYER_ATTRIBUTE = "explained_layer"
"""Attribute by which a network of the user's own names the module whose output is its map."""


class _Output(NamedTuple):
    """What a module gave in a forward pass."""

    module: nn.Module
    shape: tuple[int, ...]

    @property
    def side(self) -> int:
        """Places along the shorter side of the map; 0 where the output is none."""
        return min(self.shape[2:]) if len(self.shape) == 4 else 0

    def channels_second(self) -> "_Output":
        """Return the same of a stage that has its channels last."""
        batch, height, width, channels = self.shape
        return self._replace(shape=(batch, channels, height, width))


def explained_layer(network: nn.Module, images_B3HW: Tensor) -> nn.Module:
    """Return the module whose output ``(B, D, h, w)`` Grad-CAM is taken from.

    With a ``Backbone``, that is its feature map, tokens laid out on their grid. Small pictures may
    leave it fewer than 4 places a side (a network of stride 32 makes one place of 32 x 32 pixels);
    then it is the deepest of the backbone's stages that has as many, or the one with the most.
    Another network may name the module in its attribute ``explained_layer``; otherwise it is the
    last convolutional map by the same rule.

    Args:
        network: maps images to logits; in evaluation mode.
        images_B3HW: pictures as the network gets them; the first is put through it.

    Raises:
        ModelError: the network has no such map, or none that could be told.
    """
    named = getattr(network, LAYER_ATTRIBUTE, None)
    if isinstance(named, nn.Module):
        return named
    backbones = [module for module in network.modules() if isinstance(module, Backbone)]
    if len(backbones) > 1:
        raise _unexplained(f"it has {len(backbones)} backbones")
    if backbones:
        stages = _stages(backbones[0])
        outputs = _outputs(network, images_B3HW, [*stages, backbones[0]])
        if _has_channels_last(backbones[0]):
            outputs = [o.channels_second() if o.module in stages else o for o in outputs]
        # The backbone is the last to end, whatever it does after its last stage.
        return backbones[0] if outputs[-1].side >= LEAST_PLACES else _deepest(outputs)
    outputs = _outputs(network, images_B3HW, list(network.modules()))
    maps = [output for output in outputs if _is_convolutional(output.module) and output.side > 1]
    if not maps:
        raise _unexplained("it has no convolutional feature map of more than one place")
    chosen = _deepest(maps)
    last = max(i for i, output in enumerate(outputs) if output.module is chosen)
    if any(_mixes_tokens(output) for output in outputs[last + 1 :]):
        raise _unexplained("it goes on with tokens after its last convolutional map")
    return chosen


@contextmanager
def with_channels_second(network: nn.Module, layer: nn.Module) -> Iterator[nn.Module]:
    """Yield a module that gives the layer's map ``(B, D, h, w)`` in the network's forward pass.

    That is the layer, unless it is a stage of a backbone that keeps channels last (Swin).
    """
    backbones = [module for module in network.modules() if isinstance(module, Backbone)]
    if not any(_has_channels_last(one) and layer in _stages(one) for one in backbones):
        yield layer
        return
    passed = nn.Identity()

    def turn(module: nn.Module, inputs: object, output_BhwD: Tensor) -> Tensor:
        turned: Tensor = passed(output_BhwD.permute(0, 3, 1, 2))
        return turned.permute(0, 2, 3, 1)

    hook = layer.register_forward_hook(turn)
    try:
        yield passed
    finally:
        hook.remove()


def _has_channels_last(backbone: Backbone) -> bool:
    return getattr(backbone.network, "output_fmt", "NCHW") == "NHWC"


def _stages(backbone: Backbone) -> list[nn.Module]:
    """Return the modules that timm names as the network's stages, where they give maps."""
    if getattr(backbone.network, "output_fmt", "NCHW") not in ("NCHW", "NHWC"):
        return []  # tokens: only the backbone's own output has them in their places
    stages = getattr(backbone.network, "feature_info", None)
    names = [cast(Any, stage)["module"] for stage in stages] if isinstance(stages, list) else []
    modules = dict(backbone.network.named_modules())
    return [modules[name] for name in names if name and name in modules]


def _outputs(
    network: nn.Module, images_B3HW: Tensor, modules: Sequence[nn.Module]
) -> list[_Output]:
    """Return what each of ``modules`` gives for one picture, in the order they end."""
    outputs: list[_Output] = []

    def record(module: nn.Module, inputs: object, output: object) -> None:
        if isinstance(output, tuple) and output:
            output = output[0]  # attention gives its weights too
        if isinstance(output, Tensor):
            outputs.append(_Output(module, tuple(output.shape)))

    hooks = [module.register_forward_hook(record) for module in dict.fromkeys(modules)]
    try:
        with torch.no_grad():
            network(images_B3HW[:1])
    finally:
        for hook in hooks:
            hook.remove()
    return outputs


def _deepest(outputs: Sequence[_Output]) -> nn.Module:
    """Return the last module with enough places, or the last of those with the most."""
    enough = min(LEAST_PLACES, max(output.side for output in outputs))
    return [output.module for output in outputs if output.side >= enough][-1]


def _is_convolutional(module: nn.Module) -> bool:
    return isinstance(module, _BatchNorm) or any(
        isinstance(part, nn.Conv2d) for part in module.modules()
    )


def _mixes_tokens(output: _Output) -> bool:
    """Return whether this is a layer of a transformer, which knows places by their order alone."""
    if isinstance(output.module, nn.MultiheadAttention | nn.TransformerEncoderLayer):
        return True
    if not isinstance(output.module, nn.LayerNorm) or len(output.shape) < 3:
        return False
    # Layer norms of convolutional networks keep channels second.
    width = output.module.normalized_shape[-1]
    return output.shape[-1] == width != output.shape[1]


def _unexplained(reason: str) -> ModelError:
    return ModelError(
        f"The network cannot be explained by Grad-CAM: {reason}. Give it an attribute "
        f"'{LAYER_ATTRIBUTE}', the module whose output is the feature map (B, D, H, W)."
    )
