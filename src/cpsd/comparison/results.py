"""What a comparison has found so far: scores, intervals, differences, costs and verdicts.

A row of the table is an arm, or the teachers of one. All rows are scored under the same resamples
of the test pictures, so that differences are paired.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cpsd.comparison.arms import BASELINE_LONG, CPSD
from cpsd.comparison.runs import ComparedRun, Plan
from cpsd.config import EvaluationConfig
from cpsd.cost import Cost, passes, plain_trainings
from cpsd.evaluation.intervals import METHOD, ArmScores, Interval, difference, interval
from cpsd.evaluation.metrics import METRICS, Metrics, evaluate
from cpsd.evaluation.prediction_files import read_predictions
from cpsd.evaluation.resampling import draw_image_weights, resampled_metrics
from cpsd.evaluation.scoreboard import BASELINE, TEACHERS
from cpsd.evaluation.verdict import headline, verdict
from cpsd.run_predictions import predictions_file, threshold_of
from cpsd.seeds import derive_seed
from cpsd.training.learning_curve import read_learning_curve

REFERENCES = (BASELINE, BASELINE_LONG)
"""What every other row is held against."""


@dataclass(frozen=True, eq=False)
class Scored:
    """The scores of one predictor of one run on one split.

    Args:
        metrics: on the split as it is.
        resampled: each of ``METRICS`` under every resample, ``(R,)``.
    """

    metrics: Metrics
    resampled: Mapping[str, NDArray[np.float64]]


@dataclass
class Row:
    """A row of the table: an arm, or the teachers of one, over what has been run so far.

    Args:
        name: ``cpsd``, or ``cpsd: teachers/co-occurrence``.
        description: of the arm.
        taught: there are teachers, or it is some.
        seeds: of the scores; empty for teachers.
        teacher_sets: of the scores.
        scores: by split, one a seed or teacher set.
        runs: where they come from.
        costs: of each.
    """

    name: str
    description: str
    taught: bool
    seeds: list[int] = field(default_factory=list)
    teacher_sets: list[int] = field(default_factory=list)
    scores: dict[str, list[Scored]] = field(default_factory=dict)
    runs: list[ComparedRun] = field(default_factory=list)
    costs: list[Cost] = field(default_factory=list)

    def arm_scores(self, split: str, metric: str) -> ArmScores:
        """Return what intervals are made of."""
        scored = self.scores[split]
        return ArmScores(
            points=np.array([getattr(one.metrics, metric) for one in scored]),
            resampled=np.stack([one.resampled[metric] for one in scored]),
            seeds=tuple(self.seeds) or None,
            teacher_sets=tuple(self.teacher_sets) if self.taught else None,
        )


class Results:
    """Collects the runs of a comparison as they come.

    Args:
        folder: of the comparison.
        plan: what it is made of.
        splits: test splits that are scored.
        settings: how.
        num_resamples: of the test pictures of each split.
    """

    def __init__(
        self,
        folder: Path,
        plan: Plan,
        splits: Sequence[str],
        settings: EvaluationConfig,
        *,
        num_resamples: int,
    ) -> None:
        self.folder = folder
        self.plan = plan
        self.splits = tuple(splits)
        self.settings = settings
        self.num_resamples = num_resamples
        self.rows: dict[str, Row] = {}
        # Intervals take milliseconds each, and most stay as they are when a run comes.
        self._intervals: dict[tuple[object, ...], Interval] = {}

    def add(self, run: ComparedRun) -> None:
        """Score a run and put it into its rows.

        Raises:
            RunError: its predictions are missing or damaged.
        """
        arm = run.arm
        taught = arm.predictor != BASELINE
        row = self.rows.setdefault(arm.name, Row(arm.name, arm.description, taught))
        row.seeds.append(run.seed)
        row.runs.append(run)
        row.costs.append(run.cost)
        row.teacher_sets.append(run.teacher_set)
        self._score(row, run, arm.predictor)
        for ensemble in arm.ensembles:
            name = f"{arm.name}: {ensemble}"
            which = "all together" if ensemble == TEACHERS else ensemble.removeprefix("teachers/")
            row = self.rows.setdefault(
                name, Row(name, f"the teachers of {arm.name}, {which}", True)
            )
            if run.teacher_set not in row.teacher_sets:
                row.teacher_sets.append(run.teacher_set)
                row.runs.append(run)
                row.costs.append(run.teacher_costs[ensemble])
                self._score(row, run, ensemble)

    def to_json(self) -> dict[str, Any]:
        """Return what ``compare.json`` holds."""
        plain = _mean(self.rows[BASELINE].costs)
        rows = [self._row_json(row, plain) for row in self.rows.values()]
        return {
            "format_version": 1,
            "seeds": self.plan.num_seeds,
            "teacher_sets": self.plan.num_teacher_sets,
            "runs_done": sum(len(row.runs) for row in self.rows.values() if row.seeds),
            "runs_planned": self.plan.num_seeds * len(self.plan.arms),
            "splits": list(self.splits),
            "num_resamples": self.num_resamples,
            "threshold": self.settings.thresholds or self.settings.threshold,
            "rows": rows,
            "verdicts": self._verdicts(),
            "method": METHOD,
        }

    def _score(self, row: Row, run: ComparedRun, predictor: str) -> None:
        for split in self.splits:
            predictions = read_predictions(predictions_file(run.path, predictor, split))
            threshold = threshold_of(run.path, predictor, self.settings)
            logits_NC, targets_NC = predictions.logits, predictions.targets
            metrics = evaluate(
                logits_NC,
                targets_NC,
                predictions.labels,
                threshold=threshold,
                top_k=self.settings.top_k,
            )
            # The same seed for every predictor: what is paired is paired by these.
            seed = derive_seed(0, "test images")
            weights_NR = draw_image_weights(len(logits_NC), self.num_resamples, seed=seed)
            resampled = resampled_metrics(logits_NC, targets_NC, weights_NR, threshold=threshold)
            by_metric = {metric: getattr(resampled, metric) for metric in METRICS}
            row.scores.setdefault(split, []).append(Scored(metrics, by_metric))

    def _row_json(self, row: Row, plain: Cost) -> dict[str, Any]:
        return {
            "name": row.name,
            "description": row.description,
            "runs": [self._run_json(row, number) for number in range(len(row.runs))],
            "cost": _cost_json(_mean(row.costs), plain),
            "intervals": {
                split: {metric: self._interval(row, split, metric).to_json() for metric in METRICS}
                for split in self.splits
            },
            "differences": {
                reference: self._differences(row, self.rows[reference])
                for reference in REFERENCES
                if reference in self.rows and reference != row.name
            },
            "average_precision": {
                split: _mean_by_label([scored.metrics for scored in row.scores[split]])
                for split in self.splits
            },
        }

    def _run_json(self, row: Row, number: int) -> dict[str, Any]:
        run, cost = row.runs[number], row.costs[number]
        # Teachers, who have no seed, are several trainings and none of them all labels'.
        curve = read_learning_curve(run.path / run.arm.predictor) if row.seeds else None
        return {
            "path": run.path.relative_to(self.folder).as_posix(),
            "seed": run.seed if row.seeds else None,
            "teacher_set": run.teacher_set if row.taught else None,
            "cost": {**cost.to_json(), "passes": passes(cost)},
            "learning_curve": None if curve is None else curve.to_json(),
            "scores": {
                split: {
                    metric: getattr(row.scores[split][number].metrics, metric) for metric in METRICS
                }
                for split in self.splits
            },
        }

    def _differences(self, row: Row, reference: Row) -> dict[str, Any]:
        """Return the row minus the reference; null where they have no seed in common yet."""
        if row.seeds and not self._share_seeds(row.name, reference.name):
            return dict.fromkeys(self.splits)
        return {
            split: {
                metric: self._difference(row, reference, split, metric).to_json()
                for metric in METRICS
            }
            for split in self.splits
        }

    def _verdicts(self) -> dict[str, Any]:
        """Return, by split, what the intervals say about the method."""
        found = {}
        for split in self.splits:
            against = {
                reference: verdict(
                    self._difference(self.rows[CPSD], self.rows[reference], split, METRICS[0]),
                    arm=CPSD,
                    reference=reference,
                )
                for reference in REFERENCES
                if self._share_seeds(CPSD, reference)
            }
            found[split] = {
                "headline": headline(*against.values()) if len(against) == 2 else None,
                "verdicts": [one.to_json() for one in against.values()],
            }
        return found

    def _interval(self, row: Row, split: str, metric: str) -> Interval:
        key = (row.name, len(row.runs), split, metric)
        if key not in self._intervals:
            self._intervals[key] = interval(row.arm_scores(split, metric))
        return self._intervals[key]

    def _difference(self, row: Row, reference: Row, split: str, metric: str) -> Interval:
        key = (row.name, len(row.runs), reference.name, len(reference.runs), split, metric)
        if key not in self._intervals:
            self._intervals[key] = difference(
                row.arm_scores(split, metric), reference.arm_scores(split, metric)
            )
        return self._intervals[key]

    def _share_seeds(self, first: str, second: str) -> bool:
        seeds = [set(self.rows[name].seeds) for name in (first, second) if name in self.rows]
        return len(seeds) == 2 and bool(seeds[0] & seeds[1])


def _mean(costs: Sequence[Cost]) -> Cost:
    return sum(costs, Cost()).share(1 / len(costs))


def _cost_json(cost: Cost, plain: Cost) -> dict[str, Any]:
    return {**cost.to_json(), "passes": passes(cost), **plain_trainings(cost, plain)}


def _mean_by_label(metrics: Sequence[Metrics]) -> dict[str, float | None]:
    """Return the mean average precision of each label; null for a label without positives."""
    labels = metrics[0].average_precision
    means = {
        name: float(np.mean([one.average_precision[name] for one in metrics])) for name in labels
    }
    return {name: None if np.isnan(mean) else mean for name, mean in means.items()}
