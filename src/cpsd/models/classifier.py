"""The classifier: normalization, backbone and head; and the factories that make predictors."""

import importlib
import logging
from collections.abc import Callable, Sequence
from functools import cache, partial
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from cpsd.errors import ModelError, UserError, did_you_mean
from cpsd.labels import LabelSpace
from cpsd.model_config import ModelConfig
from cpsd.models.backbones import FROM_TIMM, NO_WEIGHTS, Backbone, build_backbone
from cpsd.models.heads import HEADS
from cpsd.models.label_information import LabelInformation

logger = logging.getLogger(__name__)

MakeModel = Callable[[LabelSpace], nn.Module]
"""Makes a predictor, images (B, 3, H, W) in [0, 1] to logits (B, C), over the given labels."""


class Normalization(nn.Module):
    """Subtract the mean and divide by the standard deviation of each colour channel.

    Both are saved with the weights, so that a saved model does not depend on timm's tables.

    Args:
        mean: of each channel.
        std: of each channel.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean).view(-1, 1, 1))
        self.register_buffer("std", torch.tensor(std).view(-1, 1, 1))

    def forward(self, images_B3HW: Tensor) -> Tensor:
        """Return the normalized pictures."""
        return (images_B3HW - self.mean) / self.std


class Classifier(nn.Module):
    """A predictor of a backbone and a head.

    Args:
        backbone: normalized images to a feature map.
        head: feature map to logits.
        normalization: images in [0, 1] to what the backbone expects.
        frozen_batch_norm: keep the backbone's batch norm as it is, in training too.
    """

    def __init__(
        self,
        backbone: nn.Module,
        head: nn.Module,
        *,
        normalization: nn.Module,
        frozen_batch_norm: bool = False,
    ) -> None:
        super().__init__()
        self.normalization = normalization
        self.backbone = backbone
        self.head = head
        self.frozen_batch_norm = frozen_batch_norm
        if frozen_batch_norm:
            freeze_batch_norm(backbone)

    def forward(self, images_B3HW: Tensor, *known_BC: Tensor) -> Tensor:
        """Return logits ``(B, C)`` of pictures ``(B, 3, H, W)`` in [0, 1].

        Args:
            images_B3HW: the pictures.
            known_BC: for heads that can be told labels: 1 present, 0 absent, -1 unknown.
        """
        features = self.backbone(self.normalization(images_B3HW))
        logits_BC: Tensor = self.head(features, *known_BC)
        return logits_BC

    def train(self, mode: bool = True) -> "Classifier":
        """Set training or evaluation mode; frozen batch norm stays in evaluation mode."""
        super().train(mode)
        if self.frozen_batch_norm:
            freeze_batch_norm(self.backbone)
        return self


def freeze_batch_norm(module: nn.Module) -> None:
    """Put all batch norm in ``module`` into evaluation mode, its scale and shift without gradients.

    ``module.train()`` undoes the first, so a network that wants it for good calls this again in its
    own ``train``, as ``Classifier`` does.

    Example:
        >>> network = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))
        >>> freeze_batch_norm(network)
        >>> network[1].training, network[1].weight.requires_grad
        (False, False)
    """
    # _BatchNorm is the common base of torch's, its synchronized form and timm's BatchNormAct2d.
    for layer in module.modules():
        if isinstance(layer, _BatchNorm):
            layer.eval()
            for parameter in layer.parameters(recurse=False):
                parameter.requires_grad_(False)


def build_classifier(
    labels: LabelSpace, config: ModelConfig, information: LabelInformation | None = None
) -> Classifier:
    """Return the classifier that ``config`` describes, over ``labels``.

    Args:
        labels: of the logits.
        config: backbone, weights and head.
        information: for heads that want label graph or embeddings; over ``labels`` or more.

    Raises:
        DataError: a label is not among those of ``information``.
        ModelError: the backbone, its weights, the head or the normalization cannot be had.
    """
    if config.head not in HEADS:
        raise ModelError(f"There is no head '{config.head}'.{did_you_mean(config.head, HEADS)}")
    if information is None:
        information = LabelInformation(labels, embedding_width=config.label_embedding_width)
    backbone = build_backbone(
        config.backbone,
        weights=config.weights,
        non_commercial=config.non_commercial_weights,
    )
    learns_from_file = (
        config.weights not in (FROM_TIMM, NO_WEIGHTS) and not config.freeze_batch_norm
    )
    if learns_from_file and _has_no_statistics(backbone):
        _warn_of_folded_batch_norm(config.weights)
    return Classifier(
        backbone,
        HEADS[config.head](backbone.num_features, information.restricted_to(labels), config),
        normalization=_normalization(config.normalization, backbone),
        frozen_batch_norm=config.freeze_batch_norm,
    )


def _has_no_statistics(backbone: nn.Module) -> bool:
    """Return whether its batch norm has the mean 0 and the variance 1 everywhere."""
    norms = [layer for layer in backbone.modules() if isinstance(layer, _BatchNorm)]
    tensors = [(norm.running_mean, norm.running_var) for norm in norms if norm.track_running_stats]
    return bool(tensors) and all(
        mean is not None and var is not None and not mean.any() and bool((var == 1).all())
        for mean, var in tensors
    )


@cache  # a run makes a dozen networks of the same file
def _warn_of_folded_batch_norm(weights: str) -> None:
    logger.warning(
        "%s has no statistics of batch norm, as where that was folded into weights. Trained so, "
        "networks forget what they were pretrained for, and may answer the same to every picture; "
        "take --model.freeze_batch_norm true with this file.",
        weights,
    )


def model_factory(config: ModelConfig, information: LabelInformation | None = None) -> MakeModel:
    """Return what makes the predictors of a run: the configured classifier, or the user's own.

    Args:
        config: of the network.
        information: what heads may know of all labels of the run; each predictor gets what is
            about its own.

    Raises:
        ModelError: ``config.factory`` is not ``package.module:function``, or cannot be imported.
    """
    if config.factory is None:
        return partial(build_classifier, config=config, information=information)
    return partial(_call_factory, _imported(config.factory), config.factory)


def make_seeded(make_model: MakeModel, labels: LabelSpace, *, seed: int) -> nn.Module:
    """Return ``make_model(labels)`` with initial weights that depend on ``seed`` alone.

    Torch's generators are left as they were.

    Raises:
        ModelError: ``make_model`` returns something other than a module, or raises it itself.
    """
    # CUDA is left asleep where nothing has woken it: its generator is then of no consequence.
    on_cuda = torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
    with torch.random.fork_rng(range(torch.cuda.device_count()) if on_cuda else []):
        torch.default_generator.manual_seed(seed)
        if on_cuda:
            torch.cuda.manual_seed_all(seed)
        return _checked(make_model(labels), "make_model")


def _normalization(name: str, backbone: Backbone) -> nn.Module:
    choices: dict[str, Callable[[], nn.Module]] = {
        "backbone": lambda: Normalization(backbone.mean, backbone.std),
        "symmetric": lambda: Normalization((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
        "none": nn.Identity,
    }
    if name not in choices:
        raise ModelError(f"There is no normalization '{name}'.{did_you_mean(name, choices)}")
    return choices[name]()


def _imported(factory: str) -> MakeModel:
    module_name, _, function_name = factory.partition(":")
    if not module_name or module_name.startswith(".") or not function_name:
        raise ModelError(f"model.factory is '{factory}'; it must be 'package.module:function'.")
    try:
        module = importlib.import_module(module_name)
    except ImportError as error:
        raise ModelError(
            f"model.factory '{factory}' cannot be imported ({error}): install the package, or put "
            "its folder on PYTHONPATH."
        ) from error
    function = getattr(module, function_name, None)
    if not callable(function):
        raise ModelError(
            f"model.factory '{factory}': the module {module_name} has no function "
            f"'{function_name}'.{did_you_mean(function_name, vars(module))}"
        )
    return cast(MakeModel, function)


def _call_factory(function: MakeModel, name: str, labels: LabelSpace) -> nn.Module:
    try:
        model = function(labels)
    except UserError:
        raise
    # The user's own code may fail in any way; what it said is what helps.
    except Exception as error:
        raise ModelError(
            f"model.factory '{name}' failed for {len(labels)} labels "
            f"({type(error).__name__}: {error}); --debug shows where."
        ) from error
    return _checked(model, f"model.factory '{name}'")


def _checked(model: object, source: str) -> nn.Module:
    if not isinstance(model, nn.Module):
        raise ModelError(
            f"{source} returned {type(model).__name__}; it must return a torch.nn.Module."
        )
    return model
