"""Saved models: a folder with the weights and a card that says what they are.

    FOLDER/
      model.safetensors     every parameter and buffer
      model.json            the ModelCard; written last, so a folder without it is not finished

Both are untrusted input: nothing in them is run, downloaded or imported.
"""

from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import torch
from scipy import sparse
from torch import Tensor, nn

from cpsd.errors import ConfigError, ModelError
from cpsd.files import write_json, written_whole
from cpsd.graph import LabelGraph
from cpsd.labels import LabelSpace
from cpsd.model_config import ModelConfig
from cpsd.models.backbones import NO_WEIGHTS
from cpsd.models.card import CARD_FILE, ModelCard, read_card, settings_of
from cpsd.models.classifier import MakeModel, make_seeded, model_factory
from cpsd.models.ensemble import TeacherEnsemble, describe_part
from cpsd.models.label_information import LabelInformation
from cpsd.models.trunk import share_trunk
from cpsd.models.weights import load_weights, read_weights, require_fit, write_weights
from cpsd.partition import LabelPartition

WEIGHTS_FILE = "model.safetensors"


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
        write_weights(temporary, state)
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
    card, path = read_card(folder), folder / WEIGHTS_FILE
    state: dict[str, Tensor] | None = None
    if make_model is None:
        # A card may ask for a network of any size: one without memory is held against the weights
        # that there are before any takes memory.
        with torch.device("meta"):
            own = _built(card, folder, None).state_dict()
        state = read_weights(path)
        require_fit(own, state, origin=str(path))
    module = _built(card, folder, make_model)
    load_weights(module, state or read_weights(path), origin=str(path))
    return module.eval(), card


def load_ensemble(
    folder: Path, partition: LabelPartition, *, make_model: MakeModel | None = None
) -> TeacherEnsemble:
    """Return the teacher ensemble of ``partition`` from ``folder/<part>/``, in evaluation mode.

    Teachers whose cards say that they share first stages do so again.

    Args:
        folder: a subfolder a teacher, named by the number of its part.
        partition: what the teachers were trained for.
        make_model: as for ``load_model``.

    Raises:
        ModelError: a part has no teacher or two, or a teacher's part, labels or partition differ.
    """
    places = find_teachers(folder, partition)
    loaded = [load_model(place, make_model=make_model) for place in places]
    teachers = [network for network, _ in loaded]
    shared = {0 if card.part is None else card.part.shared_stages for _, card in loaded}
    if len(shared) == 1 and (num_stages := shared.pop()) > 0:
        try:
            share_trunk(teachers, num_stages)
        except ConfigError as error:  # a card that another network's would fit
            raise ModelError(f"{places[0] / CARD_FILE}: {error}") from error
    return TeacherEnsemble(partition, teachers).eval()


def find_teachers(folder: Path, partition: LabelPartition) -> list[Path]:
    """Return the folders of the teachers of ``partition``, in the order of its parts.

    A predictor over all labels is the teacher of a partition with one part.

    Args:
        folder: a subfolder a teacher, named by the number of its part.
        partition: what the teachers were trained for.

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
    return [places[part] for part in range(partition.num_parts)]


def _built(card: ModelCard, folder: Path, make_model: MakeModel | None) -> nn.Module:
    """Return the network of ``card`` before its weights are in it.

    Every weight is overwritten, so any seed will do; it keeps off the global generator.
    """
    try:
        return make_seeded(make_model or _rebuilder(card), LabelSpace(card.labels), seed=0)
    except (ModelError, ConfigError) as error:
        raise ModelError(f"{folder / CARD_FILE}: {error}") from error


def _rebuilder(card: ModelCard) -> MakeModel:
    """Return what builds the network of ``card`` without weights and without importing anything."""
    if card.model.get("factory") is not None:
        raise ModelError(
            f"the model was made by the user's own '{card.model['factory']}', which loading does "
            "not import by itself: pass make_model, or --factory package.module:function."
        )
    # The weights file holds everything, so nothing is downloaded or read from elsewhere.
    config = replace(
        settings_of(ModelConfig, card.model, "model"), weights=NO_WEIGHTS, factory=None
    )
    return model_factory(config, blank_information(LabelSpace(card.labels), config))


def blank_information(labels: LabelSpace, config: ModelConfig) -> LabelInformation:
    """Return what a network is built with whose weights file holds graph and embeddings."""
    num_labels, width = len(labels), config.label_embedding_width
    nothing = sparse.csr_array((num_labels, num_labels), dtype=np.int64)
    given = config.label_embeddings is not None
    return LabelInformation(
        labels,
        graph=LabelGraph(labels, 0, nothing, nothing),
        embeddings=np.zeros((num_labels, width), dtype=np.float32) if given else None,
        embedding_width=width,
    )


def _part_of(place: Path, partition: LabelPartition) -> int:
    """Return the part that the teacher in ``place`` is for.

    Raises:
        ModelError: it is no teacher of ``partition``.
    """
    card = read_card(place)
    if card.part is None and partition.num_parts == 1 and card.labels == partition.labels.names:
        return 0
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
