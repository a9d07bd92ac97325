"""Trained predictors: saved, and taken from a run or a model folder, ready for new pictures."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from cpsd.addresses import with_addresses
from cpsd.config import (
    DistillationConfig,
    EvaluationConfig,
    ImageConfig,
    PartitionConfig,
    RunConfig,
)
from cpsd.data.images import find_pictures
from cpsd.data.records import UNASSIGNED, Records
from cpsd.errors import DataError, ModelError, RunError, did_you_mean
from cpsd.evaluation.scoreboard import BASELINE, STUDENT, TEACHERS, ensemble_name
from cpsd.evaluation.temperatures import Temperatures
from cpsd.evaluation.thresholds import Thresholds
from cpsd.files import read_json
from cpsd.labels import UNKNOWN, LabelSpace
from cpsd.losses.objective import strategy_shares
from cpsd.machine_config import MachineConfig
from cpsd.models.card import CARD_FILE, ModelCard, PartCard, read_card
from cpsd.models.classifier import MakeModel
from cpsd.models.ensemble import MeanPredictor, TeacherEnsemble
from cpsd.models.known_labels import ToldPredictor
from cpsd.models.store import load_ensemble, load_model, save_model
from cpsd.models.trunk import join_trunks
from cpsd.partition import read_partition
from cpsd.training.members import Best
from cpsd.yaml_files import read_yaml

THRESHOLDS_FILE = "thresholds.json"
"""Beside a model: the probabilities from which its labels count as predicted."""
TEMPERATURES_FILE = "temperatures.json"
"""Beside a model: what its labels' logits are divided by for calibrated probabilities."""


@dataclass(frozen=True)
class Trained:
    """A trained predictor with what predicting takes.

    Args:
        predictor: images (B, 3, H, W) in [0, 1] to logits (B, C).
        labels: the C labels.
        image: how pictures become tensors.
    """

    predictor: nn.Module
    labels: LabelSpace
    image: ImageConfig

    def told(self, *, present: Sequence[str], absent: Sequence[str]) -> "Trained":
        """Return the same for pictures of which some labels are known (head 'ctran').

        Raises:
            ModelError: the predictor cannot be told labels.
            DataError: a name is not among the labels.
        """
        known = ToldPredictor(self.predictor, self.labels, present=present, absent=absent)
        return replace(self, predictor=known)

    def config(self, machine: MachineConfig) -> RunConfig:
        """Return the settings that ``method.predict`` reads."""
        return RunConfig(image=self.image, machine=machine)


def load_trained(
    path: Path, name: str = STUDENT, *, make_model: MakeModel | None = None
) -> Trained:
    """Return a predictor of the run at ``path``, or the model in the folder ``path``.

    Args:
        path: a run directory, or a folder with ``model.json``.
        name: ``student``, ``baseline``, ``teachers/<strategy>``, or ``teachers`` for all ensembles
            together; not read for a model folder.
        make_model: the user's own factory, where the model is of one.

    Raises:
        RunError: there is no run and no model at ``path``.
        ModelError: the run has no such predictor, or its files are damaged.
    """
    if (path / CARD_FILE).is_file():
        module, card = load_model(path, make_model=make_model)
        return _trained(module, LabelSpace(card.labels), card)
    if not (path / "labels.json").is_file():
        raise RunError(f"{path} is neither a run directory nor the folder of a model.")
    strategies = sorted(p.stem for p in (path / "partitions").glob("*.json"))
    ensembles = [ensemble_name(strategy) for strategy in strategies]
    choices = [STUDENT, BASELINE, TEACHERS, *ensembles]
    if name not in choices:
        raise ModelError(
            f"The run {path} has no predictor '{name}' (it has {', '.join(choices)})."
            + did_you_mean(name, choices)
        )
    if name in (STUDENT, BASELINE):
        if not (path / name / CARD_FILE).is_file():
            raise ModelError(
                f"The run {path} has no {name} yet; go on with it (cpsd run), or name another "
                "predictor with --predictor."
            )
        return load_trained(path / name, make_model=make_model)
    together, alpha = _mixture(path)
    order = together if name == TEACHERS else [name.split("/")[1]]
    members = [_ensemble(path, strategy, make_model) for strategy in order]
    join_trunks([teacher for ensemble in members for teacher in ensemble.teachers])
    shares = strategy_shares(alpha, len(order))
    card = read_card(path / ensemble_name(order[0]) / "0")
    labels = members[0].partition.labels
    return _trained(MeanPredictor(members, shares), labels, card)


def _mixture(run: Path) -> tuple[list[str], float]:
    """Return the strategies of a run, and the share of the first one's teachers.

    Raises:
        RunError: its settings do not say them.
    """
    file = run / "config.yaml"
    try:
        settings = read_yaml(file)
        partition = PartitionConfig(strategies=tuple(settings["partition"]["strategies"]))
        distillation = DistillationConfig(alpha=float(settings["distillation"]["alpha"]))
    except (OSError, ValueError, TypeError, KeyError, OverflowError) as error:
        raise RunError(f"{file} does not say what the run's teachers are ({error}).") from error
    return list(partition.strategies), distillation.alpha


def save_trained(
    folder: Path,
    network: nn.Module,
    best: Best,
    labels: LabelSpace,
    model: dict[str, Any],
    image: ImageConfig,
    part: PartCard | None = None,
) -> None:
    """Save what a training has left, with the epoch it kept on the card.

    Args:
        folder: where to.
        network: with the kept weights.
        best: the kept epoch.
        labels: of the logits.
        model: the network's ``ModelConfig`` as a plain dict.
        image: how pictures become tensors.
        part: for a sub-task teacher, its part.

    Raises:
        ModelError: the network's state holds something other than tensors.
        RunError: the disk is full or the folder cannot be written to.
    """
    card = ModelCard(
        labels=labels.names,
        model=model,
        image=asdict(image),
        part=part,
        training={
            "epoch": best.epoch + 1,
            "weights": best.weights,
            "validation_mAP": None if math.isnan(best.score) else best.score,
        },
    )
    save_model(folder, network, card)


def run_evaluation(path: Path) -> EvaluationConfig:
    """Return how the run at ``path`` is scored; the defaults for the folder of a model.

    Raises:
        RunError: the run's settings cannot be read.
    """
    file = path / "config.yaml"
    if not file.is_file():
        return EvaluationConfig()
    try:
        return EvaluationConfig(**read_yaml(file)["evaluation"])
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise RunError(f"{file} does not say how the run is scored ({error}).") from error


def kept_thresholds(path: Path, name: str = STUDENT) -> Thresholds | None:
    """Return the thresholds that lie beside a model, None where there are none.

    Args:
        path: run directory or model folder.
        name: of the run's predictor; not read for a model folder.

    Raises:
        RunError: the file is damaged.
    """
    file = _model_folder(path, name) / THRESHOLDS_FILE
    return Thresholds.from_json(read_json(file)) if file.is_file() else None


def kept_temperatures(path: Path, name: str = STUDENT) -> Temperatures:
    """Return the temperatures that lie beside a model.

    Args:
        path: run directory or model folder.
        name: of the run's predictor; not read for a model folder.

    Raises:
        RunError: there are none, or the file is damaged.
    """
    file = _model_folder(path, name) / TEMPERATURES_FILE
    if not file.is_file():
        raise RunError(
            f"There are no temperatures for '{name}' in {path}: a finished run has them for its "
            "student and its baseline. Leave out --calibrated, or finish the run."
        )
    return Temperatures.from_json(read_json(file))


def _model_folder(path: Path, name: str) -> Path:
    return path if (path / CARD_FILE).is_file() else path / name


def pictures_as_records(paths: Sequence[Path], labels: LabelSpace) -> Records:
    """Return pictures of which nothing is known, for prediction."""
    return Records(
        paths=tuple(with_addresses(str(path)) for path in paths),
        targets=np.full((len(paths), len(labels)), UNKNOWN, dtype=np.int8),
        labels=labels,
        splits=(UNASSIGNED,) * len(paths),
        root=Path(),
        origins=tuple(with_addresses(str(path)) for path in paths),
    )


def pictures_at(places: Sequence[Path]) -> tuple[list[Path], list[str]]:
    """Return the pictures at ``places``, and a sentence for each folder that has none.

    Args:
        places: pictures, and folders to look for pictures in.
    """
    found: list[Path] = []
    faults: list[str] = []
    for place in places:
        try:
            found += find_pictures(place) if place.is_dir() else [place]
        except DataError as error:
            faults.append(str(error))
    return found, faults


def _ensemble(path: Path, strategy: str, make_model: MakeModel | None) -> TeacherEnsemble:
    partition = read_partition(path / "partitions" / f"{strategy}.json")
    return load_ensemble(path / ensemble_name(strategy), partition, make_model=make_model)


def _trained(predictor: nn.Module, labels: LabelSpace, card: ModelCard) -> Trained:
    try:
        image = ImageConfig(**card.image)
    except TypeError as error:
        raise ModelError(f"The model's image settings cannot be read ({error}).") from error
    return Trained(predictor, labels, image)
