"""The stages of a run, in order: what each needs, what it makes, and what its result depends on.

records -> label graph -> partitions -> teachers -> soft labels -> student -> predictions
                                        baseline ---------------------------^      |
                                                                              evaluation
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from functools import partial
from pathlib import Path

import lightning
import numpy as np

from cpsd import given_models
from cpsd.config import RunConfig
from cpsd.data.records import TRAIN, VALIDATION, Records
from cpsd.evaluation.scoreboard import BASELINE, STUDENT, TEACHERS, ensemble_name
from cpsd.fingerprints import data_fingerprint, file_digest, fingerprint, source_digest
from cpsd.method import student_config, teacher_config
from cpsd.run import Stage
from cpsd.stage_work import PREDICTIONS, StageWork, num_stored_views, predictions_folder
from cpsd.training.soft_labels import Progress, uncounted

LABEL_GRAPH = "label-graph"
SOFT_LABELS = "soft-labels"
EVALUATION = "evaluation"


class Pipeline:
    """Builds the stages of one run.

    Args:
        config: all settings.
        records: the pictures, split.
        run: the run directory.
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
        self._work = StageWork(config, records, run, callbacks=callbacks, counting=counting)
        # Trainings read no test picture, so a change there does not touch what was learned.
        seen = [records.indices(split) for split in (TRAIN, VALIDATION)]
        self._learned = data_fingerprint(records.select(np.sort(np.concatenate(seen))))
        self._data = data_fingerprint(records)
        files = [file_digest(config.model.weights), file_digest(config.model.label_embeddings)]
        files.append(source_digest(config.model.factory))
        self._network = [config.image, config.model, files, config.loss]

    def stages(self) -> list[Stage]:
        """Return all stages in order; a fingerprint covers everything a result depends on."""
        strategies = self.config.partition.strategies
        partitions = [self._partition(strategy) for strategy in strategies]
        teachers = [self._teachers(partition) for partition in partitions]
        soft_labels = self._soft_labels(teachers)
        baseline, student = self._baseline(), self._student(soft_labels)
        predictions = [self._predictions(trained) for trained in (baseline, *teachers, student)]
        if len(teachers) > 1:
            predictions.append(self._predictions_together(predictions[1:-1]))
        return [
            Stage(
                LABEL_GRAPH,
                fingerprint("label graph", self._data),
                ("labels.json", "label_graph.npz", "splits.csv"),
                self._work.label_graph,
            ),
            *partitions,
            baseline,
            *teachers,
            soft_labels,
            student,
            *predictions,
            self._evaluation(predictions),
        ]

    def _partition(self, strategy: str) -> Stage:
        config = self.config
        given = given_models.teacher_digests(config, strategy, self.records.labels)
        settings = replace(config.partition, strategies=(strategy,))
        return Stage(
            f"partitions/{strategy}",
            fingerprint("partition", self._learned, settings, teacher_config(config).seed, given),
            (f"partitions/{strategy}.json",),
            partial(self._work.partition, strategy=strategy),
            needs=(LABEL_GRAPH,),
        )

    def _baseline(self) -> Stage:
        config = self.config
        return Stage(
            BASELINE,
            fingerprint(BASELINE, self._learned, config.seed, self._network, config.training),
            (BASELINE,),
            self._work.baseline,
            needs=(LABEL_GRAPH,),
        )

    def _teachers(self, partition: Stage) -> Stage:
        strategy = partition.name.partition("/")[2]
        training = teacher_config(self.config).training
        return Stage(
            ensemble_name(strategy),
            # The seed stands in the partition's fingerprint.
            fingerprint(TEACHERS, self._learned, partition.fingerprint, self._network, training),
            (ensemble_name(strategy),),
            partial(self._work.teachers, strategy=strategy),
            needs=(partition.name,),
        )

    def _soft_labels(self, teachers: Sequence[Stage]) -> Stage:
        made_by = [stage.fingerprint for stage in teachers]
        return Stage(
            SOFT_LABELS,
            fingerprint(SOFT_LABELS, made_by, num_stored_views(self.config)),
            ("soft_labels",),
            self._work.soft_labels,
            needs=tuple(stage.name for stage in teachers),
        )

    def _student(self, soft_labels: Stage) -> Stage:
        config = self.config
        settings = [config.distillation, student_config(config).training, config.seed]
        start = given_models.start_digests(config, self.records.labels)
        return Stage(
            STUDENT,
            fingerprint(STUDENT, soft_labels.fingerprint, settings, self._network, start),
            (STUDENT,),
            self._work.student,
            needs=(LABEL_GRAPH, soft_labels.name),
        )

    def _predictions(self, trained: Stage) -> Stage:
        name = trained.name
        return Stage(
            f"{PREDICTIONS}/{name}",
            fingerprint(PREDICTIONS, self._data, trained.fingerprint),
            (predictions_folder(name),),
            partial(self._work.predictions, name=name),
            needs=(trained.name,),
        )

    def _predictions_together(self, ensembles: Sequence[Stage]) -> Stage:
        alpha = self.config.distillation.alpha
        return Stage(
            f"{PREDICTIONS}/{TEACHERS}",
            fingerprint(PREDICTIONS, [stage.fingerprint for stage in ensembles], alpha),
            (predictions_folder(TEACHERS),),
            partial(self._work.predictions, name=TEACHERS),
            needs=tuple(stage.name for stage in ensembles),
        )

    def _evaluation(self, predictions: Sequence[Stage]) -> Stage:
        predictors = [stage.name.partition("/")[2] for stage in predictions]
        made_by = [stage.fingerprint for stage in predictions]
        return Stage(
            EVALUATION,
            fingerprint(EVALUATION, made_by, self.config.evaluation),
            ("evaluation",),
            partial(self._work.evaluation, predictors=predictors),
            needs=tuple(stage.name for stage in predictions),
        )
