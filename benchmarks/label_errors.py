"""How many planted label errors a finished run's two teacher ensembles find, beside cleanlab.

    python benchmarks/label_errors.py RUN [--split validation] [--rates 0.01 0.05] [--seeds 5]

Targets of the run's stored predictions are flipped, nothing is trained or predicted again: the
ensembles have never seen the split, so this is what would be found had the files been wrong. A
figure is the precision at the number planted, as mean and standard deviation over seeds: of as many
entries as were flipped, the most suspicious ones, the share that was flipped. Errors that the data
have of themselves count against a ranking that finds them.

- `ours`: `cpsd.evaluation.label_errors`, on both ensembles.
- `cleanlab`: its quality of each target (self-confidence), on the mean probability of the two.
- `cleanlab, filtered`: the same order, those first that its confident learning calls issues.
- `cleanlab, calibrated`: its quality on our calibrated probabilities, to tell the calibration from
  the ranking. It takes errors to strike all targets alike, ours estimates how often each kind
  occurs.

Flips are `uniform` over all targets, `balanced` (as many present as absent targets) or `missing`
(present ones only: labels that were forgotten). Needs cleanlab (pip install cleanlab).
"""

import argparse
from collections.abc import Mapping
from pathlib import Path
from statistics import mean, stdev
from typing import get_args

import numpy as np
from cleanlab.multilabel_classification.filter import (  # type: ignore[import-untyped, unused-ignore]
    find_multilabel_issues_per_class,
)
from cleanlab.multilabel_classification.rank import (  # type: ignore[import-untyped, unused-ignore]
    get_label_quality_scores_per_class,
)
from numpy.typing import NDArray
from scipy.special import expit

from cpsd.errors import CpsdError
from cpsd.evaluation.label_errors import calibrated, label_quality
from cpsd.evaluation.planted_errors import FlipKind, plant_errors, precision_at_planted
from cpsd.evaluation.prediction_files import read_predictions
from cpsd.evaluation.predictions import Predictions
from cpsd.labels import PRESENT, UNKNOWN, Targets

ENSEMBLES = ("teachers.co-occurrence", "teachers.dis-occurrence")
RATES = (0.01, 0.02, 0.05)

Floats = NDArray[np.float64]


def scores_by_ranking(
    logits: Mapping[str, NDArray[np.float32]], targets_NC: Targets
) -> dict[str, Floats]:
    """Return each ranking's score ``(N, C)`` of every target; low means suspicious."""
    given = [np.flatnonzero(row == PRESENT).tolist() for row in targets_NC]
    plain_NC = np.mean([expit(z_NC.astype(np.float64)) for z_NC in logits.values()], axis=0)
    present_NC = targets_NC == PRESENT
    both_NC = np.mean(
        [
            [calibrated(z_NC[:, c], present_NC[:, c]) for c in range(targets_NC.shape[1])]
            for z_NC in logits.values()
        ],
        axis=0,
    ).T
    quality_NC = _quality(given, plain_NC)
    issues_NC = np.array(find_multilabel_issues_per_class(given, plain_NC, n_jobs=1))
    return {
        "ours": label_quality(logits, targets_NC).score,
        "cleanlab": quality_NC,
        "cleanlab, filtered": quality_NC + ~issues_NC.reshape(targets_NC.shape),
        "cleanlab, calibrated": _quality(given, expit(both_NC)),
    }


def table(predictions: Mapping[str, Predictions], *, rates: list[float], seeds: int) -> list[str]:
    """Return the lines of the table: a row for each kind of flip, rate and ranking's figures."""
    lines: list[str] = []
    logits, targets_NC = judged(predictions)
    for kind in get_args(FlipKind):
        for rate in rates:
            found: dict[str, list[float]] = {}
            for seed in range(seeds):
                flipped, planted = plant_errors(targets_NC, rate=rate, seed=seed, kind=kind)
                for name, score in scores_by_ranking(logits, flipped).items():
                    found.setdefault(name, []).append(precision_at_planted(score, planted))
            if not lines:
                lines = [f"| flips | rate | planted | {' | '.join(found)} |", "|---" * 7 + "|"]
            cells = " | ".join(_mean_and_spread(values) for values in found.values())
            lines.append(f"| {kind} | {rate:g} | {int(planted.sum())} | {cells} |")
    return lines


def judged(
    predictions: Mapping[str, Predictions],
) -> tuple[dict[str, NDArray[np.float32]], Targets]:
    """Return logits and targets of what every ranking can judge.

    These are the images without an unknown target, which cleanlab does not know, and the labels
    with enough positives and negatives that flips leave some of each.

    Raises:
        SystemExit: nothing is left.
    """
    targets_NC = next(iter(predictions.values())).targets
    whole_N = (targets_NC != UNKNOWN).all(axis=1)
    positives_C = (targets_NC[whole_N] == PRESENT).sum(axis=0)
    fit_C = (positives_C >= 5) & (positives_C <= whole_N.sum() - 5)
    if not fit_C.any():
        raise SystemExit("No label of this split has 5 known positives and 5 known negatives.")
    rows_and_columns = np.ix_(whole_N, fit_C)
    logits = {name: own.logits[rows_and_columns] for name, own in predictions.items()}
    return logits, targets_NC[rows_and_columns]


def _quality(given: list[list[int]], probabilities_NC: Floats) -> Floats:
    quality = np.asarray(get_label_quality_scores_per_class(given, probabilities_NC))
    return quality.reshape(probabilities_NC.shape)


def _mean_and_spread(values: list[float]) -> str:
    spread = f" ± {stdev(values):.3f}" if len(values) > 1 else ""
    return f"{mean(values):.3f}{spread}"


def main() -> None:
    """Print the table of the run named on the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("--split", default="validation")
    parser.add_argument("--rates", nargs="+", type=float, default=list(RATES))
    parser.add_argument("--seeds", type=int, default=5)
    arguments = parser.parse_args()
    try:
        predictions = {
            name: read_predictions(
                arguments.run / "predictions" / name / f"{arguments.split}.parquet"
            )
            for name in ENSEMBLES
        }
    except CpsdError as error:
        raise SystemExit(str(error)) from error
    lines = table(predictions, rates=arguments.rates, seeds=arguments.seeds)
    print("\n".join(lines))  # noqa: T201 - what the script is for


if __name__ == "__main__":
    main()
