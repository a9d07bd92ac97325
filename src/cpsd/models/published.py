"""The published checkpoints: five architectures, and where each of their tensors belongs.

Keys and shapes are those that the published scripts of CPSD (Xu et al., IJCAI 2022) save; they
take pictures in [0, 1] without mean and std normalization. Shapes: C labels, D features.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from cpsd.errors import ModelError
from cpsd.labels import LabelSpace
from cpsd.model_config import HeadName, ModelConfig
from cpsd.models.backbones import NO_WEIGHTS
from cpsd.models.classifier import Classifier, build_classifier

_ABN_EPSILON = 1e-5
_COUNTER = "num_batches_tracked"
_LEAST_LIKENESS = 0.5
"""Share of common keys from which a file is said to look like an architecture's."""

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Reading:
    """How one of our tensors is read from a published one.

    Args:
        published_shape: from our shape.
        read: the published tensor as ours.
    """

    published_shape: Callable[[Shape], Shape]
    read: Callable[[Tensor], Tensor]


def _third(index: int) -> Reading:
    """Queries, keys and values are projected by the rows of one matrix, in that order."""
    return Reading(lambda shape: (3 * shape[0], *shape[1:]), lambda tensor: tensor.chunk(3)[index])


_AS_IT_IS = Reading(lambda shape: shape, lambda tensor: tensor)
_ONE_BY_ONE = Reading(lambda shape: (*shape, 1, 1), lambda tensor: tensor.flatten(1))
_IN_A_BATCH = Reading(lambda shape: (1, *shape), lambda tensor: tensor[0])
# In-place activated batch norm scales by the weight's magnitude, kept off zero.
_MAGNITUDE = Reading(lambda shape: shape, lambda tensor: tensor.float().abs() + _ABN_EPSILON)

Rule = tuple[str, str, Reading]
"""Pattern of our key, template of the published one, and how it is read."""


@dataclass(frozen=True)
class Architecture:
    """One of the published systems.

    Args:
        config: the network, without label embeddings.
        rules: where our tensors come from; the first that matches counts. What none matches the
            file does not hold.
        labels_from: the published key and the axis that tell how many labels there are, if any do.
        ignored: published keys that are computed anew, with the shape they must have (None where a
            length depends on the picture).
        starts_from: what timm calls the weights that its backbone was fine-tuned from, where their
            licence restricts what becomes of them.
    """

    config: ModelConfig
    rules: tuple[Rule, ...]
    labels_from: tuple[str, int] | None
    ignored: Mapping[str, tuple[int | None, ...]] = field(default_factory=dict)
    starts_from: str | None = None

    @property
    def takes_label_embeddings(self) -> bool:
        """Whether label embeddings come from a file of their own."""
        return self.config.head == "transformer"


@dataclass(frozen=True)
class _Origin:
    """The published tensor that one of ours comes from."""

    key: str
    shape: Shape
    read: Callable[[Tensor], Tensor]


def _projections(own: str, published: str) -> tuple[Rule, ...]:
    return tuple(
        (rf"head\.{own}\.{name}\.(weight|bias)", published, _third(index))
        for index, name in enumerate(("query", "key", "value"))
    )


_RESNET_RULES: tuple[Rule, ...] = (
    (r"backbone\.network\.conv1\.(.+)", r"features.0.\1", _AS_IT_IS),
    (r"backbone\.network\.bn1\.(.+)", r"features.1.\1", _AS_IT_IS),
    *(
        (rf"backbone\.network\.layer{stage}\.(.+)", rf"features.{stage + 3}.\1", _AS_IT_IS)
        for stage in range(1, 5)
    ),
)
_LINEAR_RULES: tuple[Rule, ...] = (*_RESNET_RULES, (r"head\.linear\.", "classify.", _AS_IT_IS))
_TRANSFORMER_RULES: tuple[Rule, ...] = (
    *_RESNET_RULES,
    (r"head\.image_projection\.", "fc.0.", _AS_IT_IS),
    (r"head\.label_projection\.0\.", "label_emb.0.", _AS_IT_IS),
    *_projections(r"layers\.(\d+)\.attention", r"transformer.layers.\1.0.fn.fn.to_qkv.\2"),
    *(
        (rf"head\.layers\.(\d+)\.{own}\.", rf"transformer.layers.\1.{published}.", _AS_IT_IS)
        for own, published in (
            (r"attention_norm", "0.fn.norm"),
            (r"attention\.output", "0.fn.fn.to_out.0"),
            (r"feedforward\.0", "1.fn.norm"),
            (r"feedforward\.1", "1.fn.fn.net.0"),
            (r"feedforward\.4", "1.fn.fn.net.3"),
        )
    ),
    (r"head\.classifier\.", "classify.0.", _AS_IT_IS),
)
_QUERY_RULES: tuple[Rule, ...] = (
    (r"backbone\.network\.", "backbone.0.body.", _AS_IT_IS),
    (r"head\.image_projection\.weight", "input_proj.weight", _ONE_BY_ONE),
    (r"head\.image_projection\.bias", "input_proj.bias", _AS_IT_IS),
    (r"head\.queries\.values", "query_embed.weight", _AS_IT_IS),
    *_projections(
        r"encoder\.(\d+)\.attention", r"transformer.encoder.layers.\1.self_attn.in_proj_\2"
    ),
    *_projections(
        r"decoder\.(\d+)\.attention", r"transformer.decoder.layers.\1.multihead_attn.in_proj_\2"
    ),
    *(
        (
            rf"head\.{stack}\.(\d+)\.{own}\.",
            rf"transformer.{stack}.layers.\1.{published}.",
            _AS_IT_IS,
        )
        for stack, own, published in (
            ("encoder", r"attention\.output", "self_attn.out_proj"),
            ("encoder", r"attention_norm", "norm1"),
            ("encoder", r"feedforward\.0", "linear1"),
            ("encoder", r"feedforward\.3", "linear2"),
            ("encoder", r"feedforward_norm", "norm2"),
            ("decoder", r"attention\.output", "multihead_attn.out_proj"),
            ("decoder", r"attention_norm", "norm2"),
            ("decoder", r"feedforward\.0", "linear1"),
            ("decoder", r"feedforward\.3", "linear2"),
            ("decoder", r"feedforward_norm", "norm3"),
        )
    ),
    (r"head\.norm\.", "transformer.decoder.norm.", _AS_IT_IS),
    (r"head\.classifier\.weight", "fc.W", _IN_A_BATCH),
    (r"head\.classifier\.bias", "fc.b", _IN_A_BATCH),
)
# Where a stage halves the picture, blurring wraps the convolution once more.
_TRESNET_BLURRED = r"backbone\.network\.(body\.(?:layer2\.0\.conv1|layer[34]\.0\.conv2))"
_TRESNET_RULES: tuple[Rule, ...] = (
    (rf"{_TRESNET_BLURRED}\.conv\.", r"\1.0.0.", _AS_IT_IS),
    (rf"{_TRESNET_BLURRED}\.bn\.weight", r"\1.0.1.weight", _MAGNITUDE),
    (rf"{_TRESNET_BLURRED}\.bn\.", r"\1.0.1.", _AS_IT_IS),
    (r"backbone\.network\.(.+)\.conv\.", r"\1.0.", _AS_IT_IS),
    (r"backbone\.network\.(.+)\.bn\.weight", r"\1.1.weight", _MAGNITUDE),
    (r"backbone\.network\.(.+)\.bn\.", r"\1.1.", _AS_IT_IS),
    (r"backbone\.network\.", "", _AS_IT_IS),
    (r"head\.linear\.", "head.fc.", _AS_IT_IS),
)


def _network(backbone: str, head: HeadName = "linear", *, frozen: bool = False) -> ModelConfig:
    return ModelConfig(
        backbone=backbone,
        weights=NO_WEIGHTS,
        head=head,
        normalization="none",
        freeze_batch_norm=frozen,
    )


ARCHITECTURES: dict[str, Architecture] = {
    "resnet101": Architecture(_network("resnet101"), _LINEAR_RULES, ("classify.weight", 0)),
    "resnet101-tf": Architecture(_network("resnet101", "transformer"), _TRANSFORMER_RULES, None),
    "q2l-resnet101": Architecture(
        _network("resnet101", "query", frozen=True),
        _QUERY_RULES,
        ("fc.W", 1),
        # Sine positions of the grid that the network was built for.
        ignored={"backbone.1.pe": (1, 2048, None, None)},
    ),
    "tresnet-l": Architecture(_network("tresnet_l"), _TRESNET_RULES, ("head.fc.weight", 0)),
    "resnext50-swsl": Architecture(
        _network("resnext50_32x4d"),
        _LINEAR_RULES,
        ("classify.weight", 0),
        starts_from="resnext50_32x4d.fb_swsl_ig1b_ft_in1k",
    ),
}
"""The published systems by the name that ``--arch`` takes."""


def convert(
    state: Mapping[str, Tensor], name: str, network: Classifier, *, origin: str
) -> dict[str, Tensor]:
    """Return the tensors of a published checkpoint under the keys of ``network``.

    What the file does not hold, such as label embeddings, is as ``network`` has it.

    Args:
        state: published keys, without ``module.`` before them.
        name: of the architecture.
        network: built from the architecture's configuration, over the labels of the file.
        origin: where the tensors come from, for messages.

    Raises:
        ModelError: a key is missing or not expected, or a tensor has another shape or no finite
            numbers; the message says which, and which architecture would fit.
    """
    architecture = ARCHITECTURES[name]
    own = network.state_dict()
    origins = _origins(architecture, own)
    problem = _problem(state, architecture, list(origins.values()))
    if problem:
        raise ModelError(f"{origin} does not fit --arch {name}: {problem}.{_hint(state, name)}")
    found = {
        key: source.read(state[source.key])
        for key, source in origins.items()
        if source.key in state
    }
    return {**own, **found}


def _origins(architecture: Architecture, own: Mapping[str, Tensor]) -> dict[str, _Origin]:
    """Return by our key the published tensor it comes from."""
    origins = {}
    for key, tensor in own.items():
        for pattern, template, reading in architecture.rules:
            match = re.match(pattern, key)
            if match:
                published = match.expand(template) + key[match.end() :]
                shape = reading.published_shape(tuple(tensor.shape))
                origins[key] = _Origin(published, shape, reading.read)
                break
    return origins


def _problem(
    state: Mapping[str, Tensor], architecture: Architecture, origins: list[_Origin]
) -> str:
    """Return what does not fit as the end of a sentence, nothing where all does."""
    needed = {origin.key: origin.shape for origin in origins}
    # Batch norm's counters matter to no result; frozen and in-place batch norm have none.
    missing = [key for key in needed if key not in state and not key.endswith(_COUNTER)]
    if missing:
        return f"it has no {_some(missing)}"
    for key, shape in needed.items():
        if key in state and tuple(state[key].shape) != shape:
            return _shape_problem(architecture, key, tuple(state[key].shape), shape)
        if key in state and not key.endswith(_COUNTER):
            if not state[key].is_floating_point():
                return f"'{key}' holds {state[key].dtype}, not floating-point numbers"
            if not state[key].isfinite().all():
                return f"'{key}' holds numbers that are not finite, as of a training gone astray"
    for key, ignored in architecture.ignored.items():
        found = tuple(state[key].shape) if key in state else ignored
        pairs = zip(found, ignored, strict=False)
        if len(found) != len(ignored) or any(needed not in (None, n) for n, needed in pairs):
            wanted = ", ".join("any" if length is None else str(length) for length in ignored)
            return f"'{key}' has shape {found}, needed is ({wanted})"
    unknown = [key for key in state if key not in needed and key not in architecture.ignored]
    unknown = [key for key in unknown if not key.endswith(_COUNTER)]
    return f"it has {_some(unknown)}, for which there is no place" if unknown else ""


def _shape_problem(architecture: Architecture, key: str, found: Shape, needed: Shape) -> str:
    told, axis = architecture.labels_from or ("", 0)
    elsewhere = found[:axis] + found[axis + 1 :]
    if key == told and elsewhere == needed[:axis] + needed[axis + 1 :]:
        return f"it is for {found[axis]} labels ('{key}' has shape {found}), not {needed[axis]}"
    return f"'{key}' has shape {found}, needed is {needed}"


def _hint(state: Mapping[str, Tensor], name: str) -> str:
    """Return which other architecture the file looks like, if it does."""
    likeness = {other: _likeness(state, ARCHITECTURES[other]) for other in ARCHITECTURES}
    best = max(likeness, key=lambda other: (likeness[other], other == name))
    if likeness[best] < _LEAST_LIKENESS:
        return (
            " These are the keys of none of the published checkpoints, whose names begin with "
            "'features.', 'backbone.0.body.' or 'body.'; weights with timm's keys are for "
            "--model.weights."
        )
    return "" if best == name else f" These look like {best}'s keys: --arch {best}"


def _likeness(state: Mapping[str, Tensor], architecture: Architecture) -> float:
    """Return what share of the keys, with their shapes, file and architecture have in common."""
    # Shapes that depend on the number of labels are few: whatever label there is will do.
    with torch.device("meta"):
        network = build_classifier(LabelSpace(("any",)), architecture.config)
    origins = _origins(architecture, network.state_dict()).values()
    own = {(origin.key, origin.shape) for origin in origins if not origin.key.endswith(_COUNTER)}
    found = {
        (key, tuple(tensor.shape))
        for key, tensor in state.items()
        if not key.endswith(_COUNTER) and key not in architecture.ignored
    }
    return len(own & found) / len(own | found)


def _some(keys: list[str]) -> str:
    """Return the first keys in quotation marks, and how many more there are."""
    shown = ", ".join(f"'{key}'" for key in keys[:3])
    return shown if len(keys) <= 3 else f"{shown} and {len(keys) - 3} more"
