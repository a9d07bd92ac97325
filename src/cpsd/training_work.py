"""What the stages of a run do up to the student: each reads what earlier ones left."""

import csv
import io
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path

import lightning
from torch import nn

from cpsd import given_models, method
from cpsd.computing import computing, device_of
from cpsd.config import RunConfig
from cpsd.cost import Cost
from cpsd.csv_cells import as_text
from cpsd.data.records import TRAIN, Records
from cpsd.evaluation.scoreboard import BASELINE, STUDENT, ensemble_name
from cpsd.files import link, write_hashed_json, write_json, write_text
from cpsd.graph import LabelGraph
from cpsd.inference_cost import inference_cost
from cpsd.method import Place, student_config, teacher_config
from cpsd.models.card import PartCard
from cpsd.models.ensemble import MeanPredictor, TeacherEnsemble
from cpsd.partition import partition_labels, write_partition
from cpsd.run import RunDirectory
from cpsd.run_models import TEACHERS_START, RunModels
from cpsd.seeds import derive_seed
from cpsd.stage import Pieces, Stage
from cpsd.stage_files import cost_in, read_object
from cpsd.strategies import base_strategy, shuffled_cut
from cpsd.trained import save_trained
from cpsd.training.members import Best
from cpsd.training.soft_label_writing import (
    Progress,
    uncounted,
    unwritten_chunks,
    write_soft_labels,
)
from cpsd.training.soft_labels import SoftLabelStore

LAST = "last.ckpt"
"""What a stage with one training goes on from."""


class TrainingWork:
    """Counts labels, cuts them, trains baseline, teachers and student.

    Args:
        config: all settings.
        records: the pictures, split.
        run: the run directory, where results of earlier stages lie.
        models: its networks.
        callbacks: Lightning's, for progress; made anew for each training.
        counting: opens what shows the progress of a stage that trains nothing, by its name.
    """

    def __init__(
        self,
        config: RunConfig,
        records: Records,
        run: Path,
        models: RunModels,
        *,
        callbacks: Callable[[str], Sequence[lightning.Callback]] = lambda stage: (),
        counting: Callable[[str], AbstractContextManager[Progress]] = uncounted,
    ) -> None:
        self.config = config
        self.records = records
        self.run = run
        self.callbacks = callbacks
        self.counting = counting
        self._models = models

    def label_graph(self, folder: Path) -> Cost:
        """Count the labels; write down which picture is in which split."""
        records = self.records
        self._models.graph.save(folder / "label_graph.npz")
        write_json(folder / "labels.json", list(records.labels))
        table = io.StringIO()
        rows = zip(map(as_text, records.paths), map(as_text, records.splits), strict=True)
        csv.writer(table).writerows([("image", "split"), *rows])
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
        return self._plain_training(self.config, folder, BASELINE)

    def teachers_start(self, folder: Path, baseline: Stage) -> Cost:
        """Take the run's baseline as what teachers are made of, or train that of their seed.

        It costs what the baseline has cost in any case: teachers could not be had without.
        """
        if self.config.seed != teacher_config(self.config).seed:
            config = replace(self.config, seed=teacher_config(self.config).seed)
            return self._plain_training(config, folder, TEACHERS_START)
        link(self.run / BASELINE, folder / TEACHERS_START)
        return RunDirectory(self.run).cost(baseline)

    def _plain_training(self, config: RunConfig, folder: Path, name: str) -> Cost:
        network = self._models.new_model(config.seed)(self.records.labels)
        place = Place(name, folder / name, folder / LAST)
        callbacks = self.callbacks(name)
        fitted = method.fit(network, self.records, config, place=place, callbacks=callbacks)
        labels, model, image = self.records.labels, asdict(config.model), config.image
        save_trained(place.folder, network, fitted.best[0], labels, model, image)
        return fitted.cost

    def teachers(self, folder: Path, strategy: str) -> Cost:
        """Train a strategy's teachers, on one pass over the pictures or one after another."""
        partition, config = self._models.partition(strategy), self._teacher_config(strategy)
        name = ensemble_name(strategy)
        if config.teachers.given is not None:
            given_models.copy_teachers(config, partition, folder / name)
            return Cost()
        if not config.teachers.together or self._begun_apart(folder, strategy):
            parts = range(partition.num_parts)
            return sum((self._teacher(folder, strategy, index) for index in parts), Cost())
        teachers = self._models.untrained_teachers(strategy)
        ensemble = TeacherEnsemble(partition, teachers)
        place = Place(name, folder / name, folder / LAST)
        callbacks = self.callbacks(name)
        fitted = method.fit(ensemble, self.records, config, place=place, callbacks=callbacks)
        for index, (teacher, best) in enumerate(zip(teachers, fitted.best, strict=True)):
            self._save_teacher(place.folder / str(index), strategy, index, teacher, best)
        return fitted.cost

    def teacher_pieces(self, folder: Path, strategy: str) -> Pieces:
        """Return the teachers that may still be trained apart, by the numbers of their parts.

        Those that stand on one trunk are best trained together, which computes it once, and those
        that began together go on so.
        """
        config = self._teacher_config(strategy)
        begun_together = config.teachers.together and (folder / LAST).exists()
        one_trunk = config.teachers.shared_stages > 0
        if config.teachers.given is not None or begun_together or one_trunk:
            return {}
        return {
            str(index): partial(self._teacher, folder, strategy, index)
            for index in range(self._models.partition(strategy).num_parts)
            if not _finished_teacher(folder, index).exists()
        }

    def _begun_apart(self, folder: Path, strategy: str) -> bool:
        return any(
            (folder / f"{index}.ckpt").exists() or _finished_teacher(folder, index).exists()
            for index in range(self._models.partition(strategy).num_parts)
        )

    def _teacher(self, folder: Path, strategy: str, index: int) -> Cost:
        """Train the teacher of one part, unless it is done."""
        finished = _finished_teacher(folder, index)
        if finished.exists():
            stage = ensemble_name(strategy)
            return cost_in(read_object(finished, stage), finished, stage)
        config, part = self._teacher_config(strategy), self._models.partition(strategy).parts[index]
        teacher = self._models.untrained_teachers(strategy, (index,))[0]
        name = f"{ensemble_name(strategy)}/{index}"
        place = Place(name, folder / name, folder / f"{index}.ckpt")
        callbacks = self.callbacks(name)
        fitted = method.fit(
            teacher, self.records, config, part=part, place=place, callbacks=callbacks
        )
        self._save_teacher(place.folder, strategy, index, teacher, fitted.best[0])
        write_hashed_json(finished, fitted.cost.to_json())
        place.checkpoint.unlink(missing_ok=True)  # it is the first process that writes it
        return fitted.cost

    def _teacher_config(self, strategy: str) -> RunConfig:
        config = teacher_config(self.config)
        if config.teachers.start == BASELINE and base_strategy(strategy) != strategy:
            # Copies that begin with the same weights would see the same pictures and end the same.
            return replace(config, seed=derive_seed(config.seed, "copy", strategy))
        return config

    def _save_teacher(
        self, folder: Path, strategy: str, index: int, teacher: nn.Module, best: Best
    ) -> None:
        config, partition = self.config, self._models.partition(strategy)
        part = PartCard(strategy, index, partition.hash, config.teachers.shared_stages)
        labels, model = partition.part_labels(index), asdict(config.model)
        save_trained(folder, teacher, best, labels, model, config.image, part)

    def soft_labels(self, folder: Path) -> Cost:
        """Store the teachers' logits for every view of every training picture."""
        teaching = self._models.teaching()
        self._write_soft_labels(folder, teaching)
        # All of it, whatever an earlier attempt has done of it.
        num_views_in_all = len(self.records.indices(TRAIN)) * num_stored_views(self.config)
        num_teachers = sum(
            predictor.partition.num_parts if isinstance(predictor, TeacherEnsemble) else 1
            for predictor in teaching.values()
        )
        flops = inference_cost(MeanPredictor([*teaching.values()]), self.config, num_views_in_all)
        return replace(flops, images_forward=num_views_in_all * num_teachers)

    def soft_label_pieces(self, folder: Path) -> Pieces:
        """Return the chunks that are still to write, by their numbers."""
        num_images = len(self.records.indices(TRAIN))
        return {
            str(chunk): partial(self._soft_label_chunk, folder, chunk)
            for chunk in unwritten_chunks(folder / "soft_labels", num_images)
        }

    def _soft_label_chunk(self, folder: Path, chunk: int) -> None:
        self._write_soft_labels(folder, self._models.teaching(), chunk)

    def _write_soft_labels(
        self, folder: Path, teaching: Mapping[str, nn.Module], chunk: int | None = None
    ) -> None:
        with computing(self.config), self.counting("soft-labels") as progress:
            write_soft_labels(
                folder / "soft_labels",
                teaching,
                self.records,
                self.records.indices(TRAIN).tolist(),
                image=self.config.image,
                num_views=num_stored_views(self.config),
                seed=teacher_config(self.config).seed,
                machine=self.config.machine,
                device=device_of(self.config),
                precision=self.config.training.precision,
                chunk=chunk,
                progress=progress,
            )

    def student(self, folder: Path) -> Cost:
        """Distil the student."""
        network, model = self._models.untrained_student()
        place = Place(STUDENT, folder / STUDENT, folder / LAST)
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


def num_stored_views(config: RunConfig) -> int:
    """Return V; by default one view for each epoch of the student, nothing approximated."""
    return config.distillation.views or student_config(config).training.epochs


def _finished_teacher(folder: Path, index: int) -> Path:
    """Return what says, in an unfinished stage, that a teacher is done, and what it has cost."""
    return folder / f"{index}.json"
