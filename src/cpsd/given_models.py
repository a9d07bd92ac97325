"""Models that a run is given: where its student starts, and teachers that need no training."""

import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from cpsd.config import RunConfig
from cpsd.errors import DataError, ModelError, PartitionError
from cpsd.files import written_whole
from cpsd.fingerprints import file_digest
from cpsd.labels import LabelSpace
from cpsd.models.card import CARD_FILE, read_card
from cpsd.models.store import WEIGHTS_FILE, find_teachers
from cpsd.partition import LabelPartition
from cpsd.run_home import brought
from cpsd.strategies import WHOLE, base_strategy

_ORDER = (
    "Labels and their order must be the data's; data.label_list fixes those (a file, coco or "
    "nuswide)."
)


def with_copies(config: RunConfig) -> RunConfig:
    """Return the settings with folders of this machine for models that they name by address.

    Raises:
        AddressError: there is nothing at the address, or it cannot be reached.
    """
    student, teachers = config.student, config.teachers
    if student.start is not None:
        student = replace(student, start=str(brought(student.start)))
    if teachers.given is not None:
        teachers = replace(teachers, given=str(brought(teachers.given)))
    return replace(config, student=student, teachers=teachers)


def student_start(config: RunConfig, labels: LabelSpace) -> Path | None:
    """Return the folder of the model that the student starts from, if one is named.

    Raises:
        ModelError: there is no model, or it is over other labels.
    """
    if config.student.start is None:
        return None
    folder = Path(config.student.start)
    found = read_card(folder).labels
    if found != labels.names:
        raise ModelError(
            f"student.start: the model in {folder} has {len(found)} labels ({_first(found)}), the "
            f"data have {len(labels)} ({_first(labels.names)}). {_ORDER}"
        )
    return folder


def start_digests(config: RunConfig, labels: LabelSpace) -> list[str | None]:
    """Return hashes of the model that the student starts from, nothing where none is named."""
    start = student_start(config, labels)
    return [] if start is None else _digests([start])


def teacher_partition(
    config: RunConfig, strategy: str, labels: LabelSpace
) -> LabelPartition | None:
    """Return the partition that a strategy's given teachers are for, if teachers are given.

    Raises:
        ModelError: a teacher is missing or damaged, or is over other labels.
    """
    if config.teachers.given is None:
        return None
    folder = Path(config.teachers.given) / strategy
    partition = _partition_of(folder, strategy, labels)
    try:
        find_teachers(folder, partition)
    except ModelError as error:
        raise ModelError(f"teachers.given: {error} {_ORDER}") from error
    return partition


def teacher_digests(config: RunConfig, strategy: str, labels: LabelSpace) -> list[str | None]:
    """Return hashes of a strategy's given teachers, nothing where none are given."""
    partition = teacher_partition(config, strategy, labels)
    return [] if partition is None else _digests(_teachers(config, partition))


def copy_teachers(config: RunConfig, partition: LabelPartition, destination: Path) -> None:
    """Copy the given teachers of ``partition`` into ``destination/<part>/``.

    Raises:
        ModelError: they are not those of ``partition`` any more.
        RunError: the disk is full or the folder cannot be written to.
    """
    for index, place in enumerate(_teachers(config, partition)):
        # The card last: a folder without it is not finished.
        for name in (WEIGHTS_FILE, CARD_FILE):
            with written_whole(destination / str(index) / name) as temporary:
                shutil.copyfile(place / name, temporary)


def _teachers(config: RunConfig, partition: LabelPartition) -> list[Path]:
    assert config.teachers.given is not None, "asked for where teachers are given"
    return find_teachers(Path(config.teachers.given) / partition.strategy, partition)


def _partition_of(folder: Path, strategy: str, labels: LabelSpace) -> LabelPartition:
    """Return the parts that the cards of the teachers in ``folder`` name."""
    if base_strategy(strategy) == WHOLE:
        return replace(LabelPartition.whole(labels), strategy=strategy)
    cards = [read_card(path.parent) for path in sorted(folder.glob(f"*/{CARD_FILE}"))]
    parts = sorted((card.part.index, card.labels) for card in cards if card.part is not None)
    if not parts:
        raise ModelError(
            f"teachers.given: there is no sub-task teacher in {folder}/<part>/; leave the strategy "
            "out of partition.strategies, or take 'whole' for a teacher of all labels."
        )
    try:
        columns = tuple(tuple(labels.indices(names).tolist()) for _, names in parts)
        return LabelPartition(strategy, labels, columns)
    except (DataError, PartitionError) as error:
        raise ModelError(f"teachers.given: in {folder}, {error} {_ORDER}") from error


def _digests(folders: Sequence[Path]) -> list[str | None]:
    """Return hashes of saved models, card and weights."""
    return [
        file_digest(str(folder / name)) for folder in folders for name in (CARD_FILE, WEIGHTS_FILE)
    ]


def _first(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
