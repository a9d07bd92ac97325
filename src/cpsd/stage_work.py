"""What the stages of a run do: each reads what earlier ones left and writes into its own folder."""

import csv
import io
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import lightning
import numpy as np
from numpy.typing import NDArray
from torch import nn

from cpsd import given_models, method
from cpsd.config import RunConfig
from cpsd.data.records import TRAIN, VALIDATION, Records
from cpsd.evaluation.predictions import Predictions, read_predictions, write_predictions
from cpsd.evaluation.scoreboard import (
    BASELINE,
    STUDENT,
    TEACHERS,
    ensemble_name,
    score,
    together,
)
from cpsd.files import write_json, write_text
from cpsd.graph import LabelGraph
from cpsd.losses.objective import strategy_shares
from cpsd.method import Place, student_config, teacher_config
from cpsd.models.card import PartCard, read_card
from cpsd.models.classifier import MakeModel, make_seeded, model_factory
from cpsd.models.ensemble import TeacherEnsemble
from cpsd.models.label_information import LabelInformation
from cpsd.models.label_vectors import label_information
from cpsd.models.store import load_ensemble, load_model
from cpsd.partition import (
    LabelPartition,
    partition_labels,
    read_partition,
    write_partition,
)
from cpsd.run import Cost
from cpsd.seeds import derive_seed
from cpsd.strategies import shuffled_cut
from cpsd.trained import save_trained
from cpsd.training.soft_labels import Progress, SoftLabelStore, uncounted, write_soft_labels

PREDICTIONS = "predictions"


class StageWork:
    """Does the work of the stages of one run.

    Args:
        config: all settings.
        records: the pictures, split.
        run: the run directory, where results of earlier stages lie.
        callbacks: Lightning's, for progress; made anew for each training.
        counting: opens what shows the progress of a stage that trains nothing, by its name.
    """

    def __init__(
        self,
        config: RunConfig,
        records: Records,
        run: Path,
        *,
        callbacks: Callable[[str], Sequence[lightning.Callback]] = lambda stage: (),
        counting: Callable[[str], AbstractContextManager[Progress]] = uncounted,
    ) -> None:
        self.config = config
        self.records = records
        self.run = run
        self.callbacks = callbacks
        self.counting = counting
        self.make_model: MakeModel = model_factory(config.model, self._information())

    def label_graph(self, folder: Path) -> Cost:
        """Count the labels; write down which picture is in which split."""
        records = self.records
        self._graph().save(folder / "label_graph.npz")
        write_json(folder / "labels.json", list(records.labels))
        table = io.StringIO()
        csv.writer(table).writerows(
            [("image", "split"), *zip(records.paths, records.splits, strict=True)]
        )
        write_text(folder / "splits.csv", table.getvalue())
        return Cost()

    def partition(self, folder: Path, strategy: str) -> Cost:
        """Cut the labels into parts."""
        settings = self.config.partition
        given = given_models.teacher_partition(self.config, strategy, self.records.labels)
        # A shuffled control has the sizes of the cut that this very run makes.
        cut = shuffled_cut(strategy) or strategy
        partition = given or partition_labels(
            LabelGraph.load(self.run / "label_graph.npz"),
            strategy,
            num_parts=settings.parts,
            seed=derive_seed(teacher_config(self.config).seed, "partition", cut),
            min_labels=settings.min_labels,
            starts=settings.starts,
        )
        write_partition(partition, folder / "partitions" / f"{strategy}.json")
        return Cost()

    def baseline(self, folder: Path) -> Cost:
        """Train the baseline."""
        network = self._new_model(self.config.seed)(self.records.labels)
        place = Place(BASELINE, folder / BASELINE, folder / "last.ckpt")
        fitted = method.fit(
            network, self.records, self.config, place=place, callbacks=self.callbacks(BASELINE)
        )
        model, image = asdict(self.config.model), self.config.image
        save_trained(place.folder, network, fitted.best[0], self.records.labels, model, image)
        return fitted.cost

    def teachers(self, folder: Path, strategy: str) -> Cost:
        """Train a strategy's teachers, on one pass over the pictures or one after another."""
        partition, config = self._partition(strategy), teacher_config(self.config)
        name = ensemble_name(strategy)
        if config.teachers.given is not None:
            given_models.copy_teachers(config, partition, folder / name)
            return Cost()
        place = Place(name, folder / name, folder / "last.ckpt")
        teachers = [
            self._new_model(config.seed, strategy, index)(partition.part_labels(index))
            for index in range(partition.num_parts)
        ]
        callbacks = self.callbacks(name)
        if config.teachers.together:
            ensemble = TeacherEnsemble(partition, teachers)
            fitted = method.fit(ensemble, self.records, config, place=place, callbacks=callbacks)
            best, cost = fitted.best, fitted.cost
        else:
            single = [
                method.fit(
                    teacher,
                    self.records,
                    config,
                    part=part,
                    place=Place(
                        f"{name}/{index}", place.folder / str(index), folder / f"{index}.ckpt"
                    ),
                    callbacks=callbacks,
                )
                for index, (teacher, part) in enumerate(zip(teachers, partition.parts, strict=True))
            ]
            best = tuple(fitted.best[0] for fitted in single)
            cost = sum((fitted.cost for fitted in single), Cost())
        for index, teacher in enumerate(teachers):
            part = PartCard(strategy, index, partition.hash)
            labels, model = partition.part_labels(index), asdict(config.model)
            place_of_part = place.folder / str(index)
            save_trained(place_of_part, teacher, best[index], labels, model, config.image, part)
        return cost

    def soft_labels(self, folder: Path) -> Cost:
        """Store the teachers' logits for every view of every training picture."""
        ensembles = {strategy: self._ensemble(strategy) for strategy in self._strategies()}
        rows, num_views = self.records.indices(TRAIN).tolist(), num_stored_views(self.config)
        with method.computing_threads(self.config), self.counting("soft-labels") as progress:
            write_soft_labels(
                folder / "soft_labels",
                ensembles,
                self.records,
                rows,
                image=self.config.image,
                num_views=num_views,
                seed=teacher_config(self.config).seed,
                machine=self.config.machine,
                device=method.device_of(self.config),
                progress=progress,
            )
        # All of it, whatever an earlier attempt has done of it.
        num_teachers = sum(ensemble.partition.num_parts for ensemble in ensembles.values())
        return Cost(images_forward=len(rows) * num_views * num_teachers)

    def student(self, folder: Path) -> Cost:
        """Distil the student."""
        network, model = self._untrained_student()
        place = Place(STUDENT, folder / STUDENT, folder / "last.ckpt")
        fitted = method.distill(
            network,
            SoftLabelStore(self.run / "soft_labels"),
            self.records,
            student_config(self.config),
            place=place,
            callbacks=self.callbacks(STUDENT),
        )
        labels, image = self.records.labels, self.config.image
        save_trained(place.folder, network, fitted.best[0], labels, model, image)
        return fitted.cost

    def predictions(self, folder: Path, name: str) -> Cost:
        """Predict the validation and test pictures with the predictor ``name``."""
        if name == TEACHERS:
            return self._predictions_together(folder)
        strategy = name.partition("/")[2]
        predictor = self._ensemble(strategy) if strategy else self._model(name)
        networks = len(predictor.teachers) if isinstance(predictor, TeacherEnsemble) else 1
        num_forward = 0
        for split in self.scored_splits():
            rows = self.records.indices(split)
            logits_NC = method.predict(predictor, self.records, rows, self.config)
            self._write_predictions(folder, name, split, rows, logits_NC)
            num_forward += len(rows) * networks
        return Cost(images_forward=num_forward)

    def evaluation(self, folder: Path, predictors: Sequence[str]) -> Cost:
        """Score all predictors on the test splits."""
        for split in self.records.test_splits():
            logits = self._read_logits(predictors, split)
            targets_NC = self.records.targets[self.records.indices(split)]
            board = score(logits, targets_NC, self.records.labels, self.config.evaluation)
            write_json(folder / "evaluation" / f"{split}.json", {"split": split, **board.to_json()})
        return Cost()

    def scored_splits(self) -> list[str]:
        """Return the splits that are predicted: validation, then the test splits."""
        return [VALIDATION, *self.records.test_splits()]

    def _predictions_together(self, folder: Path) -> Cost:
        strategies = self._strategies()
        shares = strategy_shares(self.config.distillation.alpha, len(strategies))
        names = [ensemble_name(strategy) for strategy in strategies]
        for split in self.scored_splits():
            logits = self._read_logits(names, split)
            logits_NC = together(logits, dict(zip(names, shares, strict=True)))
            self._write_predictions(folder, TEACHERS, split, self.records.indices(split), logits_NC)
        return Cost()

    def _write_predictions(
        self,
        folder: Path,
        name: str,
        split: str,
        rows: NDArray[np.intp],
        logits_NC: NDArray[np.float32],
    ) -> None:
        predictions = Predictions(
            predictor=name,
            images=tuple(self.records.paths[row] for row in rows),
            logits=logits_NC,
            targets=self.records.targets[rows],
            labels=self.records.labels,
        )
        write_predictions(predictions_file(folder, name, split), predictions)

    def _read_logits(self, names: Sequence[str], split: str) -> Mapping[str, NDArray[np.float32]]:
        files = {name: predictions_file(self.run, name, split) for name in names}
        return {name: read_predictions(file).logits for name, file in files.items()}

    def _information(self) -> LabelInformation:
        """Return what heads may know of the run's labels."""
        return label_information(self.config.model, self.records.labels, self._graph())

    def _graph(self) -> LabelGraph:
        """Return the graph of the training pictures' labels."""
        records = self.records
        return LabelGraph.from_targets(records.targets[records.indices(TRAIN)], records.labels)

    def _partition(self, strategy: str) -> LabelPartition:
        return read_partition(self.run / "partitions" / f"{strategy}.json", self.records.labels)

    def _new_model(self, seed: int, *keys: str | int) -> MakeModel:
        """Return a factory whose initial weights depend on ``seed`` and ``keys``."""
        seed = derive_seed(seed, "initial weights", *keys)
        return lambda labels: make_seeded(self.make_model, labels, seed=seed)

    def _untrained_student(self) -> tuple[nn.Module, dict[str, Any]]:
        """Return the student before distillation, and its ``ModelConfig`` as a plain dict."""
        start = given_models.student_start(self.config, self.records.labels)
        if start is None:
            # The baseline's initial weights too, so that the two differ in the method alone.
            network = self._new_model(self.config.seed)(self.records.labels)
            return network, asdict(self.config.model)
        network, card = load_model(start, make_model=self._foreign_model(start))
        return network, card.model

    def _model(self, name: str) -> nn.Module:
        """Return the run's baseline or student."""
        return load_model(self.run / name, make_model=self._foreign_model(self.run / name))[0]

    def _ensemble(self, strategy: str) -> TeacherEnsemble:
        """Return the run's teacher ensemble of ``strategy``."""
        place = self.run / ensemble_name(strategy)
        make_model = self._foreign_model(place / "0")
        return load_ensemble(place, self._partition(strategy), make_model=make_model)

    def _foreign_model(self, place: Path) -> MakeModel | None:
        """Return the user's own factory, where the model in ``place`` is made by one."""
        own = read_card(place).model.get("factory") is not None
        return self.make_model if own and self.config.model.factory is not None else None

    def _strategies(self) -> tuple[str, ...]:
        return self.config.partition.strategies


def num_stored_views(config: RunConfig) -> int:
    """Return V; by default one view for each epoch of the student, nothing approximated."""
    return config.distillation.views or student_config(config).training.epochs


def predictions_folder(name: str) -> str:
    """Return where the predictions of a predictor lie in a run.

    Example:
        >>> predictions_folder("teachers/co-occurrence")
        'predictions/teachers.co-occurrence'
    """
    return f"{PREDICTIONS}/{name.replace('/', '.')}"


def predictions_file(run: Path, name: str, split: str) -> Path:
    """Return the file of a predictor's predictions on a split."""
    return run / predictions_folder(name) / f"{split}.parquet"
