"""What the page of a comparison shows of the method's own runs: settings, partitions, context.

Each seed of the method has a whole run with findings. What was done is said by the first of them;
what the findings say is given over all of them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from cpsd.report.page.partition_view import partition_views
from cpsd.report.page.results import Score, split_results
from cpsd.report.page.run_files import FINDINGS_FOLDER, RunFiles, in_predictor_order, is_there
from cpsd.report.page.traced import Format, Traced, average, figure, interval

METHOD_ARM = "cpsd"


@dataclass(frozen=True)
class Measure:
    """A figure of a finding that is shown for every predictor.

    Args:
        heading: of its column.
        kind: of the finding.
        under: where the finding's file has its predictors.
        keys: where a predictor has the figure.
        shown_as: how it is shown.
    """

    heading: str
    kind: str
    under: str
    keys: tuple[str, ...]
    shown_as: Format


MEASURES = (
    Measure(
        "mAP, unseen combinations",
        "unseen-combinations",
        "predictors",
        ("unseen", "mAP_common_labels"),
        "percent",
    ),
    Measure(
        "seen combinations",
        "unseen-combinations",
        "predictors",
        ("seen", "mAP_common_labels"),
        "percent",
    ),
    Measure("recall gap", "context", "means", ("recall_gap",), "points"),
    Measure("false-alarm gap", "context", "means", ("false_alarm_gap",), "points"),
    Measure("AP with context", "biased-pairs", "mean", ("co_occurring",), "percent"),
    Measure("AP without", "biased-pairs", "mean", ("exclusive",), "percent"),
)


@dataclass(frozen=True)
class ContextOverSeeds:
    """How predictors depend on context on one split.

    Args:
        split: its name.
        rows: predictor, and a score for each of ``MEASURES``: the mean over runs with the lowest
            and the highest; None where no run has one.
    """

    split: str
    rows: list[tuple[str, list[Score | None]]]


def method_runs(files: RunFiles, content: Traced) -> list[RunFiles]:
    """Return the method's runs that lie in the folder of the comparison."""
    found = []
    for row in content.at("rows").entries():
        if row.at("name").value != METHOD_ARM:
            continue
        for run in row.at("runs").entries():
            own = RunFiles(files.folder, str(run.at("path").value))
            inside = own.path("").resolve().is_relative_to(files.folder.resolve())
            if inside and is_there(own.path("manifest.json")):
                found.append(own)
    return found


def first_run_context(runs: Sequence[RunFiles]) -> dict[str, Any]:
    """Return what the templates of a run's settings, partitions and protocol read; may be empty.

    Raises:
        RunError: a file of the run is damaged.
        PartitionError: its label graph is damaged.
    """
    if not runs:
        return {}
    first = runs[0]
    return {
        "manifest": first.json_object("manifest.json"),
        "config": first.yaml("config.yaml"),
        "partitions": partition_views(first),
        "scored": split_results(first, first.boards()),
    }


def context_over_seeds(runs: Sequence[RunFiles], splits: Sequence[str]) -> list[ContextOverSeeds]:
    """Return for each split what the findings of all runs say of leaning on context.

    Raises:
        RunError: a file is damaged.
    """
    found = []
    for split in splits:
        contents = {
            kind: [run.json(f"{FINDINGS_FOLDER}/{kind}-{split}.json") for run in runs]
            for kind in {measure.kind for measure in MEASURES}
        }
        names = {
            name
            for measure in MEASURES
            for content in contents[measure.kind]
            for name, _ in content.at(measure.under).items()
        }
        rows = [
            (name, [_over_runs(contents[m.kind], m, name) for m in MEASURES])
            for name in in_predictor_order(sorted(names))
        ]
        if rows:
            found.append(ContextOverSeeds(split, rows))
    return found


def _over_runs(contents: Sequence[Traced], measure: Measure, predictor: str) -> Score | None:
    places = [content.at(measure.under, predictor, *measure.keys) for content in contents]
    places = [place for place in places if figure(place, measure.shown_as).number is not None]
    if not places:
        return None
    ranked = sorted(places, key=lambda place: place.value)
    spread = interval(ranked[0], ranked[-1], measure.shown_as) if len(ranked) > 1 else None
    return Score(average(places, measure.shown_as), spread)
