"""A convolution, the batch norm and the activation after it as one operation of oneDNN, on a CPU.

These are the operations that torch's compiler for CPUs puts in their place; called by themselves
they need neither a compiler nor a trace. Two things are saved: weights are brought into oneDNN's
order once in place of at every call, and the activation is computed on values that the convolution
has just made, in place of in a further pass over the feature map.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils.fusion import fuse_conv_bn_weights

_ACTIVATIONS: dict[Any, tuple[str, Sequence[float]]] = {
    nn.ReLU: ("relu", ()),
    nn.ReLU6: ("hardtanh", (0.0, 6.0)),
    nn.SiLU: ("swish", ()),
    nn.Hardswish: ("hardswish", ()),
}
"""What oneDNN calls an activation, and its numbers."""


def is_known_activation(module: nn.Module) -> bool:
    """Return whether oneDNN computes what ``module`` does (of its own kind, not of one made of it).

    Example:
        >>> is_known_activation(nn.ReLU(inplace=True)), is_known_activation(nn.Mish())
        (True, False)
    """
    return type(module) in _ACTIVATIONS and "forward" not in vars(module)


def is_possible(convolution: nn.Conv2d) -> bool:
    """Return whether oneDNN can do the work of ``convolution``."""
    weight = convolution.weight
    return bool(
        type(convolution).forward is nn.Conv2d.forward
        and convolution.padding_mode == "zeros"
        and not isinstance(convolution.padding, str)
        and weight.device.type == "cpu"
        and weight.dtype == torch.float32
        and torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
        and torch.backends.mkldnn.enabled
    )


class FusedConvolution:
    """Does what a convolution, batch norm in evaluation mode and an activation do in turn.

    Args:
        convolution: for which ``is_possible``; none of its weights changes.
        norm: whose numbers are folded into a copy of these weights.
        activation: for which ``is_known_activation``, or None; it may be a part of ``norm``.
        input_shape: (B, D, H, W) of the features to come, for the order of the weights; others are
            computed as well.
    """

    def __init__(
        self,
        convolution: nn.Conv2d,
        norm: _BatchNorm,
        activation: nn.Module | None,
        input_shape: Sequence[int],
    ) -> None:
        self._modules: list[nn.Module] = [convolution, norm]
        if activation is not None and all(activation is not part for part in norm.children()):
            self._modules.append(activation)
        weight, bias = fuse_conv_bn_weights(
            convolution.weight.detach(),
            None if convolution.bias is None else convolution.bias.detach(),
            norm.running_mean,  # type: ignore[arg-type] # there is one where it can be folded
            norm.running_var,  # type: ignore[arg-type]
            norm.eps,
            norm.weight,
            norm.bias,
        )
        self._geometry = (
            list(convolution.padding),
            list(convolution.stride),
            list(convolution.dilation),
            convolution.groups,
        )
        self._weight: Tensor = torch.ops.mkldnn._reorder_convolution_weight(
            weight.detach(), *self._geometry, list(input_shape)
        )
        self._bias = bias.detach()
        self.activation = activation
        name, numbers = ("none", ()) if activation is None else _ACTIVATIONS[type(activation)]
        self._attributes = (name, list(numbers), "")

    def __call__(self, features_BDHW: Tensor) -> Tensor:
        """Return the features that the modules give in turn."""
        if (
            features_BDHW.dtype != torch.float32
            or features_BDHW.ndim != 4
            or torch.is_autocast_enabled("cpu")
        ):
            return self._in_turn(features_BDHW)
        result: Tensor = torch.ops.mkldnn._convolution_pointwise(
            features_BDHW, self._weight, self._bias, *self._geometry, *self._attributes
        )
        return result

    def _in_turn(self, features: Tensor) -> Tensor:
        for module in self._modules:
            features = type(module).forward(module, features)
        return features
