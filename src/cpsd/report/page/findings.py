"""The findings of a run, by kind and split, as its files say."""

from dataclasses import dataclass
from typing import Any

from cpsd.report.page.gallery import data_uri
from cpsd.report.page.run_files import (
    EXPLANATIONS_FOLDER,
    FINDINGS_FOLDER,
    RunFiles,
    in_predictor_order,
)
from cpsd.report.page.traced import Traced
from cpsd.report.tables import in_order

POINTING = "pointing"
KINDS = (
    "context",
    "unseen-combinations",
    "biased-pairs",
    "thresholds",
    "calibration",
    "label-errors",
    POINTING,
)
MOST_ROWS = 200
"""Rows of one table of findings."""
MOST_PAIRS = 12
"""Pairs of labels shown of one ranking."""
MOST_SHEET_BYTES = 3_000_000
COMPARED = ("baseline", "student")


@dataclass(frozen=True)
class Finding:
    """What one finding says of one split.

    Args:
        split: of the pictures.
        content: the file.
        predictors: that it speaks of, in the order to show.
        sheet: its picture sheet as a data URI, where there is one.
    """

    split: str
    content: Traced
    predictors: list[str]
    sheet: str | None = None

    @property
    def compared(self) -> list[str]:
        """Baseline and student, as far as the finding speaks of them; else its first predictor."""
        return [name for name in COMPARED if name in self.predictors] or self.predictors[:1]


@dataclass(frozen=True)
class Ranking:
    """Pairs of labels in the order of a ranking.

    Args:
        measure: ``recall`` or ``false_alarm``: which gap the pairs are ranked by.
        moved: whether by the change between baseline and student, or by size.
        pairs: of the context file.
    """

    measure: str
    moved: bool
    pairs: list[Traced]


def findings(files: RunFiles, kind: str) -> list[Finding]:
    """Return what the run's findings of a kind say; ``test`` first, none where there are no files.

    Raises:
        RunError: a file is damaged.
    """
    folder = EXPLANATIONS_FOLDER if kind == POINTING else FINDINGS_FOLDER
    prefix = f"{folder}/{kind}-"
    names = files.names(f"{prefix}*.json")
    found = []
    for split in in_order(name.removeprefix(prefix).removesuffix(".json") for name in names):
        content = files.json_object(f"{prefix}{split}.json")
        keys = ("predictors", "means", "mean")
        speaks_of = {name for key in keys for name, _ in content.at(key).items()}
        sheet = data_uri(files, f"{prefix}{split}.png")
        if sheet is not None and len(sheet) > MOST_SHEET_BYTES:
            sheet = None
        found.append(Finding(split, content, in_predictor_order(list(speaks_of)), sheet))
    return found


def rankings(finding: Finding) -> list[Ranking]:
    """Return the pairs that moved most, or the largest where nothing was compared."""
    moved = finding.content.at("compared").there
    pairs = finding.content.at("pairs")
    ranked = []
    for measure in ("recall", "false_alarm"):
        key = f"{measure}_gap_{'moved' if moved else 'largest'}"
        indices = finding.content.at("rankings", key).value or []
        ranked.append(Ranking(measure, moved, [pairs.at(index) for index in indices[:MOST_PAIRS]]))
    return ranked


def findings_context(files: RunFiles) -> dict[str, Any]:
    """Return all findings under the names that the templates know them by."""
    return {
        "findings": {kind.replace("-", "_"): findings(files, kind) for kind in KINDS},
        "rankings": rankings,
        "most_rows": MOST_ROWS,
    }


def reliability_data(found: list[Finding]) -> list[dict[str, Any]]:
    """Return the reliability curves of the compared predictors, for the page's scripts."""
    return [
        {
            "split": finding.split,
            "source": finding.content.file,
            "predictor": name,
            "overall": _curve(finding.content.at("predictors", name, "overall").value),
            "labels": {
                label: _curve(curve.value)
                for label, curve in finding.content.at("predictors", name, "labels").items()
            },
        }
        for finding in found
        for name in finding.compared
    ]


def threshold_data(found: list[Finding]) -> list[dict[str, Any]]:
    """Return the chosen thresholds by label, for the page's scripts."""
    return [
        {
            "split": finding.split,
            "predictor": name,
            "source": finding.content.at("predictors", name, "thresholds", "labels").source,
            "default": finding.content.at("predictors", name, "thresholds", "default").value,
            "labels": finding.content.at("predictors", name, "thresholds", "labels").value or {},
        }
        for finding in found
        for name in finding.compared
    ]


def _curve(curve: Any) -> dict[str, Any]:  # noqa: ANN401 - JSON has no narrower type
    """Return what is drawn of a reliability curve, with the digits that can be seen."""
    content = curve if isinstance(curve, dict) else {}
    return {
        "error": content.get("expected_calibration_error"),
        "withTemperature": content.get("expected_calibration_error_with_temperature"),
        "temperature": content.get("temperature"),
        "probability": [round(value, 4) for value in content.get("mean_probability") or []],
        "frequency": [round(value, 4) for value in content.get("observed_frequency") or []],
    }
