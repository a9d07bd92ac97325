"""What a run's predictions say beyond scores: intervals, context, calibration, likely label errors.

RUN/findings/<finding>-<split>.json, one for each test split, and of the validation split the likely
label errors with their sheet of pictures. Each finding's own module says what its figures are.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cpsd.config import EvaluationConfig
from cpsd.data.records import TRAIN, VALIDATION, Records
from cpsd.evaluation.biased_pairs import choose_biased_pairs, find_biased_pairs
from cpsd.evaluation.calibration import find_calibration
from cpsd.evaluation.context import find_context
from cpsd.evaluation.intervals import LEVEL, ArmScores, difference, interval
from cpsd.evaluation.label_errors import find_label_errors
from cpsd.evaluation.metrics import METRICS, evaluate
from cpsd.evaluation.resampling import draw_image_weights, resampled_metrics
from cpsd.evaluation.scoreboard import BASELINE, STUDENT, TEACHERS
from cpsd.evaluation.temperatures import fit_temperatures
from cpsd.evaluation.threshold_choice import find_thresholds
from cpsd.evaluation.unseen_combinations import find_unseen_combinations
from cpsd.evaluation.verdict import verdict
from cpsd.files import write_json, written_whole
from cpsd.report.label_error_sheet import label_error_sheet
from cpsd.run_predictions import chosen_thresholds, read_logits, threshold_of
from cpsd.seeds import derive_seed

NUM_RESAMPLES = 2000
"""Of the test pictures: the ends of a 95 % interval hardly move with more."""

Logits = Mapping[str, NDArray[np.float32]]
Thresholds = Mapping[str, float | NDArray[np.float64]]


def write_findings(
    folder: Path,
    run: Path,
    records: Records,
    predictors: Sequence[str],
    settings: EvaluationConfig,
    *,
    seed: int,
) -> None:
    """Write all findings of a run into ``folder``.

    Args:
        folder: where to.
        run: the run directory, with predictions.
        records: the pictures.
        predictors: by the names of their predictions.
        settings: thresholds and their criterion.
        seed: of the run, which its intervals name.

    Raises:
        RunError: predictions are missing or damaged, or the disk is full.
    """
    labels = records.labels
    known = read_logits(run, predictors, VALIDATION)
    known_targets_NC = records.targets[records.indices(VALIDATION)]
    thresholds = {name: threshold_of(run, name, settings) for name in predictors}
    chosen = chosen_thresholds(run, predictors, settings.thresholds or "f1")
    temperatures = {
        name: fit_temperatures(logits_NC, known_targets_NC, labels)
        for name, logits_NC in known.items()
    }
    pairs = choose_biased_pairs(known[BASELINE], known_targets_NC, labels)
    training_MC = records.targets[records.indices(TRAIN)]
    for split in records.test_splits():
        logits = read_logits(run, predictors, split)
        targets_NC = records.targets[records.indices(split)]
        found: dict[str, dict[str, Any]] = {
            "intervals": _intervals(logits, targets_NC, records, thresholds, seed=seed),
            "context": find_context(
                logits, targets_NC, labels, threshold=thresholds[STUDENT]
            ).to_json(),
            "unseen-combinations": find_unseen_combinations(
                logits, targets_NC, labels, training_MC=training_MC
            ).to_json(),
            "biased-pairs": find_biased_pairs(logits, targets_NC, labels, pairs=pairs).to_json(),
            "thresholds": find_thresholds(logits, targets_NC, labels, thresholds=chosen).to_json(),
            "calibration": find_calibration(
                logits, targets_NC, labels, temperatures=temperatures
            ).to_json(),
        }
        for name, content in found.items():
            write_json(folder / f"{name}-{split}.json", {"split": split, **content})
    _write_label_errors(folder, records, known)


def _write_label_errors(folder: Path, records: Records, known: Logits) -> None:
    """Write what the teacher ensembles say of the validation targets, which they never learned."""
    ensembles = {name: known[name] for name in known if name.startswith(f"{TEACHERS}/")}
    rows = records.indices(VALIDATION)
    errors = find_label_errors(
        ensembles,
        records.targets[rows],
        records.labels,
        images=[records.paths[row] for row in rows],
    )
    name = f"label-errors-{VALIDATION}"
    write_json(folder / f"{name}.json", {"split": VALIDATION, **errors.to_json()})
    sheet = label_error_sheet(errors.entries, root=records.root)
    with written_whole(folder / f"{name}.png") as temporary:
        sheet.save(temporary, format="PNG")


def _intervals(
    logits: Logits,
    targets_NC: NDArray[np.int8],
    records: Records,
    thresholds: Thresholds,
    *,
    seed: int,
) -> dict[str, Any]:
    """Return intervals over test pictures: of one training, chance in training is not covered."""
    images = derive_seed(0, "test images")
    weights_NR = draw_image_weights(len(targets_NC), NUM_RESAMPLES, seed=images)
    scores: dict[str, dict[str, ArmScores]] = {}
    for name, logits_NC in logits.items():
        threshold = thresholds[name]
        metrics = evaluate(logits_NC, targets_NC, records.labels, threshold=threshold)
        resampled = resampled_metrics(logits_NC, targets_NC, weights_NR, threshold=threshold)
        ensemble = name.startswith(TEACHERS)
        scores[name] = {
            metric: ArmScores(
                points=np.array([getattr(metrics, metric)]),
                resampled=np.asarray(getattr(resampled, metric))[None],
                seeds=None if ensemble else (seed,),
                teacher_sets=None if name == BASELINE else (0,),
            )
            for metric in METRICS
            if np.isfinite(getattr(metrics, metric))
        }
    differences = {
        name: {
            metric: difference(own, scores[BASELINE][metric])
            for metric, own in scores[name].items()
            if metric in scores[BASELINE]
        }
        for name in scores
        if name != BASELINE
    }
    verdicts = [
        verdict(found[METRICS[0]], arm=name, reference=BASELINE).to_json()
        for name, found in differences.items()
        if name == STUDENT and METRICS[0] in found
    ]
    return {
        "num_resamples": NUM_RESAMPLES,
        "level": LEVEL,
        "predictors": {
            name: {metric: interval(own).to_json() for metric, own in by_metric.items()}
            for name, by_metric in scores.items()
        },
        "differences": {
            name: {metric: one.to_json() for metric, one in by_metric.items()}
            for name, by_metric in differences.items()
        },
        "verdicts": verdicts,
    }
