"""Where a run keeps its predictions, and the thresholds that follow from those on validation."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cpsd.config import EvaluationConfig
from cpsd.data.records import VALIDATION
from cpsd.evaluation.prediction_files import open_predictions, read_predictions
from cpsd.evaluation.threshold_choice import choose_thresholds
from cpsd.evaluation.thresholds import Criterion, Thresholds

PREDICTIONS = "predictions"


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


def read_logits(run: Path, names: Sequence[str], split: str) -> dict[str, NDArray[np.float32]]:
    """Return the logits (N, C) of predictors on a split, by name.

    Raises:
        RunError: a file is missing or damaged.
    """
    return {name: read_predictions(predictions_file(run, name, split)).logits for name in names}


def chosen_thresholds(run: Path, names: Sequence[str], criterion: str) -> dict[str, Thresholds]:
    """Return each predictor's thresholds, chosen on the validation pictures.

    Args:
        run: with predictions of all of them.
        names: of predictors.
        criterion: as ``evaluation.thresholds`` has it.

    Raises:
        ConfigError: no such criterion.
        RunError: a file is missing or damaged.
    """
    chosen = {}
    for name in names:
        known = read_predictions(predictions_file(run, name, VALIDATION))
        chosen[name] = choose_thresholds(
            known.logits, known.targets, known.labels, criterion=Criterion.from_text(criterion)
        )
    return chosen


def threshold_of(run: Path, name: str, settings: EvaluationConfig) -> float | NDArray[np.float64]:
    """Return the probability from which a predictor's labels count as predicted, or (C,) of them.

    Raises:
        ConfigError: no such criterion.
        RunError: a file is missing or damaged.
    """
    if settings.thresholds is None:
        return settings.threshold
    labels = open_predictions(predictions_file(run, name, VALIDATION)).labels
    return chosen_thresholds(run, [name], settings.thresholds)[name].of(labels)


def thresholds_of(
    run: Path, names: Sequence[str], settings: EvaluationConfig
) -> Mapping[str, float | NDArray[np.float64]]:
    """Return ``threshold_of`` each predictor."""
    return {name: threshold_of(run, name, settings) for name in names}
