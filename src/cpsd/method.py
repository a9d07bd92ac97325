"""The method as functions: fit a predictor, distil teachers into a student, evaluate.

The stages of a run (``pipeline.py``) and people who bring their own model call the same four.
"""

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain, zip_longest
from pathlib import Path

import lightning
import numpy as np
from numpy.typing import NDArray
from torch import nn

from cpsd import process_group
from cpsd.computing import computing, device_of
from cpsd.config import RunConfig
from cpsd.cost import Cost
from cpsd.data.loading import (
    EpochSampler,
    Unreadable,
    inference_loader,
    plain,
    training_loader,
)
from cpsd.data.lost_processes import plain_loader_errors
from cpsd.data.records import TEST, TRAIN, VALIDATION, Records
from cpsd.errors import ConfigError, DataError, ModelError
from cpsd.evaluation.metrics import Metrics, average_precision
from cpsd.evaluation.metrics import evaluate as evaluate_scores
from cpsd.evaluation.metrics import mean_average_precision as mean_of_labels
from cpsd.evaluation.predictions import collect, predict_logits
from cpsd.evaluation.scoreboard import BASELINE
from cpsd.labels import UNKNOWN, LabelSpace, Targets
from cpsd.losses.objective import build_objective
from cpsd.models.ensemble import MeanPredictor, TeacherEnsemble
from cpsd.models.folding import folded
from cpsd.training.fit import fit as fit_members
from cpsd.training.members import Best, members_of
from cpsd.training.soft_labels import LiveSoftLabels, SoftLabelStore


@dataclass(frozen=True)
class Place:
    """Where a training leaves its files.

    Args:
        name: how messages call what is trained.
        folder: for weights, metrics and logs; an ensemble's teachers have a folder each in it.
        checkpoint: the file an interrupted training goes on from.
    """

    name: str
    folder: Path
    checkpoint: Path


@dataclass(frozen=True)
class Fitted:
    """What a training left: which epoch each member kept, and what it cost.

    Args:
        best: by member, in the order of the parts; one for a baseline or a student.
        cost: seconds, pictures forward and backward.
    """

    best: tuple[Best, ...]
    cost: Cost


def fit(
    predictor: nn.Module,
    records: Records,
    config: RunConfig,
    *,
    part: Sequence[int] | None = None,
    place: Place | None = None,
    callbacks: Sequence[lightning.Callback] = (),
) -> Fitted:
    """Train ``predictor`` on the training pictures; it ends with the best epoch's weights.

    A baseline, a sub-task teacher and a teacher ensemble (its teachers side by side, each on its
    part's labels) take the same path.

    Args:
        predictor: images (B, 3, H, W) in [0, 1] to logits (B, C); trained in place.
        records: the pictures; the best epoch is chosen on the ``validation`` split.
        config: its ``image``, ``loss``, ``training``, ``machine`` and ``seed`` are read.
        part: the columns of the labels that ``predictor`` has, for a single sub-task teacher;
            all by default.
        place: where weights, metrics and the checkpoint go; a temporary folder by default.
        callbacks: Lightning's, for progress.

    Raises:
        DataError: no picture to train on or to choose the epoch by, or one that cannot be read.
        ModelError: an ensemble over other labels than those of ``records``.
        TrainingError: a loss that is not finite, or no memory left.
    """
    _require_labels(predictor, records.labels)
    known = (records.targets != UNKNOWN).any(axis=1)
    rows = records.indices(TRAIN)
    rows = rows[known[rows]]
    columns = range(len(records.labels)) if part is None else part
    return _fit(predictor, records, config, rows, columns, None, place, callbacks)


def distill(
    student: nn.Module,
    teachers: Mapping[str, nn.Module] | SoftLabelStore,
    records: Records,
    config: RunConfig,
    *,
    place: Place | None = None,
    callbacks: Sequence[lightning.Callback] = (),
) -> Fitted:
    """Train ``student`` on targets and on its teachers' logits (CPSD, section 3.4).

    Pictures without labels take part: they add the distillation terms only.

    Args:
        student: as ``predictor`` in ``fit``.
        teachers: predictors over all labels by strategy, or their stored soft labels; the last is
            called ``baseline`` where ``distillation.baseline`` gives that a share.
        records: as in ``fit``.
        config: as in ``fit``, and its ``distillation``.
        place: as in ``fit``.
        callbacks: as in ``fit``.

    Raises:
        DataError: as ``fit``, or soft labels that were stored for other labels, pictures or views.
        ModelError: no teachers, no baseline where it has a share, or teachers over other labels
            than those of ``records``.
        TrainingError: as ``fit``.
    """
    rows = records.indices(TRAIN)
    columns = range(len(records.labels))
    soft_labels: LiveSoftLabels | SoftLabelStore
    if isinstance(teachers, SoftLabelStore):
        soft_labels = teachers
        soft_labels.require(records, rows, config.image)
    else:
        if not teachers:
            raise ModelError("There are no teachers to learn from; name at least one strategy's.")
        for teacher in teachers.values():
            _require_labels(teacher, records.labels)
        soft_labels = LiveSoftLabels(teachers, len(records.labels))
    if config.distillation.baseline and soft_labels.strategies[-1] != BASELINE:
        raise ModelError(
            f"distillation.baseline is {config.distillation.baseline}, but of the teachers "
            f"({', '.join(soft_labels.strategies)}) the last is not the baseline; give it as "
            f"'{BASELINE}' after the others, or leave distillation.baseline out."
        )
    return _fit(student, records, config, rows, columns, soft_labels, place, callbacks)


@plain_loader_errors()
def predict(
    predictor: nn.Module,
    records: Records,
    rows: NDArray[np.intp],
    config: RunConfig,
    *,
    on_unreadable: Unreadable | None = None,
) -> NDArray[np.float32]:
    """Return the logits (len(rows), C) of the pictures ``rows``, in their order.

    Where there are more than a few, batch norm is folded into convolutions meanwhile: the logits
    are those of the predictor itself to rounding, 1e-4 of the largest at most. Pictures that cannot
    be read are left out where ``on_unreadable`` is there to be told; the first raises DataError
    where it is not.
    """
    device = device_of(config)
    loader = inference_loader(
        records,
        plain(rows),
        config.image,
        batch_size=config.machine.inference_batch_size,
        seed=config.seed,
        workers=config.machine.workers,
        memory_share=config.machine.picture_memory,
        pin_memory=device.type == "cuda",
        on_unreadable=on_unreadable,
    )
    batches = iter(loader)
    first = next(batches, None)
    if first is None:
        return np.empty((0, len(records.labels)), np.float32)
    with computing(config), folded(predictor) as quick:
        found = predict_logits(quick, chain([first], batches), device=device)
    return collect([found], rows if on_unreadable is None else rows[np.isin(rows, found[0])])


def evaluate(
    predictor: nn.Module, records: Records, config: RunConfig, *, split: str = TEST
) -> Metrics:
    """Return the scores of ``predictor`` on the pictures of ``split``.

    Raises:
        DataError: the split has no picture.
        ModelError: an ensemble over other labels than those of ``records``.
    """
    _require_labels(predictor, records.labels)
    rows = records.indices(split)
    if len(rows) == 0:
        raise DataError(f"There is no picture in the split '{split}'.")
    return evaluate_scores(
        predict(predictor, records, rows, config),
        records.targets[rows],
        records.labels,
        threshold=config.evaluation.threshold,
        top_k=config.evaluation.top_k,
    )


def mean_average_precision(logits_NC: NDArray[np.float32], targets_NC: Targets) -> float:
    """Return the mAP that epochs are chosen by, in [0, 1]; NaN where no label has a positive."""
    return mean_of_labels(average_precision(logits_NC, targets_NC))


def _require_labels(predictor: nn.Module, labels: LabelSpace) -> None:
    """Refuse an ensemble whose logits would be taken for those of other labels."""
    if isinstance(predictor, MeanPredictor):
        for member in predictor.predictors:
            _require_labels(member, labels)
    if isinstance(predictor, TeacherEnsemble) and predictor.partition.labels != labels:
        strategy, own = predictor.partition.strategy, predictor.partition.labels.names
        first = next(pair for pair in zip_longest(own, labels.names) if len(set(pair)) > 1)
        raise ModelError(
            f"The {strategy} ensemble has {len(own)} labels and the data have {len(labels)}; the "
            f"first that differ are {first[0]!r} and {first[1]!r}. Labels and their order must be "
            "the same: cut the label graph of these data."
        )


def _fit(
    predictor: nn.Module,
    records: Records,
    config: RunConfig,
    rows: NDArray[np.intp],
    columns: Sequence[int],
    soft_labels: LiveSoftLabels | SoftLabelStore | None,
    place: Place | None,
    callbacks: Sequence[lightning.Callback],
) -> Fitted:
    """Train on ``rows``, with distillation where there are soft labels."""
    validation_rows = records.indices(VALIDATION)
    for split, those in ((TRAIN, rows), (VALIDATION, validation_rows)):
        if len(those) == 0:
            raise DataError(f"There is no labelled picture in the split '{split}'.")
    if place is None:
        with tempfile.TemporaryDirectory(prefix="cpsd-") as name:
            place = Place("predictor", Path(name), Path(name) / "last.ckpt")
            return _fit(predictor, records, config, rows, columns, soft_labels, place, callbacks)
    device = device_of(config)
    share = process_group.share(
        config.trainer, batch_size=config.training.batch_size, num_pictures=len(rows)
    )
    if config.training.precision == "16-mixed" and device.type == "cpu":
        raise ConfigError(
            "training.precision is '16-mixed', which needs a GPU; on a CPU, take 32 or bf16-mixed."
        )
    members = members_of(predictor, columns, name=place.name, folder=place.folder)
    training = training_loader(
        records,
        rows,
        config.image,
        batch_size=config.training.batch_size,
        seed=config.seed,
        view_seed=None if soft_labels is None else soft_labels.seed,
        num_views=None if soft_labels is None else soft_labels.num_views,
        workers=config.machine.workers,
        memory_share=config.machine.picture_memory,
        pin_memory=device.type == "cuda",
        share=share,
    )
    validation = inference_loader(
        records,
        share.take_as_many(plain(validation_rows)),
        config.image,
        batch_size=config.machine.inference_batch_size,
        seed=config.seed,
        workers=config.machine.workers,
        memory_share=config.machine.picture_memory,
        pin_memory=device.type == "cuda",
    )
    assert isinstance(training.sampler, EpochSampler)
    objective = build_objective(
        config.loss,
        None if soft_labels is None else config.distillation,
        strategies=() if soft_labels is None else soft_labels.strategies,
    )
    with computing(config):
        cost = fit_members(
            members,
            training,
            validation,
            objective=objective,
            training=config.training,
            reduction=config.loss.reduction,
            scorer=mean_average_precision,
            seed=config.seed,
            image_names=records.paths,
            folder=place.folder,
            checkpoint=place.checkpoint,
            soft_labels=soft_labels,
            accelerator=device.type,
            compile_networks=config.machine.compile,
            callbacks=callbacks,
            trainer_config=config.trainer,
            share=share,
            num_pictures=training.sampler.num_seen,
        )
    best = []
    for member in members:
        assert member.best is not None, "a fitted member has a best epoch"
        best.append(member.best)
    return Fitted(tuple(best), cost)


def teacher_config(config: RunConfig) -> RunConfig:
    """Return the settings that sub-task teachers train with."""
    teachers = config.teachers
    seed = config.seed if teachers.seed is None else teachers.seed
    return _with_training(replace(config, seed=seed), teachers.epochs, teachers.learning_rate)


def student_config(config: RunConfig) -> RunConfig:
    """Return the settings that the student trains with."""
    return _with_training(config, config.student.epochs, config.student.learning_rate)


def _with_training(config: RunConfig, epochs: int | None, rate: float | None) -> RunConfig:
    training = config.training
    return replace(
        config,
        training=replace(
            training,
            epochs=training.epochs if epochs is None else epochs,
            learning_rate=training.learning_rate if rate is None else rate,
        ),
    )
