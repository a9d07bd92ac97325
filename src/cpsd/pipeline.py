"""The stages of a run, in order: what each needs, what it makes, and what its result depends on.

records -> label graph -> partitions -> teachers -> soft labels -> student -> evaluation
                                        baseline ----------------------------^
"""

import csv
import io
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import lightning
import numpy as np
from numpy.typing import NDArray
from torch import nn

from cpsd import given_models, method
from cpsd.config import RunConfig
from cpsd.data.records import TRAIN, VALIDATION, Records
from cpsd.evaluation.predictions import Predictions, write_predictions
from cpsd.evaluation.scoreboard import (
    BASELINE,
    STUDENT,
    TEACHERS,
    ensemble_name,
    score,
    together,
)
from cpsd.files import write_json, write_text
from cpsd.fingerprints import data_fingerprint, file_digest, fingerprint, source_digest
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
from cpsd.run import Cost, RunDirectory, Stage
from cpsd.seeds import derive_seed
from cpsd.trained import save_trained
from cpsd.training.soft_labels import Progress, SoftLabelStore, uncounted, write_soft_labels


class Pipeline:
    """Builds the stages of one run.

    Args:
        config: all settings.
        records: the pictures, split.
        directory: where results of earlier stages lie.
        callbacks: Lightning's, for progress; made anew for each training.
        counting: opens what shows the progress of a stage that trains nothing, by its name.
    """

    def __init__(
        self,
        config: RunConfig,
        records: Records,
        directory: RunDirectory,
        *,
        callbacks: Callable[[str], Sequence[lightning.Callback]] = lambda stage: (),
        counting: Callable[[str], AbstractContextManager[Progress]] = uncounted,
    ) -> None:
        self.config = config
        self.records = records
        self.directory = directory
        self.callbacks = callbacks
        self.counting = counting
        self.make_model: MakeModel = model_factory(config.model, self._information())

    def stages(self) -> list[Stage]:
        """Return all stages in order; a fingerprint covers everything a result depends on."""
        config, strategies = self.config, self.config.partition.strategies
        # Trainings read no test picture, so a change there does not touch what was learned.
        seen = [self.records.indices(split) for split in (TRAIN, VALIDATION)]
        learned = data_fingerprint(self.records.select(np.sort(np.concatenate(seen))))
        data = data_fingerprint(self.records)
        files = [file_digest(config.model.weights), file_digest(config.model.label_embeddings)]
        files.append(source_digest(config.model.factory))
        network = [config.image, config.model, files, config.loss]
        graph = fingerprint("label graph", data)
        baseline = fingerprint(BASELINE, learned, config.seed, network, config.training)
        stages = [
            Stage(
                "label-graph",
                graph,
                ("labels.json", "label_graph.npz", "splits.csv"),
                self._label_graph,
            ),
        ]
        teachers = []
        for strategy in strategies:
            settings = [replace(config.partition, strategies=(strategy,)), config.seed]
            given = given_models.teacher_digests(config, strategy, self.records.labels)
            partition = fingerprint("partition", learned, [*settings, *given])
            stages.append(
                Stage(
                    f"partitions/{strategy}",
                    partition,
                    (f"partitions/{strategy}.json",),
                    partial(self._partition, strategy=strategy),
                )
            )
            teachers.append(
                Stage(
                    ensemble_name(strategy),
                    fingerprint(
                        TEACHERS, learned, partition, network, teacher_config(config).training
                    ),
                    (ensemble_name(strategy),),
                    partial(self._teachers, strategy=strategy),
                )
            )
        views = fingerprint("soft labels", [t.fingerprint for t in teachers], self._num_views())
        start = given_models.start_digests(config, self.records.labels)
        settings = [config.distillation, student_config(config).training]
        student = fingerprint(STUDENT, views, *settings, network, *start)
        return [
            *stages,
            Stage(BASELINE, baseline, (BASELINE,), self._baseline),
            *teachers,
            Stage("soft-labels", views, ("soft_labels",), self._soft_labels),
            Stage(STUDENT, student, (STUDENT,), self._student),
            Stage(
                "evaluation",
                fingerprint("evaluation", data, baseline, student, config.evaluation),
                ("evaluation",),
                self._evaluation,
            ),
        ]

    def _information(self) -> LabelInformation:
        """Return what heads may know of the run's labels."""
        return label_information(self.config.model, self.records.labels, self._graph())

    def _graph(self) -> LabelGraph:
        """Return the graph of the training pictures' labels."""
        records = self.records
        return LabelGraph.from_targets(records.targets[records.indices(TRAIN)], records.labels)

    def _label_graph(self, folder: Path) -> Cost:
        records = self.records
        self._graph().save(folder / "label_graph.npz")
        write_json(folder / "labels.json", list(records.labels))
        table = io.StringIO()
        csv.writer(table).writerows(
            [("image", "split"), *zip(records.paths, records.splits, strict=True)]
        )
        write_text(folder / "splits.csv", table.getvalue())
        return Cost()

    def _partition(self, folder: Path, strategy: str) -> Cost:
        settings = self.config.partition
        given = given_models.teacher_partition(self.config, strategy, self.records.labels)
        partition = given or partition_labels(
            LabelGraph.load(self.directory.path / "label_graph.npz"),
            strategy,
            num_parts=settings.parts,
            seed=derive_seed(self.config.seed, "partition", strategy),
            min_labels=settings.min_labels,
            starts=settings.starts,
        )
        write_partition(partition, folder / "partitions" / f"{strategy}.json")
        return Cost()

    def partition(self, strategy: str) -> LabelPartition:
        """Return the run's partition of ``strategy``."""
        return read_partition(
            self.directory.path / "partitions" / f"{strategy}.json", self.records.labels
        )

    def _new_model(self, *keys: str | int) -> MakeModel:
        """Return a factory whose initial weights depend on the run's seed and ``keys``."""
        seed = derive_seed(self.config.seed, "initial weights", *keys)
        return lambda labels: make_seeded(self.make_model, labels, seed=seed)

    def _baseline(self, folder: Path) -> Cost:
        network = self._new_model()(self.records.labels)
        place = Place(BASELINE, folder / BASELINE, folder / "last.ckpt")
        fitted = method.fit(
            network, self.records, self.config, place=place, callbacks=self.callbacks(BASELINE)
        )
        model, image = asdict(self.config.model), self.config.image
        save_trained(place.folder, network, fitted.best[0], self.records.labels, model, image)
        return fitted.cost

    def _teachers(self, folder: Path, strategy: str) -> Cost:
        """Train a strategy's teachers, on one pass over the pictures or one after another."""
        partition, config = self.partition(strategy), teacher_config(self.config)
        name = ensemble_name(strategy)
        if config.teachers.given is not None:
            given_models.copy_teachers(config, partition, folder / name)
            return Cost()
        place = Place(name, folder / name, folder / "last.ckpt")
        teachers = [
            self._new_model(strategy, index)(partition.part_labels(index))
            for index in range(partition.num_parts)
        ]
        callbacks = self.callbacks(name)
        if self.config.teachers.together:
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

    def _soft_labels(self, folder: Path) -> Cost:
        ensembles = {strategy: self.ensemble(strategy) for strategy in self._strategies()}
        rows = self.records.indices(TRAIN).tolist()
        with method.computing_threads(self.config), self.counting("soft-labels") as progress:
            write_soft_labels(
                folder / "soft_labels",
                ensembles,
                self.records,
                rows,
                image=self.config.image,
                num_views=self._num_views(),
                seed=self.config.seed,
                machine=self.config.machine,
                device=method.device_of(self.config),
                progress=progress,
            )
        # All of it, whatever an earlier attempt has done of it.
        num_teachers = sum(ensemble.partition.num_parts for ensemble in ensembles.values())
        return Cost(images_forward=len(rows) * self._num_views() * num_teachers)

    def _student(self, folder: Path) -> Cost:
        network, model = self._untrained_student()
        place = Place(STUDENT, folder / STUDENT, folder / "last.ckpt")
        fitted = method.distill(
            network,
            SoftLabelStore(self.directory.path / "soft_labels"),
            self.records,
            student_config(self.config),
            place=place,
            callbacks=self.callbacks(STUDENT),
        )
        labels, image = self.records.labels, self.config.image
        save_trained(place.folder, network, fitted.best[0], labels, model, image)
        return fitted.cost

    def _untrained_student(self) -> tuple[nn.Module, dict[str, Any]]:
        """Return the student before distillation, and its ``ModelConfig`` as a plain dict."""
        start = given_models.student_start(self.config, self.records.labels)
        if start is None:
            # The baseline's initial weights too, so that the two differ in the method alone.
            return self._new_model()(self.records.labels), asdict(self.config.model)
        network, card = load_model(start, make_model=self._foreign_model(start))
        return network, card.model

    def _evaluation(self, folder: Path) -> Cost:
        shares = strategy_shares(self.config.distillation.alpha, len(self._strategies()))
        ensembles = {ensemble_name(s): self.ensemble(s) for s in self._strategies()}
        predictors: dict[str, nn.Module] = {
            BASELINE: self.model(BASELINE),
            **ensembles,
            STUDENT: self.model(STUDENT),
        }
        networks = 2 + sum(ensemble.partition.num_parts for ensemble in ensembles.values())
        num_forward = 0
        for split in self.records.test_splits():
            rows = self.records.indices(split)
            logits = {
                name: method.predict(predictor, self.records, rows, self.config)
                for name, predictor in predictors.items()
            }
            if len(ensembles) > 1:
                logits[TEACHERS] = together(logits, dict(zip(ensembles, shares, strict=True)))
            num_forward += len(rows) * networks
            self._write_scores(folder / "evaluation", split, rows, logits)
        return Cost(images_forward=num_forward)

    def _write_scores(
        self,
        folder: Path,
        split: str,
        rows: NDArray[np.intp],
        logits: dict[str, NDArray[np.float32]],
    ) -> None:
        records = self.records
        targets_NC = records.targets[rows]
        board = score(logits, targets_NC, records.labels, self.config.evaluation)
        write_json(folder / f"{split}.json", {"split": split, **board.to_json()})
        for name, logits_NC in logits.items():
            predictions = Predictions(
                predictor=name,
                images=tuple(records.paths[row] for row in rows),
                logits=logits_NC,
                targets=targets_NC,
                labels=records.labels,
            )
            write_predictions(folder / split / f"{name.replace('/', '.')}.parquet", predictions)

    def model(self, name: str) -> nn.Module:
        """Return the run's baseline or student."""
        place = self.directory.path / name
        return load_model(place, make_model=self._foreign_model(place))[0]

    def ensemble(self, strategy: str) -> TeacherEnsemble:
        """Return the run's teacher ensemble of ``strategy``."""
        place = self.directory.path / ensemble_name(strategy)
        make_model = self._foreign_model(place / "0")
        return load_ensemble(place, self.partition(strategy), make_model=make_model)

    def _foreign_model(self, place: Path) -> MakeModel | None:
        """Return the user's own factory, where the model in ``place`` is made by one."""
        own = read_card(place).model.get("factory") is not None
        return self.make_model if own and self.config.model.factory is not None else None

    def _strategies(self) -> tuple[str, ...]:
        return self.config.partition.strategies

    def _num_views(self) -> int:
        """Return V; by default one view for each epoch of the student, nothing approximated."""
        return self.config.distillation.views or student_config(self.config).training.epochs
