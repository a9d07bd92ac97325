"""The scoreboard: baseline, teacher ensembles and student beside each other on one split."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cpsd.config import EvaluationConfig
from cpsd.evaluation.metrics import Metrics, evaluate
from cpsd.evaluation.predictions import StudentTeacherDistance, student_teacher_distance
from cpsd.labels import LabelSpace, Targets

BASELINE = "baseline"
STUDENT = "student"
TEACHERS = "teachers"
"""All teacher ensembles together."""


@dataclass(frozen=True)
class Scoreboard:
    """The scores of every predictor on one split.

    Args:
        metrics: by predictor.
        distances: how far the student is from each teacher ensemble, and from all together.
    """

    metrics: dict[str, Metrics]
    distances: dict[str, StudentTeacherDistance]

    def to_json(self) -> dict[str, Any]:
        """Return what ``evaluation/<split>.json`` holds."""
        return {
            "predictors": {name: metrics.to_json() for name, metrics in self.metrics.items()},
            "student_teacher_distance": {
                name: asdict(distance) for name, distance in self.distances.items()
            },
        }


def ensemble_name(strategy: str) -> str:
    """Return what the teacher ensemble of ``strategy`` is called among the predictors."""
    return f"{TEACHERS}/{strategy}"


def together(
    logits: Mapping[str, NDArray[np.float32]], shares: Mapping[str, float]
) -> NDArray[np.float32]:
    """Return the mean of several predictors' logits (N, C), weighted by ``shares``.

    For the squared error on logits this is the point that the student is drawn to (CPSD, Eq. 6).
    """
    total = sum(shares[name] * logits[name] for name in shares)
    return np.asarray(total, dtype=np.float32)


def score(
    logits: Mapping[str, NDArray[np.float32]],
    targets_NC: Targets,
    labels: LabelSpace,
    config: EvaluationConfig,
    *,
    thresholds: Mapping[str, float | NDArray[np.float64]] | None = None,
) -> Scoreboard:
    """Return the scoreboard of some predictors.

    Args:
        logits: (N, C) by predictor.
        targets_NC: 1 present, 0 absent, -1 unknown.
        labels: the C labels.
        config: threshold and top-k.
        thresholds: by predictor, another threshold than the config's, or (C,) of them.
    """
    cuts = dict.fromkeys(logits, config.threshold) if thresholds is None else thresholds
    metrics = {
        name: evaluate(logits_NC, targets_NC, labels, threshold=cuts[name], top_k=config.top_k)
        for name, logits_NC in logits.items()
    }
    teachers = [name for name in logits if name.split("/")[0] == TEACHERS]
    distances = {
        name: student_teacher_distance(logits[STUDENT], logits[name])
        for name in teachers
        if STUDENT in logits
    }
    return Scoreboard(metrics, distances)
