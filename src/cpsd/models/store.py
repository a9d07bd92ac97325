"""Saved models: a folder with the weights and a card that says what they are.

    FOLDER/
      model.safetensors     every parameter and buffer
      model.json            the ModelCard; written last, so a folder without it is not finished

Both are untrusted input: nothing in them is run, downloaded or imported.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from importlib.metadata import version
from pathlib import Path
from typing import Any, cast

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from cpsd.config import ModelConfig
from cpsd.errors import DataError, ModelError, did_you_mean
from cpsd.files import write_json, written_whole
from cpsd.labels import LabelSpace
from cpsd.models.backbones import NO_WEIGHTS
from cpsd.models.classifier import MakeModel, make_seeded, model_factory
from cpsd.models.ensemble import TeacherEnsemble, describe_part
from cpsd.models.weights import load_weights, read_weights
from cpsd.partition import LabelPartition

WEIGHTS_FILE = "model.safetensors"
CARD_FILE = "model.json"
FORMAT_VERSION = 1


@dataclass(frozen=True)
class PartCard:
    """Which part of which partition a sub-task teacher was trained for.

    Args:
        strategy: of the partition.
        index: of the part in it.
        partition_hash: of the partition.
    """

    strategy: str
    index: int
    partition_hash: str


@dataclass(frozen=True)
class ModelCard:
    """What a saved model is and what predicting with it takes.

    Args:
        labels: names of its logits, in order.
        model: its ``ModelConfig`` as a plain dict.
        image: its ``ImageConfig`` as a plain dict.
        part: for a sub-task teacher, its part.
        training: how it came about, such as epoch, raw or EMA weights, validation score.
        cpsd_version: of the package that saved it.
        format_version: of the folder's layout.
    """

    labels: tuple[str, ...]
    model: dict[str, Any]
    image: dict[str, Any]
    part: PartCard | None = None
    training: dict[str, Any] = field(default_factory=dict)
    cpsd_version: str = field(default_factory=lambda: version("cpsd"))
    format_version: int = FORMAT_VERSION


def save_model(folder: Path, module: nn.Module, card: ModelCard) -> None:
    """Write ``module`` and ``card`` into ``folder``; a model that stands there is replaced.

    Raises:
        ModelError: the module's state holds something other than tensors.
        RunError: the disk is full or the folder cannot be written to.
    """
    state = _contiguous_state(module)
    # Without its card the old model counts as unfinished, so old card and new weights never pair.
    (folder / CARD_FILE).unlink(missing_ok=True)
    with written_whole(folder / WEIGHTS_FILE) as temporary:
        save_file(state, temporary)
    write_json(folder / CARD_FILE, asdict(card))


def load_model(folder: Path, *, make_model: MakeModel | None = None) -> tuple[nn.Module, ModelCard]:
    """Return the predictor saved in ``folder``, in evaluation mode on the CPU, and its card.

    Args:
        folder: what ``save_model`` wrote.
        make_model: builds the network that the weights go into. Needed where the model came from a
            user's own factory: a card may name one, but naming it never imports it.

    Raises:
        ModelError: the folder, card or weights are missing, damaged, of an unknown format, or do
            not fit each other.
    """
    card = read_card(folder)
    # Every weight is overwritten, so any seed will do; it keeps off the global generator.
    try:
        make_model = make_model or _rebuilder(card)
        module = make_seeded(make_model, LabelSpace(card.labels), seed=0)
    except ModelError as error:
        raise ModelError(f"{folder / CARD_FILE}: {error}") from error
    path = folder / WEIGHTS_FILE
    load_weights(module, read_weights(path), origin=str(path))
    return module.eval(), card


def load_ensemble(
    folder: Path, partition: LabelPartition, *, make_model: MakeModel | None = None
) -> TeacherEnsemble:
    """Return the teacher ensemble of ``partition`` from ``folder/<part>/``, in evaluation mode.

    Args:
        folder: a subfolder a teacher, named by the number of its part.
        partition: what the teachers were trained for.
        make_model: as for ``load_model``.

    Raises:
        ModelError: a part has no teacher or two, or a teacher's part, labels or partition differ.
    """
    if not folder.is_dir():
        raise ModelError(f"There is no folder {folder} with {partition.strategy} teachers.")
    places: dict[int, Path] = {}
    for card_file in sorted(folder.glob(f"*/{CARD_FILE}")):
        place = card_file.parent
        part = _part_of(place, partition)
        if part in places:
            raise ModelError(
                f"{places[part]} and {place} both hold the teacher of "
                f"{describe_part(partition, part)}: remove one."
            )
        places[part] = place
    for part in range(partition.num_parts):
        place = folder / str(part)
        if part not in places:
            raise ModelError(
                f"The teacher of {describe_part(partition, part)} is missing: there is no finished "
                f"model in {place}."
            )
        if places[part] != place:
            raise ModelError(
                f"{places[part]} holds the teacher of {describe_part(partition, part)}, which "
                f"belongs into {place}."
            )
    teachers = [
        load_model(places[part], make_model=make_model)[0] for part in range(partition.num_parts)
    ]
    return TeacherEnsemble(partition, teachers).eval()


def read_card(folder: Path) -> ModelCard:
    """Return the card of the model in ``folder``.

    Raises:
        ModelError: there is no finished model, or the card is damaged or of an unknown format.
    """
    path = folder / CARD_FILE
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ModelError(f"There is no finished model in {folder}: {path} is missing.") from error
    # Deep nesting is a RecursionError; bad JSON and bad UTF-8 are ValueErrors.
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(f"{path} cannot be read as JSON ({error}).") from error
    if not isinstance(content, dict):
        raise ModelError(f"{path} is no model card: it holds {type(content).__name__}.")
    found = content.get("format_version")
    if found != FORMAT_VERSION:
        raise ModelError(
            f"{path} has format_version {found!r}; this version of cpsd reads {FORMAT_VERSION}. "
            "Update cpsd, or save the model again."
        )
    kinds = {"labels": list, "model": dict, "image": dict, "training": dict, "cpsd_version": str}
    for key, kind in kinds.items():
        _require_kind(content, key, kind, path)
    try:
        labels = LabelSpace(tuple(_each(str, content["labels"], "labels", path)))
    except DataError as error:
        raise ModelError(f"{path}: {error}") from error
    part = None if content.get("part") is None else _read_part(content["part"], path)
    known = {key: content[key] for key in kinds if key != "labels"}
    return ModelCard(labels=labels.names, part=part, **known)


def _read_part(content: object, path: Path) -> PartCard:
    if not isinstance(content, dict):
        raise ModelError(f"{path}: 'part' holds {type(content).__name__}, not an object.")
    for key, kind in {"strategy": str, "index": int, "partition_hash": str}.items():
        _require_kind(content, key, kind, path)
    return PartCard(content["strategy"], content["index"], content["partition_hash"])


def _require_kind(content: Mapping[str, Any], key: str, kind: type, path: Path) -> None:
    if not isinstance(content.get(key), kind):
        found = type(content[key]).__name__ if key in content else "nothing"
        raise ModelError(f"{path}: '{key}' must hold {kind.__name__}, found {found}.")


def _each(kind: type[str], values: list[object], key: str, path: Path) -> list[str]:
    for value in values:
        if not isinstance(value, kind):
            raise ModelError(f"{path}: '{key}' holds {value!r}, which is no name.")
    return cast(list[str], values)


def _rebuilder(card: ModelCard) -> MakeModel:
    """Return what builds the network of ``card`` without weights and without importing anything."""
    if card.model.get("factory") is not None:
        raise ModelError(
            f"the model was made by the user's own '{card.model['factory']}', which loading does "
            "not import by itself: pass make_model, or --factory package.module:function."
        )
    kinds = {entry.name: type(entry.default) for entry in fields(ModelConfig)}
    for key, value in card.model.items():
        if key not in kinds:
            raise ModelError(f"'model' has no setting '{key}'.{did_you_mean(key, kinds)}")
        if type(value) is not kinds[key]:
            raise ModelError(f"model.{key} is {value!r}, not a {kinds[key].__name__}.")
    # The weights file holds everything, so nothing is downloaded or read from elsewhere.
    return model_factory(ModelConfig(**{**card.model, "weights": NO_WEIGHTS, "factory": None}))


def _part_of(place: Path, partition: LabelPartition) -> int:
    """Return the part that the teacher in ``place`` is for.

    Raises:
        ModelError: it is no teacher of ``partition``.
    """
    card = read_card(place)
    if card.part is None:
        raise ModelError(f"{place} holds a predictor over all labels, not a sub-task teacher.")
    part = card.part.index
    if card.part.partition_hash != partition.hash or not 0 <= part < partition.num_parts:
        raise ModelError(
            f"{place} holds the teacher of part {part} of another {card.part.strategy} partition "
            f"({card.part.partition_hash[:12]}, needed: {partition.strategy} "
            f"{partition.hash[:12]}): train it again."
        )
    expected = partition.part_labels(part).names
    if card.labels != expected:
        raise ModelError(
            f"{place} names the labels {', '.join(card.labels)}, but "
            f"{describe_part(partition, part)} has {', '.join(expected)}: train it again."
        )
    return part


def _contiguous_state(module: nn.Module) -> dict[str, Tensor]:
    """Return the state on the CPU, each tensor in memory of its own, as safetensors needs it."""
    state = {}
    for key, value in module.state_dict().items():
        if not isinstance(value, Tensor):
            raise ModelError(
                f"The model cannot be saved: its state '{key}' is {type(value).__name__}, not a "
                "tensor; register it as a buffer."
            )
        state[key] = value.detach().to("cpu", copy=True, memory_format=torch.contiguous_format)
    return state
