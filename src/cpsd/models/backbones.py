"""Backbones: any timm model by name, as images (B, 3, H, W) to one feature map (B, D, H', W')."""

import functools
import inspect
import logging
import math
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import huggingface_hub
import timm
import torch
from torch import Tensor, nn

from cpsd.errors import ModelError, did_you_mean
from cpsd.models.weights import load_weights, read_weights

logger = logging.getLogger(__name__)

FROM_TIMM = "timm"
NO_WEIGHTS = "none"
NON_COMMERCIAL = re.compile(r"\bnc\b|non-?commercial|^apple-amlr$|^seer-license$", re.IGNORECASE)
"""Licences that forbid commercial use, as timm names them: Creative Commons' marked NC, those that
say it, and two that say it only in their text."""

_PATIENCE = 10
"""Seconds in which the hub has to answer."""


class Backbone(nn.Module):
    """A timm network whose features are always a map ``(B, D, H', W')``.

    Maps of convolutional networks pass through, channels-last maps (Swin) are permuted, and token
    sequences (ViT) lose their prefix tokens and are laid out on their grid.

    Args:
        network: a timm model with ``forward_features``, its classifier removed.
        name: its timm name, for messages.
        fixed_size: the only height and width it takes, or None where it takes any.

    Attributes:
        num_features: D.
        mean: of each colour channel, as the pretrained weights expect them; pixels in [0, 1].
        std: of each colour channel, likewise.
    """

    def __init__(
        self, network: nn.Module, *, name: str, fixed_size: tuple[int, int] | None
    ) -> None:
        super().__init__()
        # timm's attributes are untyped to mypy: nn.Module answers any name with Tensor | Module.
        settings = cast(Any, network)
        self.network = network
        self.name = name
        self.fixed_size = fixed_size
        self.num_features: int = settings.num_features
        self.mean: tuple[float, float, float] = tuple(settings.pretrained_cfg["mean"])
        self.std: tuple[float, float, float] = tuple(settings.pretrained_cfg["std"])
        self._channels_last = getattr(network, "output_fmt", None) == "NHWC"
        self._reduction = _reduction(network)

    def forward(self, images_B3HW: Tensor) -> Tensor:
        """Return the feature map ``(B, D, H', W')``.

        Raises:
            ModelError: the network does not take pictures of this size, or has no feature map.
        """
        height, width = images_B3HW.shape[-2:]
        if self.fixed_size is not None and self.fixed_size != (height, width):
            raise ModelError(
                f"The backbone '{self.name}' takes pictures of {self.fixed_size[0]} x "
                f"{self.fixed_size[1]} pixels only, not {height} x {width}: set image.size "
                "accordingly or choose another backbone."
            )
        try:
            features = cast(Any, self.network).forward_features(images_B3HW)
        except AssertionError as error:
            # timm asserts what sizes a network takes, such as multiples of the patch size.
            reason = f" ({error})" if str(error) else ""
            raise ModelError(
                f"The backbone '{self.name}' does not take pictures of {height} x {width} pixels"
                f"{reason}: choose another image.size."
            ) from error
        return self._as_map(features, height, width)

    def _as_map(self, features: object, height: int, width: int) -> Tensor:
        if isinstance(features, Tensor) and features.ndim == 4:
            return features.permute(0, 3, 1, 2) if self._channels_last else features
        if isinstance(features, Tensor) and features.ndim == 3 and self._reduction is not None:
            grid = (math.ceil(height / self._reduction), math.ceil(width / self._reduction))
            # Class, distillation and register tokens come before those of the picture.
            num_prefix = features.shape[1] - grid[0] * grid[1]
            if num_prefix >= 0:
                features_BDN = features[:, num_prefix:].transpose(1, 2)
                return features_BDN.reshape(*features_BDN.shape[:2], *grid)
        raise ModelError(
            f"The backbone '{self.name}' gives no feature map that could be pooled: choose another."
        )


def build_backbone(
    name: str, *, weights: str = FROM_TIMM, non_commercial: bool = False
) -> Backbone:
    """Return the timm model ``name`` as a feature extractor.

    Its initial weights are drawn from torch's generator where ``weights`` does not give them.

    Args:
        name: any name of ``timm.list_models()``, with or without a tag (``resnet50.a1_in1k``).
        weights: ``timm`` (pretrained, downloaded by timm), ``none``, or a ``.safetensors``,
            ``.pth`` or ``.pt`` file with timm's keys; its classifier is left out.
        non_commercial: take weights from timm even if their licence forbids commercial use.

    Raises:
        ModelError: timm has no such model or no weights for it, their licence is not allowed, the
            download failed, or the file cannot be read or does not fit.
    """
    _check_name(name)
    if weights == FROM_TIMM:
        network = _create_pretrained(name, non_commercial=non_commercial)
    else:
        network = _create(name)
    settings = cast(Any, network).pretrained_cfg
    classifiers = _remove_classifier(network, settings.get("classifier"))
    if weights not in (FROM_TIMM, NO_WEIGHTS):
        path = Path(weights)
        if not path.suffix and not path.exists():
            raise ModelError(
                f"model.weights is '{weights}'; it must be '{FROM_TIMM}', '{NO_WEIGHTS}' or a file."
            )
        state = read_weights(path)
        features = {k: v for k, v in state.items() if k.split(".")[0] not in classifiers}
        load_weights(network, features, origin=f"{path} as weights of '{name}'")
    fixed = settings.get("fixed_input_size") and not _takes_any_size(_architecture(name))
    size = tuple(settings["input_size"][-2:]) if fixed else None
    return Backbone(network, name=name, fixed_size=size)


def blank_network(name: str) -> nn.Module:
    """Return the timm model ``name`` without memory for its weights (on the meta device).

    Raises:
        ModelError: timm has no such model.
    """
    _check_name(name)
    with torch.device("meta"):
        return timm.create_model(name, pretrained=False, num_classes=0)


def _check_name(name: str) -> None:
    # Names with a source ('hf-hub:', 'local-dir:') are no models of timm's list either: a model
    # card is read from untrusted files and must never start a download.
    architecture = _architecture(name)
    architectures = timm.list_models()
    if architecture not in architectures:
        raise ModelError(
            f"timm has no model '{name}'.{did_you_mean(architecture, architectures)} "
            "All names are in timm.list_models()."
        )
    tagged = timm.list_models(architecture, include_tags=True)
    if name != architecture and name not in tagged:
        raise ModelError(f"timm has no model '{name}'.{did_you_mean(name, tagged)}")


def _architecture(name: str) -> str:
    """Return ``name`` without its tag."""
    return name.split(".", 1)[0]


def _create(name: str, *, pretrained: bool = False) -> nn.Module:
    if _takes_any_size(_architecture(name)):
        return timm.create_model(name, pretrained=pretrained, num_classes=0, dynamic_img_size=True)
    return timm.create_model(name, pretrained=pretrained, num_classes=0)


def _create_pretrained(name: str, *, non_commercial: bool) -> nn.Module:
    remedy = (
        "Give a local file with --model.weights FILE (.safetensors or .pth), "
        f"or start without with --model.weights {NO_WEIGHTS}."
    )
    if not timm.is_model_pretrained(name):
        raise ModelError(f"timm has no pretrained weights for '{name}'. {remedy}")
    pretrained = timm.get_pretrained_cfg(name)
    licence = (pretrained.license if pretrained else None) or "not stated"
    if not non_commercial and NON_COMMERCIAL.search(licence):
        raise ModelError(
            f"The licence of timm's weights of '{name}' is {licence}, which forbids commercial "
            "use. If yours is not commercial, say so with --model.non_commercial_weights true."
        )
    with _reachable_hub_or_cache() as reason:
        try:
            network = _create(name, pretrained=True)
        # The download goes through timm, huggingface_hub and an HTTP client, whose errors have no
        # common root; whatever it was is kept as the cause.
        except Exception as error:
            raise ModelError(
                f"timm could not get the weights of '{name}'{reason}. {remedy}"
            ) from error
    settings = cast(Any, network).pretrained_cfg
    logger.info(
        "weights of %s.%s from timm, licence: %s",
        settings["architecture"],
        settings.get("tag"),
        licence,
    )
    return network


@contextmanager
def _reachable_hub_or_cache() -> Iterator[str]:
    """Let the hub answer from its cache alone in the block if it cannot be reached.

    Its client would try each file six times, and print every one, before it gave up. Yields the end
    of a sentence that says so, nothing where the hub can be reached.
    """
    settings = huggingface_hub.constants
    try:
        huggingface_hub.get_session().head(settings.ENDPOINT, timeout=_PATIENCE)
    # The client's errors are another library's from one version to the next.
    except Exception:
        before, settings.HF_HUB_OFFLINE = settings.HF_HUB_OFFLINE, True
        try:
            yield f": {settings.ENDPOINT} cannot be reached"
        finally:
            settings.HF_HUB_OFFLINE = before
    else:
        yield ""


@functools.cache
def _takes_any_size(architecture: str) -> bool:
    """Return whether the network can interpolate its positions to the picture at hand.

    timm tells by the signature of the network's class, which only a network knows; one without
    memory (on the meta device) is enough. Most networks have no fixed size and need no asking.
    """
    settings = timm.get_pretrained_cfg(architecture)
    if settings is None or not settings.fixed_input_size:
        return False
    with torch.device("meta"):
        network = timm.create_model(architecture, pretrained=False, num_classes=0)
    for kind in type(network).__mro__:
        parameters = inspect.signature(kind).parameters.values()
        if any(parameter.name == "dynamic_img_size" for parameter in parameters):
            return True
        if not any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
            return False  # it hands nothing on that it does not name
    return False


def _remove_classifier(network: nn.Module, classifier: str | Sequence[str] | None) -> set[str]:
    """Take timm's head off, so that no parameter is left unused; return the names of its modules.

    timm names the last layer (``head.fc``); what lies beside it in the same module (``head.norm``)
    belongs to the head too and is never reached by ``forward_features``.
    """
    layers = (classifier,) if isinstance(classifier, str) else tuple(classifier or ())
    names = {layer.split(".")[0] for layer in layers}
    for name in names:
        setattr(network, name, nn.Identity())
    return names


def _reduction(network: nn.Module) -> int | None:
    """Return how many pixels a side one place of the last feature map stands for."""
    stages = getattr(network, "feature_info", None)
    return stages[-1]["reduction"] if isinstance(stages, list) and stages else None
