"""Batch norm folded into convolutions, for as long as nothing is learned.

In evaluation mode batch norm multiplies each channel by a number and adds another, which the
convolution before it can do with other weights. What is saved is a pass over every feature map,
which takes longer than many a convolution: those are bound by arithmetic, it by memory. On a CPU
the activation that follows is computed by the convolution too (``cpsd.models.onednn``).
"""

import logging
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import NamedTuple, cast

import torch
from timm.layers.conv2d_same import Conv2dSame
from timm.layers.norm_act import BatchNormAct2d
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils.fusion import fuse_conv_bn_weights

from cpsd.errors import is_of_killed_loader
from cpsd.models.onednn import FusedConvolution, is_known_activation, is_possible
from cpsd.models.trunk import SharedModule, one_pass

logger = logging.getLogger(__name__)

WORTH_IT = 8
"""Pictures from which on it pays to look first: that takes as long as two pictures."""

TOLERANCE = 1e-4
"""By how much logits may differ, as a share of the largest, or of 1 where that is smaller; rounding
makes about 1e-6 of it."""

_UNFOLDED = "so it predicts as it is: slower than it might, with the same result."

_PLAIN_CONVOLUTIONS = (nn.Conv2d.forward, Conv2dSame.forward)
"""Those that multiply pictures by their weight as it is; others make another of it first."""


class _Chain(NamedTuple):
    """A convolution, the batch norm that takes its output, and what takes the output of that."""

    convolution: nn.Conv2d
    norm: _BatchNorm
    activation: nn.Module | None
    input_shape: tuple[int, ...]


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
            # In lower precision it is torch that chooses the kernels.
            as_one = not torch.is_autocast_enabled(images_B3HW.device.type)
            with torch.autocast(images_B3HW.device.type, enabled=False):
                _fold(self.predictor, images_B3HW, self._undo, as_one=as_one)
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


def _fold(predictor: nn.Module, images_B3HW: Tensor, undo: ExitStack, *, as_one: bool) -> None:
    """Fold what can be folded, and undo that at once where logits of the first would change.

    Args:
        predictor: whose modules are changed.
        images_B3HW: the batch to come.
        undo: takes what gives the modules back what was theirs.
        as_one: whether oneDNN may compute what belongs together, where it can.
    """
    first_13HW = images_B3HW[:1]
    # In inference mode tensors do not count how often they were written into.
    with torch.inference_mode(mode=False), torch.no_grad(), one_pass():
        try:
            chains, expected = _watched(predictor, first_13HW.clone())
        # A user's own network may fail on one picture in any way, and work on its batches.
        except Exception as error:
            if is_of_killed_loader(error):  # raised wherever this process is at the moment
                raise
            logger.info("The network fails on a single picture (%s), %s", error, _UNFOLDED)
            return
    scale = max(1.0, float(expected.abs().max()))
    # What takes the norm's output beside its activation is seen in the logits alone.
    for some in (chains, [chain._replace(activation=None) for chain in chains]):
        with ExitStack() as attempt, torch.no_grad():
            for chain in some:
                _fold_chain(chain, len(images_B3HW) if as_one else None, attempt)
            # A copy, or a trunk would repeat what it has computed of the same pictures.
            found = predictor(first_13HW.clone())
            if bool(((found - expected).abs() <= TOLERANCE * scale).all()):
                undo.push(attempt.pop_all())
                return
    logger.info("With batch norm folded the network would give other logits, %s", _UNFOLDED)


def _watched(predictor: nn.Module, image_13HW: Tensor) -> tuple[list[_Chain], Tensor]:
    """Return each convolution whose output batch norm takes, with what follows, and the logits."""
    convolved, normed = _Outputs(), _Outputs()
    shapes: dict[nn.Module, tuple[int, ...]] = {}
    pairs: dict[_BatchNorm, nn.Conv2d] = {}
    activations: dict[nn.Module, nn.Module] = {}
    calls: Counter[nn.Module] = Counter()

    def after_convolution(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        calls[module] += 1
        shapes[module] = tuple(inputs[0].shape)
        convolved.add(output, module)

    def before_norm(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        calls[module] += 1
        convolution = convolved.maker(inputs[0])
        if convolution is not None:
            pairs[cast(_BatchNorm, module)] = cast(nn.Conv2d, convolution)

    def after_norm(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        normed.add(output, module)

    def before_activation(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        calls[module] += 1
        norm = normed.maker(inputs[0])
        if norm is not None:
            activations[norm] = module

    with ExitStack() as hooks:
        for module in predictor.modules():
            if _is_plain_convolution(module):
                hooks.callback(module.register_forward_hook(after_convolution).remove)
            elif _is_foldable_norm(module):
                hooks.callback(module.register_forward_pre_hook(before_norm).remove)
                hooks.callback(module.register_forward_hook(after_norm).remove)
            elif is_known_activation(module):
                hooks.callback(module.register_forward_pre_hook(before_activation).remove)
        logits_1C: Tensor = predictor(image_13HW)
    chains = []
    for norm, convolution in pairs.items():
        activation = activations.get(norm)
        if calls[norm] == calls[convolution] == 1:
            alone = activation is not None and calls[activation] == 1
            chains.append(
                _Chain(convolution, norm, activation if alone else None, shapes[convolution])
            )
    return chains, logits_1C


class _Outputs:
    """Which module a tensor comes from, as long as nobody has written into it since."""

    def __init__(self) -> None:
        # Outputs are held, so that no other gets the same id.
        self._made: dict[int, tuple[nn.Module, Tensor, int]] = {}

    def add(self, output: Tensor, maker: nn.Module) -> None:
        self._made[id(output)] = (maker, output, output._version)

    def maker(self, tensor: Tensor) -> nn.Module | None:
        maker, _, version = self._made.get(id(tensor), (None, None, None))
        return maker if version == tensor._version else None


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


def _fold_chain(chain: _Chain, num_images: int | None, undo: ExitStack) -> None:
    """Let the convolution do what batch norm does and, on a CPU, the activation after it.

    Args:
        chain: what to fold.
        num_images: of the batches to come; None where oneDNN shall not compute it as one.
        undo: as in ``_fold``.
    """
    convolution, norm, activation, shape = chain
    rest = _Rest(norm) if isinstance(norm, BatchNormAct2d) else _unchanged
    if num_images is not None and is_possible(convolution):
        within = norm.act if isinstance(norm, BatchNormAct2d) else None
        if within is not None and is_known_activation(within):
            activation, rest = within, _unchanged
        elif within is not None and not isinstance(within, nn.Identity):
            activation = None
        fused = FusedConvolution(convolution, norm, activation, (num_images, *shape[1:]))
        _replace_forward(convolution, fused, undo)
        if activation is not None and activation is not within:
            _replace_forward(activation, _unchanged, undo)
    else:
        _fold_weights(convolution, norm, undo)
    _replace_forward(norm, rest, undo)


def _replace_forward(
    module: nn.Module, forward: Callable[[Tensor], Tensor], undo: ExitStack
) -> None:
    vars(module)["forward"] = forward
    undo.callback(vars(module).pop, "forward")


def _fold_weights(convolution: nn.Conv2d, norm: _BatchNorm, undo: ExitStack) -> None:
    """Give ``convolution`` weights that do what ``norm`` does."""
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


def _unchanged(features_BDHW: Tensor) -> Tensor:
    return features_BDHW


class _Rest:
    """What timm's batch norm with activation does after the norm."""

    def __init__(self, norm: BatchNormAct2d) -> None:
        self._norm = norm

    def __call__(self, features_BDHW: Tensor) -> Tensor:
        result: Tensor = self._norm.act(self._norm.drop(features_BDHW))
        return result
