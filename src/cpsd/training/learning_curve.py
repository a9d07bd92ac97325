"""Whether a training overfitted: what its ``metrics.csv`` says of the validation pictures.

Learning rates fall to nearly nothing at the end of a schedule, so that a network which is still
learning is best there. One that was clearly better before has learned its training pictures by
heart since.
"""

import csv
import io
import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

METRICS_FILE = "metrics.csv"
"""Beside a model: a row an epoch."""
VALIDATION_COLUMNS = ("validation_raw", "validation_ema")
"""mAP on validation of the weights as they were, and of their running average."""
OVERFITTED = 0.01
"""A loss of mAP from the best epoch to the last, a fraction, that is more than the ups and downs of
the last epochs on a few hundred validation pictures."""


@dataclass(frozen=True)
class LearningCurve:
    """The course of one training on the validation pictures, of those weights that were kept.

    Args:
        epochs: that there were.
        best_epoch: counted from one.
        best: mAP there, a fraction.
        last: mAP after the last epoch.
    """

    epochs: int
    best_epoch: int
    best: float
    last: float

    @property
    def lost(self) -> float:
        """How much mAP there is between the best epoch and the last."""
        return self.best - self.last

    @property
    def overfits(self) -> bool:
        """Whether the last epoch is clearly below the best one."""
        return self.lost >= OVERFITTED

    def to_json(self) -> dict[str, Any]:
        """Return what JSON can hold."""
        return {**asdict(self), "lost": self.lost}


def read_learning_curve(model: Path) -> LearningCurve | None:
    """Return the learning curve of the model in a folder; None where none can be given.

    None can be given of a model that came without its metrics, or whose validation pictures have
    no positive.
    """
    path = model / METRICS_FILE
    if not path.is_file():
        return None
    text = path.read_text(encoding="utf-8", errors="replace")
    rows = list(csv.DictReader(io.StringIO(text)))
    courses = [[_number(row.get(name)) for row in rows] for name in VALIDATION_COLUMNS]
    return max(filter(None, map(_curve, courses)), key=lambda curve: curve.best, default=None)


def _curve(scores: Iterable[float]) -> LearningCurve | None:
    scores = list(scores)
    known = [score for score in scores if math.isfinite(score)]
    if not known or not math.isfinite(scores[-1]):
        return None
    best = max(known)
    return LearningCurve(len(scores), 1 + scores.index(best), best, scores[-1])


def _number(cell: str | None) -> float:
    try:
        return float(cell or "")
    except ValueError:
        return math.nan
