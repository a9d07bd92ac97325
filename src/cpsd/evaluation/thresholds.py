"""A threshold for each label, and what it was chosen for; kept as JSON beside the model.

``cpsd.evaluation.threshold_choice`` chooses them.
"""

from dataclasses import asdict, dataclass
from typing import Any, Literal, cast, get_args

import numpy as np
from numpy.typing import NDArray

from cpsd.errors import ConfigError, DataError, RunError
from cpsd.evaluation.figures import figure
from cpsd.labels import LabelSpace

CriterionKind = Literal["f1", "precision", "recall"]


@dataclass(frozen=True)
class Criterion:
    """What a threshold is chosen for.

    Args:
        kind: ``f1`` for the highest F1; ``precision`` for the highest recall of those thresholds
            that have the wanted precision; ``recall`` for the highest precision of those that
            have the wanted recall.
        wanted: the precision or recall that is wanted, in (0, 1]; None with ``f1``.

    Raises:
        ConfigError: a kind that does not exist, or a wish that is missing, surplus or out of range.
    """

    kind: CriterionKind = "f1"
    wanted: float | None = None

    def __post_init__(self) -> None:
        if self.kind not in get_args(CriterionKind):
            raise ConfigError(f"No criterion '{self.kind}'; use f1, precision=0.9 or recall=0.9.")
        if self.kind == "f1" and self.wanted is not None:
            raise ConfigError("The criterion f1 takes no number; write f1 alone.")
        if self.kind != "f1" and (self.wanted is None or not 0 < self.wanted <= 1):
            raise ConfigError(
                f"The wanted {self.kind} is {self.wanted}; it must be above 0 and at most 1 "
                f"({self.kind}=0.9)."
            )

    @classmethod
    def from_text(cls, text: str) -> "Criterion":
        """Return the criterion that a user writes as ``f1``, ``precision=0.9`` or ``recall=0.9``.

        Raises:
            ConfigError: ``text`` is none of them.

        Example:
            >>> Criterion.from_text("precision=0.9")
            Criterion(kind='precision', wanted=0.9)
        """
        kind, equals, number = text.strip().partition("=")
        try:
            wanted = float(number) if equals else None
        except ValueError as error:
            raise ConfigError(f"'{number}' in '{text}' is not a number; use 0.9.") from error
        return cls(cast(CriterionKind, kind.strip()), wanted)

    def to_json(self) -> dict[str, Any]:
        """Return the criterion without the number that ``f1`` does not have."""
        return {key: value for key, value in asdict(self).items() if value is not None}


@dataclass(frozen=True)
class LabelThreshold:
    """One label's threshold, and how it does on the pictures that it was chosen on.

    Args:
        threshold: probability from which (inclusive) the label is predicted.
        positives: the pictures with the label; with 0 the default threshold stays.
        precision: of the predictions; NaN without positives, like the other two.
        recall: of the positives.
        f1: their harmonic mean.
    """

    threshold: float
    positives: int
    precision: float
    recall: float
    f1: float


@dataclass(frozen=True)
class Thresholds:
    """The thresholds of a predictor's labels; kept as ``thresholds.json`` beside the model.

    Args:
        criterion: what they were chosen for.
        default: the threshold of labels without a positive to choose by.
        by_label: each label's threshold.
        kept_default: the labels that kept the default.
        unreachable: the labels that never reach the wanted precision on validation. They have the
            threshold of their highest precision instead.
    """

    criterion: Criterion
    default: float
    by_label: dict[str, LabelThreshold]
    kept_default: tuple[str, ...]
    unreachable: tuple[str, ...]

    def of(self, labels: LabelSpace) -> NDArray[np.float64]:
        """Return the thresholds ``(C,)`` in the order of ``labels``, for ``evaluate``.

        Raises:
            DataError: a label has none.
        """
        for name in labels:
            if name not in self.by_label:
                raise DataError(
                    f"The label '{name}' has no threshold: these were chosen for other labels. "
                    "Choose thresholds for this model's labels."
                )
        return np.array([self.by_label[name].threshold for name in labels])

    def to_json(self) -> dict[str, Any]:
        """Return what ``thresholds.json`` holds; thresholds in full, other figures rounded."""
        return {
            "criterion": self.criterion.to_json(),
            "default": self.default,
            "kept_default": list(self.kept_default),
            "unreachable": list(self.unreachable),
            "labels": {
                name: {
                    "threshold": chosen.threshold,
                    "positives": chosen.positives,
                    **{k: figure(getattr(chosen, k)) for k in ("precision", "recall", "f1")},
                }
                for name, chosen in self.by_label.items()
            },
        }

    @classmethod
    def from_json(cls, value: Any) -> "Thresholds":  # noqa: ANN401 - JSON has no narrower type
        """Return the thresholds of what ``to_json`` gave.

        Raises:
            RunError: ``value`` is no such thing, or a threshold is not between 0 and 1.
        """
        try:
            thresholds = cls(
                criterion=Criterion(**value["criterion"]),
                default=float(value["default"]),
                by_label={
                    name: LabelThreshold(
                        threshold=float(entry["threshold"]),
                        positives=int(entry["positives"]),
                        **{k: _nan_for_none(entry[k]) for k in ("precision", "recall", "f1")},
                    )
                    for name, entry in value["labels"].items()
                },
                kept_default=tuple(value["kept_default"]),
                unreachable=tuple(value["unreachable"]),
            )
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
            raise RunError(f"These are no thresholds ({error!r}); choose them again.") from error
        for name, chosen in thresholds.by_label.items():
            if not 0 < chosen.threshold < 1:
                raise RunError(
                    f"The threshold of '{name}' is {chosen.threshold}; it must be between 0 and 1."
                )
        return thresholds


def _nan_for_none(value: float | None) -> float:
    return np.nan if value is None else float(value)
