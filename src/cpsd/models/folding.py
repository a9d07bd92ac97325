"""Batch norm folded into convolutions, for as long as nothing is learned.

In evaluation mode batch norm multiplies each channel by a number and adds another, which the
convolution before it can do with other weights. What is saved is a pass over every feature map,
which takes longer than many a convolution: those are bound by arithmetic, it by memory.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, cast

import torch
from timm.layers.conv2d_same import Conv2dSame
from timm.layers.norm_act import BatchNormAct2d
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils.fusion import fuse_conv_bn_weights

from cpsd.models.trunk import SharedModule, one_pass

WORTH_IT = 8
"""Pictures from which on it pays to look first: that takes as long as two pictures."""

TOLERANCE = 1e-4
"""By how much logits may differ, as a share of the largest, or of 1 where that is smaller; rounding
makes about 1e-6 of it."""

_PLAIN_CONVOLUTIONS = (nn.Conv2d.forward, Conv2dSame.forward)
"""Those that multiply pictures by their weight as it is; others make another of it first."""


class FoldedPredictor(nn.Module):
    """Computes as ``predictor`` does, but quicker; see ``folded``."""

    def __init__(self, predictor: nn.Module, undo: ExitStack, from_picture: int) -> None:
        super().__init__()
        self.predictor = predictor
        self._undo = undo
        self._from_picture = from_picture
        self._pictures = 0
        self._decided = False

    def forward(self, images_B3HW: Tensor) -> Tensor:
        """Return the predictor's logits ``(B, C)``, the same to rounding."""
        images_B3HW = images_B3HW.contiguous(memory_format=torch.channels_last)
        self._pictures += len(images_B3HW)
        if not self._decided and self._pictures >= self._from_picture:
            self._decided = True
            with torch.autocast(images_B3HW.device.type, enabled=False):
                _fold(self.predictor, images_B3HW[:1], self._undo)
        logits_BC: Tensor = self.predictor(images_B3HW)
        return logits_BC


@contextmanager
def folded(predictor: nn.Module, *, from_picture: int = WORTH_IT) -> Iterator[FoldedPredictor]:
    """Give a predictor that computes as ``predictor``, with batch norm folded into convolutions.

    Which belongs to which is seen in one picture's way through the network, so the network may be
    of any kind and shape. Its logits of that picture are compared before and after, and where they
    differ by more than rounding, or it fails on a single picture, it is left as it is. Weights are
    replaced inside the network, which must be in evaluation mode; when this ends it has its own
    again, the same objects.

    Args:
        predictor: images (B, 3, H, W) in [0, 1] to logits (B, C).
        from_picture: batches before this many pictures have come take the ordinary way.
    """
    with ExitStack() as undo:
        yield FoldedPredictor(predictor, undo, from_picture)


def _fold(predictor: nn.Module, image_13HW: Tensor, undo: ExitStack) -> None:
    """Fold what can be folded, and undo that at once where logits would change."""
    with torch.no_grad(), one_pass():
        try:
            pairs, expected = _watched(predictor, image_13HW)
        # A user's own network may fail on one picture in any way, and work on its batches.
        except Exception:
            return
    with ExitStack() as attempt, torch.no_grad():
        for convolution, norm in pairs:
            _fold_pair(convolution, norm, attempt)
        # A copy, or a trunk would repeat what it has computed of the same pictures.
        found = predictor(image_13HW.clone())
        scale = max(1.0, float(expected.abs().max()))
        if bool(((found - expected).abs() <= TOLERANCE * scale).all()):
            undo.push(attempt.pop_all())


def _watched(
    predictor: nn.Module, image_13HW: Tensor
) -> tuple[list[tuple[nn.Conv2d, _BatchNorm]], Tensor]:
    """Return each convolution whose output batch norm takes, with that, and the logits."""
    outputs: dict[int, tuple[nn.Conv2d, Tensor]] = {}  # held, so that no other gets the same id
    pairs: list[tuple[nn.Conv2d, _BatchNorm]] = []
    calls: dict[nn.Module, int] = {}

    def after_convolution(module: nn.Module, inputs: Any, output: Tensor) -> None:  # noqa: ANN401
        calls[module] = calls.get(module, 0) + 1
        outputs[id(output)] = (cast(nn.Conv2d, module), output)

    def before_norm(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        calls[module] = calls.get(module, 0) + 1
        convolution, _ = outputs.get(id(inputs[0]), (None, None))
        if convolution is not None:
            pairs.append((convolution, cast(_BatchNorm, module)))

    with ExitStack() as hooks:
        for module in predictor.modules():
            if _is_plain_convolution(module):
                hooks.callback(module.register_forward_hook(after_convolution).remove)
            elif _is_foldable_norm(module):
                hooks.callback(module.register_forward_pre_hook(before_norm).remove)
        logits_1C: Tensor = predictor(image_13HW)
    return [pair for pair in pairs if all(calls[module] == 1 for module in pair)], logits_1C


def _is_plain_convolution(module: nn.Module) -> bool:
    return (
        isinstance(module, nn.Conv2d)
        and type(module).forward in _PLAIN_CONVOLUTIONS
        and "weight" in module._parameters  # it may be made of others, as weight norm does
    )


def _is_foldable_norm(module: nn.Module) -> bool:
    """Return whether ``module`` is batch norm with running statistics, and not yet folded."""
    return (
        isinstance(module, _BatchNorm)
        and not isinstance(module, SharedModule)
        and type(module).forward in (nn.BatchNorm2d.forward, BatchNormAct2d.forward)
        and module.running_mean is not None
        and not module.training
        and "forward" not in vars(module)
    )


def _fold_pair(convolution: nn.Conv2d, norm: _BatchNorm, undo: ExitStack) -> None:
    """Give ``convolution`` weights that do what ``norm`` does, and let that do the rest."""
    weight, bias = fuse_conv_bn_weights(
        convolution.weight,
        convolution.bias,
        cast(Tensor, norm.running_mean),
        cast(Tensor, norm.running_var),
        norm.eps,
        norm.weight,
        norm.bias,
    )
    # Channels last, as the pictures come.
    weight.data = weight.data.contiguous(memory_format=torch.channels_last)
    parameters = convolution._parameters
    for name, value in (("weight", weight), ("bias", bias)):
        undo.callback(parameters.__setitem__, name, parameters[name])
        parameters[name] = value
    vars(norm)["forward"] = _Rest(norm) if isinstance(norm, BatchNormAct2d) else _unchanged
    undo.callback(vars(norm).pop, "forward")


def _unchanged(features_BDHW: Tensor) -> Tensor:
    return features_BDHW


class _Rest:
    """What timm's batch norm with activation does after the norm."""

    def __init__(self, norm: BatchNormAct2d) -> None:
        self._norm = norm

    def __call__(self, features_BDHW: Tensor) -> Tensor:
        result: Tensor = self._norm.act(self._norm.drop(features_BDHW))
        return result
