"""What the stages of a run do with what was trained: predict, score, look closer."""

import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cpsd import method
from cpsd.computing import computing
from cpsd.config import RunConfig
from cpsd.cost import Cost
from cpsd.data.records import VALIDATION, Records
from cpsd.evaluation.prediction_files import read_predictions, write_predictions
from cpsd.evaluation.predictions import Predictions
from cpsd.evaluation.scoreboard import (
    BASELINE,
    STUDENT,
    TEACHERS,
    ensemble_name,
    score,
    together,
)
from cpsd.evaluation.temperatures import fit_temperatures
from cpsd.explain.explanations import write_explanations
from cpsd.files import write_json
from cpsd.findings import write_findings
from cpsd.flops import counted
from cpsd.inference_cost import inference_cost
from cpsd.losses.objective import strategy_shares
from cpsd.models.ensemble import TeacherEnsemble
from cpsd.run_models import RunModels
from cpsd.run_predictions import (
    chosen_thresholds,
    predictions_file,
    read_logits,
    thresholds_of,
)
from cpsd.trained import TEMPERATURES_FILE, THRESHOLDS_FILE


class ScoringWork:
    """Predicts with every predictor of a run and says what the predictions tell.

    Args:
        config: all settings.
        records: the pictures, split.
        run: the run directory, where results of earlier stages lie.
        models: its networks.
    """

    def __init__(self, config: RunConfig, records: Records, run: Path, models: RunModels) -> None:
        self.config = config
        self.records = records
        self.run = run
        self._models = models
        self._strategies = config.partition.strategies

    def predictions(self, folder: Path, name: str) -> Cost:
        """Predict the validation and test pictures with the predictor ``name``."""
        if name == TEACHERS:
            return self._predictions_together(folder)
        predictor = self._models.predictor(name)
        networks = len(predictor.teachers) if isinstance(predictor, TeacherEnsemble) else 1
        cost = Cost()
        for split in self.scored_splits():
            rows = self.records.indices(split)
            logits_NC = method.predict(predictor, self.records, rows, self.config)
            self._write_predictions(folder, name, split, rows, logits_NC)
            passed = inference_cost(predictor, self.config, len(rows))
            cost += replace(passed, images_forward=len(rows) * networks)
        return cost

    def evaluation(self, folder: Path, predictors: Sequence[str]) -> Cost:
        """Score all predictors on the test splits."""
        settings = self.config.evaluation
        thresholds = thresholds_of(self.run, predictors, settings)
        for split in self.records.test_splits():
            logits = read_logits(self.run, predictors, split)
            targets_NC = self.records.targets[self.records.indices(split)]
            board = score(logits, targets_NC, self.records.labels, settings, thresholds=thresholds)
            write_json(folder / "evaluation" / f"{split}.json", {"split": split, **board.to_json()})
        return Cost()

    def calibration(self, folder: Path) -> Cost:
        """Leave temperatures, and thresholds where they are asked for, beside the models."""
        criterion = self.config.evaluation.thresholds
        for name in (BASELINE, STUDENT):
            known = read_predictions(predictions_file(self.run, name, VALIDATION))
            temperatures = fit_temperatures(known.logits, known.targets, known.labels)
            write_json(folder / name / TEMPERATURES_FILE, temperatures.to_json())
            if criterion is not None:
                thresholds = chosen_thresholds(self.run, [name], criterion)[name]
                write_json(folder / name / THRESHOLDS_FILE, thresholds.to_json())
        return Cost()

    def findings(self, folder: Path, predictors: Sequence[str]) -> Cost:
        """Say what the predictions tell beyond scores."""
        config = self.config
        write_findings(
            folder / "findings",
            self.run,
            self.records,
            predictors,
            config.evaluation,
            seed=config.seed,
        )
        return Cost()

    def explanations(self, folder: Path) -> Cost:
        """Show where the predictors look, and score it where the data know the place."""
        names = [BASELINE, *map(ensemble_name, self._strategies), STUDENT]
        predictors = {name: self._models.predictor(name) for name in names}
        logits = {
            split: read_logits(self.run, names, split) for split in self.records.test_splits()
        }
        place = folder / "explanations"
        if place.exists():
            shutil.rmtree(place)  # what a killed attempt has left
        place.mkdir()
        with computing(self.config), counted() as counter:
            write_explanations(place, place, predictors, self.records, logits, self.config)
        # How many pictures is a question of what there was to show; both directions are together.
        flops = None if counter.reason else counter.flops
        return Cost(flops_forward=flops, not_counted=counter.reason)

    def scored_splits(self) -> list[str]:
        """Return the splits that are predicted: validation, then the test splits."""
        return [VALIDATION, *self.records.test_splits()]

    def _predictions_together(self, folder: Path) -> Cost:
        strategies = self._strategies
        shares = strategy_shares(self.config.distillation.alpha, len(strategies))
        names = [ensemble_name(strategy) for strategy in strategies]
        for split in self.scored_splits():
            logits = read_logits(self.run, names, split)
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
