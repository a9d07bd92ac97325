"""The networks of a run: new ones, and those that it has trained."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from torch import nn

from cpsd import given_models
from cpsd.config import RunConfig
from cpsd.data.records import TRAIN, Records
from cpsd.errors import RunError
from cpsd.evaluation.scoreboard import BASELINE, ensemble_name
from cpsd.graph import LabelGraph
from cpsd.method import teacher_config
from cpsd.models.card import read_card
from cpsd.models.classifier import MakeModel, make_seeded, model_factory
from cpsd.models.ensemble import TeacherEnsemble
from cpsd.models.label_vectors import label_information
from cpsd.models.starting_weights import take_weights
from cpsd.models.store import load_ensemble, load_model
from cpsd.models.trunk import Trunk, join_trunks, require_stages
from cpsd.models.weights import DamagedWeightsError
from cpsd.partition import LabelPartition, read_partition
from cpsd.seeds import derive_seed

TEACHERS_START = "teachers_start"
"""Folder of a run with the trained baseline that its teachers are made of, or that is one."""


class RunModels:
    """Makes the networks of one run, and loads what it has trained.

    Args:
        config: all settings.
        records: the pictures, split.
        run: the run directory.

    Raises:
        ConfigError: the backbone has fewer stages than teachers are to share.
    """

    def __init__(self, config: RunConfig, records: Records, run: Path) -> None:
        self.config = config
        self.labels = records.labels
        self.run = run
        self.graph = LabelGraph.from_targets(
            records.targets[records.indices(TRAIN)], records.labels
        )
        """Of the training pictures' labels."""
        if config.teachers.shared_stages > 0:  # refused now, not after the baseline
            require_stages(config.model.backbone, config.teachers.shared_stages)
        information = label_information(config.model, records.labels, self.graph)
        self._make_model: MakeModel = model_factory(config.model, information)

    def partition(self, strategy: str) -> LabelPartition:
        """Return the run's partition of ``strategy``."""
        return read_partition(self.run / "partitions" / f"{strategy}.json", self.labels)

    def new_model(self, seed: int, *keys: str | int) -> MakeModel:
        """Return a factory whose initial weights depend on ``seed`` and ``keys``."""
        seed = derive_seed(seed, "initial weights", *keys)
        return lambda labels: make_seeded(self._make_model, labels, seed=seed)

    def untrained_teachers(
        self, strategy: str, indices: Sequence[int] | None = None
    ) -> list[nn.Module]:
        """Return teachers of ``strategy`` before training, by default those of all its parts."""
        config, partition = teacher_config(self.config), self.partition(strategy)
        indices = range(partition.num_parts) if indices is None else indices
        teachers = [
            self.new_model(config.seed, strategy, index)(partition.part_labels(index))
            for index in indices
        ]
        if not config.teachers.need_baseline:
            return teachers
        baseline = self.predictor(TEACHERS_START)
        if config.teachers.start == BASELINE:
            for teacher, index in zip(teachers, indices, strict=True):
                take_weights(teacher, baseline, partition.parts[index], len(self.labels))
        if config.teachers.shared_stages > 0:
            trunk = Trunk(baseline, config.teachers.shared_stages)
            for teacher in teachers:
                trunk.put_under(teacher)
        return teachers

    def untrained_student(self) -> tuple[nn.Module, dict[str, Any]]:
        """Return the student before distillation, and its ``ModelConfig`` as a plain dict."""
        start = given_models.student_start(self.config, self.labels)
        if start is None:
            # The baseline's initial weights too, so that the two differ in the method alone.
            network = self.new_model(self.config.seed)(self.labels)
            return network, asdict(self.config.model)
        network, card = load_model(start, make_model=self._foreign_model(start))
        return network, card.model

    def predictor(self, name: str) -> nn.Module:
        """Return the run's baseline, student, start of the teachers, or ensemble of a strategy.

        Raises:
            RunError: its weights are not those that were written.
        """
        strategy = name.partition("/")[2]
        if strategy:
            return self.ensemble(strategy)
        place = self.run / name
        with _told_what_to_remove(place):
            return load_model(place, make_model=self._foreign_model(place))[0]

    def ensemble(self, strategy: str) -> TeacherEnsemble:
        """Return the run's teacher ensemble of ``strategy``.

        Raises:
            RunError: a teacher's weights are not those that were written.
        """
        place = self.run / ensemble_name(strategy)
        make_model = self._foreign_model(place / "0")
        with _told_what_to_remove(place):
            return load_ensemble(place, self.partition(strategy), make_model=make_model)

    def teaching(self) -> dict[str, nn.Module]:
        """Return what the student learns from, on one trunk where that is shared.

        The ensembles by strategy and, where it has a share in the distillation, the baseline.
        """
        strategies = self.config.partition.strategies
        ensembles = {strategy: self.ensemble(strategy) for strategy in strategies}
        networks = [teacher for ensemble in ensembles.values() for teacher in ensemble.teachers]
        baseline = {}
        if self.config.distillation.baseline:
            baseline[BASELINE] = self.predictor(TEACHERS_START)
        join_trunks([*networks, *baseline.values()])
        return {**ensembles, **baseline}

    def _foreign_model(self, place: Path) -> MakeModel | None:
        """Return the user's own factory, where the model in ``place`` is made by one."""
        own = read_card(place).model.get("factory") is not None
        return self._make_model if own and self.config.model.factory is not None else None


@contextmanager
def _told_what_to_remove(place: Path) -> Iterator[None]:
    """Say which folder of the run to remove where weights in it are damaged.

    Raises:
        RunError: they are.
    """
    try:
        yield
    except DamagedWeightsError as error:
        raise RunError(
            f"{error} Remove the folder {place} and start the run again to have it made anew."
        ) from error
