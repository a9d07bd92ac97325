"""Import of the published checkpoints: a file, and what must be said about it, to a model folder.

Everything that is read here is untrusted; nothing in it is run.
"""

import logging
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import timm
from numpy.typing import NDArray

from cpsd.config import ImageConfig
from cpsd.data.rows import read_label_list
from cpsd.errors import ConfigError, ModelError, PartitionError, did_you_mean
from cpsd.labels import LabelSpace
from cpsd.models.card import CARD_FILE, ModelCard, PartCard
from cpsd.models.classifier import Classifier, build_classifier, make_seeded
from cpsd.models.label_information import LabelInformation
from cpsd.models.label_vectors import holds_words, read_array, read_label_embeddings
from cpsd.models.published import ARCHITECTURES, convert
from cpsd.models.store import save_model
from cpsd.models.weights import load_weights, read_weights
from cpsd.partition import LabelPartition, read_partition, read_published_partition
from cpsd.partition_json import read_content

IMAGE_SIZE = 448
"""The paper's pictures (CPSD, section 4.1)."""
_STRATEGY_OF_FILE = {"idx_coocurrence": "co-occurrence", "idx_cluster": "dis-occurrence"}
"""How names of published partition files begin, as their authors spell them."""


logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class PublishedPart:
    """The part that a published sub-task teacher is for.

    Args:
        file: the published partition, or one in our own form.
        index: of the part in it, from 0.
        strategy: what it was cut by; by default what the file or its published name says.
    """

    file: Path
    index: int
    strategy: str | None = None


def import_checkpoint(
    path: Path,
    out: Path,
    *,
    architecture: str,
    labels: str,
    label_embeddings: Path | None = None,
    part: PublishedPart | None = None,
    image_size: int = IMAGE_SIZE,
) -> ModelCard:
    """Make a model folder of a published checkpoint and return its card.

    Args:
        path: the file: a state dict, alone or under ``state_dict`` or ``model``.
        out: the folder.
        architecture: a name in ``ARCHITECTURES``.
        labels: ``coco``, ``nuswide``, or a text file with a label a line; all labels, of a
            sub-task teacher too.
        label_embeddings: of all labels or of the part's, where the architecture takes them.
        part: for a sub-task teacher, its part.
        image_size: of the pictures that it will be given.

    Raises:
        ConfigError: the architecture is none, or label embeddings are missing or not wanted.
        DataError: the labels cannot be read.
        ModelError: a file cannot be read or does not fit, or ``out`` holds a model.
        PartitionError: the partition cannot be read, or has no such part.
        RunError: ``out`` cannot be written to.
    """
    if architecture not in ARCHITECTURES:
        hint = did_you_mean(architecture, ARCHITECTURES)
        raise ConfigError(
            f"There is no architecture '{architecture}' among {', '.join(ARCHITECTURES)}.{hint}"
        )
    if (out / CARD_FILE).exists():
        raise ModelError(f"There is a model in {out} already; name another folder with --out.")
    image = ImageConfig(size=image_size)
    state = read_weights(path)
    every_label = read_label_list(labels)
    assert every_label is not None, "a file was named"
    own_labels, part_card = every_label, None
    if part is not None:
        partition = _partition(part, every_label)
        own_labels = partition.part_labels(part.index)
        part_card = PartCard(partition.strategy, part.index, partition.hash)
    network, model = _network(architecture, every_label, own_labels, label_embeddings)
    origin = str(path)
    load_weights(network, convert(state, architecture, network, origin=origin), origin=origin)
    card = ModelCard(
        labels=own_labels.names,
        model=model,
        image=asdict(image),
        part=part_card,
        training={"imported_from": path.name, "architecture": architecture},
    )
    save_model(out, network, card)
    origin_weights = ARCHITECTURES[architecture].starts_from
    if origin_weights is not None:
        # Known to timm offline; whoever imports has the file already, so this is not a refusal.
        known = timm.models.get_pretrained_cfg(origin_weights)
        licence = (known.license if known else None) or "not stated"
        logger.warning(
            "This model was fine-tuned from the weights %s, whose licence is %s; what it allows "
            "for models made of them is for you to see to.",
            origin_weights,
            licence,
        )
    return card


def _network(
    architecture: str, every_label: LabelSpace, labels: LabelSpace, embeddings: Path | None
) -> tuple[Classifier, dict[str, object]]:
    """Return the network over ``labels`` and its ``ModelConfig`` as a plain dict."""
    published = ARCHITECTURES[architecture]
    if published.takes_label_embeddings != (embeddings is not None):
        raise ConfigError(
            f"--arch {architecture} needs --label-embeddings FILE: .npy or .pkl with a row a "
            "label, or word vectors as text. The checkpoint does not hold them."
            if embeddings is None
            else f"--arch {architecture} takes no label embeddings; leave out --label-embeddings."
        )
    config, information = published.config, None
    if embeddings is not None:
        config = replace(config, label_embeddings=embeddings.name)
        vectors = _embeddings(embeddings, every_label, labels, config.label_embedding_width)
        information = LabelInformation(
            labels, embeddings=vectors, embedding_width=config.label_embedding_width
        )
    network = make_seeded(
        lambda wanted: build_classifier(wanted, config, information), labels, seed=0
    )
    assert isinstance(network, Classifier)
    return network, asdict(config)


def _embeddings(
    path: Path, every_label: LabelSpace, labels: LabelSpace, width: int
) -> NDArray[np.float32]:
    """Return the embeddings of ``labels`` from a file that may have all labels' rows."""
    if holds_words(path) or read_array(path).shape[:1] == (len(labels),):
        return read_label_embeddings(path, labels, width=width)
    columns = every_label.indices(labels)
    return read_label_embeddings(path, every_label, width=width)[columns]


def _partition(part: PublishedPart, labels: LabelSpace) -> LabelPartition:
    """Return the partition that ``part`` is of, over all labels."""
    if isinstance(read_content(part.file), dict):
        partition = read_partition(part.file, labels)
        if part.strategy not in (None, partition.strategy):
            raise PartitionError(
                f"{part.file} says that its strategy is {partition.strategy}, not {part.strategy}."
            )
    else:
        partition = read_published_partition(part.file, labels, strategy=_strategy(part))
    if not 0 <= part.index < partition.num_parts:
        raise PartitionError(
            f"{part.file} has no part {part.index}: its parts are 0 to {partition.num_parts - 1}."
        )
    return partition


def _strategy(part: PublishedPart) -> str:
    """Return the strategy of a published partition file, which itself does not say."""
    by_name = [s for start, s in _STRATEGY_OF_FILE.items() if part.file.name.startswith(start)]
    strategy = part.strategy or next(iter(by_name), None)
    if strategy is None:
        raise ConfigError(
            f"{part.file} does not say what its parts were cut by; say it with --strategy "
            "co-occurrence or --strategy dis-occurrence."
        )
    return strategy
