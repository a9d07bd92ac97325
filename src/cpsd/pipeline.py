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
from cpsd.data.boxes import BOXES_FILE
from cpsd.data.records import TRAIN, VALIDATION, Records
from cpsd.data.views import VIEWS_VERSION
from cpsd.evaluation.scoreboard import BASELINE, STUDENT, TEACHERS, ensemble_name
from cpsd.evaluation.thresholds import Criterion
from cpsd.fingerprints import data_fingerprint, file_digest, fingerprint, source_digest
from cpsd.method import student_config, teacher_config
from cpsd.run_models import TEACHERS_START, RunModels
from cpsd.run_predictions import PREDICTIONS, predictions_folder
from cpsd.scoring_work import ScoringWork
from cpsd.stage import Stage
from cpsd.trained import TEMPERATURES_FILE, THRESHOLDS_FILE
from cpsd.training.soft_label_writing import Progress, uncounted
from cpsd.training_work import TrainingWork, num_stored_views

LABEL_GRAPH = "label-graph"
START = "teachers-start"
SOFT_LABELS = "soft-labels"
EVALUATION = "evaluation"
FINDINGS = "findings"
CALIBRATION = "calibration"
EXPLANATIONS = "explanations"


class Pipeline:
    """Builds the stages of one run.

    Args:
        config: all settings.
        records: the pictures, split.
        run: the run directory.
        callbacks: Lightning's, for progress; made anew for each training.
        counting: opens what shows the progress of a stage that trains nothing, by its name.

    Raises:
        ConfigError: thresholds by a criterion that there is not.
        DataError: a pack of pictures at another size.
        AddressError: a model that the run is given cannot be fetched from its address.
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
        if config.evaluation.thresholds is not None:
            Criterion.from_text(config.evaluation.thresholds)  # refused now, not after hours
        if records.packed is not None:
            records.packed.require(config.image.size)
        config = given_models.with_copies(config)
        self.config = config
        self.records = records
        models = RunModels(config, records, run)
        self._training = TrainingWork(
            config, records, run, models, callbacks=callbacks, counting=counting
        )
        self._scoring = ScoringWork(config, records, run, models)
        # Trainings read no test picture, so a change there does not touch what was learned.
        seen = [records.indices(split) for split in (TRAIN, VALIDATION)]
        self._learned = data_fingerprint(records.select(np.sort(np.concatenate(seen))))
        self._data = data_fingerprint(records)
        files = [file_digest(config.model.weights), file_digest(config.model.label_embeddings)]
        files.append(source_digest(config.model.factory))
        self._network = [config.image, VIEWS_VERSION, config.model, files, config.loss]

    def stages(self) -> list[Stage]:
        """Return all stages in order; a fingerprint covers everything a result depends on."""
        strategies = self.config.partition.strategies
        partitions = [self._partition(strategy) for strategy in strategies]
        baseline = self._baseline()
        made_of = self.config.teachers.need_baseline
        teaches = self.config.distillation.baseline > 0
        starts = [self._teachers_start(baseline)] if made_of or teaches else []
        of = starts if made_of else []
        teachers = [self._teachers(partition, of) for partition in partitions]
        soft_labels = self._soft_labels([*teachers, *(starts if teaches else [])])
        student = self._student(soft_labels)
        predictions = [self._predictions(trained) for trained in (baseline, *teachers, student)]
        if len(teachers) > 1:
            predictions.append(self._predictions_together(predictions[1:-1]))
        return [
            Stage(
                LABEL_GRAPH,
                fingerprint("label graph", self._data),
                ("labels.json", "label_graph.npz", "splits.csv"),
                self._training.label_graph,
            ),
            *partitions,
            baseline,
            *starts,
            *teachers,
            soft_labels,
            student,
            *predictions,
            self._evaluation(predictions),
            self._calibration([predictions[0], predictions[len(teachers) + 1]]),
            self._findings(predictions),
            self._explanations(predictions[: len(teachers) + 2]),
        ]

    def _partition(self, strategy: str) -> Stage:
        config = self.config
        given = given_models.teacher_digests(config, strategy, self.records.labels)
        settings = replace(config.partition, strategies=(strategy,))
        return Stage(
            f"partitions/{strategy}",
            fingerprint("partition", self._learned, settings, teacher_config(config).seed, given),
            (f"partitions/{strategy}.json",),
            partial(self._training.partition, strategy=strategy),
            needs=(LABEL_GRAPH,),
        )

    def _baseline(self) -> Stage:
        return Stage(
            BASELINE,
            self._plain_training(self.config.seed),
            (BASELINE,),
            self._training.baseline,
            needs=(LABEL_GRAPH,),
            trains=True,
            computes=True,
        )

    def _plain_training(self, seed: int) -> str:
        """Return the fingerprint of the baseline of ``seed``."""
        return fingerprint(BASELINE, self._learned, seed, self._network, self.config.training)

    def _teachers_start(self, baseline: Stage) -> Stage:
        # The baseline of the teachers' seed: runs that share teachers share it by this fingerprint.
        made_by = self._plain_training(teacher_config(self.config).seed)
        return Stage(
            START,
            made_by,
            (TEACHERS_START,),
            partial(self._training.teachers_start, baseline=baseline),
            needs=(baseline.name if made_by == baseline.fingerprint else LABEL_GRAPH,),
            trains=True,
            computes=made_by != baseline.fingerprint,
        )

    def _teachers(self, partition: Stage, starts: Sequence[Stage]) -> Stage:
        strategy = partition.name.partition("/")[2]
        config = teacher_config(self.config)
        # The seed stands in the partition's fingerprint.
        settings = [self._learned, partition.fingerprint, self._network, config.training]
        for start in starts:
            settings += [start.fingerprint, config.teachers.shared_stages, config.teachers.start]
        return Stage(
            ensemble_name(strategy),
            fingerprint(TEACHERS, *settings),
            (ensemble_name(strategy),),
            partial(self._training.teachers, strategy=strategy),
            needs=(partition.name, *(start.name for start in starts)),
            trains=True,
            pieces=partial(self._training.teacher_pieces, strategy=strategy),
            computes=True,
        )

    def _soft_labels(self, teachers: Sequence[Stage]) -> Stage:
        made_by = [stage.fingerprint for stage in teachers]
        precision = self.config.training.precision
        # Given teachers do not depend on it. Of full precision, fingerprints say nothing.
        mixed = () if precision == "32" else (precision,)
        return Stage(
            SOFT_LABELS,
            fingerprint(SOFT_LABELS, made_by, num_stored_views(self.config), *mixed),
            ("soft_labels",),
            self._training.soft_labels,
            needs=tuple(stage.name for stage in teachers),
            pieces=self._training.soft_label_pieces,
            computes=True,
        )

    def _student(self, soft_labels: Stage) -> Stage:
        config = self.config
        settings = [config.distillation, student_config(config).training, config.seed]
        start = given_models.start_digests(config, self.records.labels)
        return Stage(
            STUDENT,
            fingerprint(STUDENT, soft_labels.fingerprint, settings, self._network, start),
            (STUDENT,),
            self._training.student,
            needs=(LABEL_GRAPH, soft_labels.name),
            trains=True,
            computes=True,
        )

    def _predictions(self, trained: Stage) -> Stage:
        name = trained.name
        return Stage(
            f"{PREDICTIONS}/{name}",
            fingerprint(PREDICTIONS, self._data, trained.fingerprint),
            (predictions_folder(name),),
            partial(self._scoring.predictions, name=name),
            needs=(trained.name,),
            computes=True,
        )

    def _predictions_together(self, ensembles: Sequence[Stage]) -> Stage:
        alpha = self.config.distillation.alpha
        return Stage(
            f"{PREDICTIONS}/{TEACHERS}",
            fingerprint(PREDICTIONS, [stage.fingerprint for stage in ensembles], alpha),
            (predictions_folder(TEACHERS),),
            partial(self._scoring.predictions, name=TEACHERS),
            needs=tuple(stage.name for stage in ensembles),
        )

    def _evaluation(self, predictions: Sequence[Stage]) -> Stage:
        predictors = [stage.name.partition("/")[2] for stage in predictions]
        made_by = [stage.fingerprint for stage in predictions]
        return Stage(
            EVALUATION,
            fingerprint(EVALUATION, made_by, self.config.evaluation),
            ("evaluation",),
            partial(self._scoring.evaluation, predictors=predictors),
            needs=tuple(stage.name for stage in predictions),
        )

    def _calibration(self, predictions: Sequence[Stage]) -> Stage:
        made_by = [stage.fingerprint for stage in predictions]
        criterion = self.config.evaluation.thresholds
        files = [TEMPERATURES_FILE, *([] if criterion is None else [THRESHOLDS_FILE])]
        # Those of an earlier setting would be used by who is given the model alone.
        replaces = [THRESHOLDS_FILE] if criterion is None else []
        return Stage(
            CALIBRATION,
            fingerprint(CALIBRATION, made_by, criterion),
            tuple(f"{name}/{file}" for name in (BASELINE, STUDENT) for file in files),
            self._scoring.calibration,
            needs=tuple(stage.name for stage in predictions),
            replaces=tuple(f"{name}/{file}" for name in (BASELINE, STUDENT) for file in replaces),
        )

    def _findings(self, predictions: Sequence[Stage]) -> Stage:
        predictors = [stage.name.partition("/")[2] for stage in predictions]
        made_by = [stage.fingerprint for stage in predictions]
        return Stage(
            FINDINGS,
            fingerprint(FINDINGS, made_by, self.config.evaluation),
            (FINDINGS,),
            partial(self._scoring.findings, predictors=predictors),
            needs=tuple(stage.name for stage in predictions),
        )

    def _explanations(self, predictions: Sequence[Stage]) -> Stage:
        made_by = [stage.fingerprint for stage in predictions]
        boxes = file_digest(str(self.records.root / BOXES_FILE))
        return Stage(
            EXPLANATIONS,
            fingerprint(EXPLANATIONS, made_by, boxes),
            (EXPLANATIONS,),
            self._scoring.explanations,
            needs=tuple(stage.name for stage in predictions),
            computes=True,
        )
