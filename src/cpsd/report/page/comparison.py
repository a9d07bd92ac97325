"""The report of a comparison: arms with intervals, differences, verdicts and costs.

``compare.json`` has a row for each arm and for each teacher ensemble of an arm; a comparison that
is not finished has fewer of everything.
"""

from dataclasses import dataclass
from typing import Any

from cpsd.report.page.method_runs import (
    MEASURES,
    METHOD_ARM,
    context_over_seeds,
    first_run_context,
    method_runs,
)
from cpsd.report.page.page_data import graph_data, precision_column
from cpsd.report.page.partition_view import partition_views
from cpsd.report.page.results import Score, span, tone
from cpsd.report.page.run_files import RunFiles, is_there, place
from cpsd.report.page.traced import Figure, Format, Traced, average, figure
from cpsd.report.tables import in_order

COMPARE_FILE = "compare.json"
METRICS = ("mAP", "CF1", "OF1")
REFERENCES = ("baseline", "baseline-long")
"""The arms that every other is compared to."""
LEARNING_CURVE: dict[str, Format] = {
    "epochs": "count",
    "best_epoch": "times",
    "best": "percent",
    "last": "percent",
    "lost": "percent",
}
"""What is shown of an arm's learning curves, and how."""
NO_RUN: dict[str, Any] = {"manifest": None, "config": None, "partitions": None, "scored": []}
"""What is known of the method before its first run is done."""


@dataclass(frozen=True)
class Row:
    """One arm, or the teachers of one, on one split.

    Args:
        name: as the comparison calls it.
        content: what the file says of it.
        scores: by metric; an arm without a finished run has none.
        differences: by reference, the difference in mAP.
        notes: what its intervals are conditional on.
    """

    name: str
    content: Traced
    scores: dict[str, Score]
    differences: dict[str, Score]
    notes: list[Traced]

    @property
    def kind(self) -> str:
        """How the row stands out: the method's student, or teachers below their arm."""
        if self.name == METHOD_ARM:
            return "student"
        return "of-arm" if is_of_teachers(self.name) else "arm"


@dataclass(frozen=True)
class Forest:
    """Where points and intervals stand along one axis, in percent of its length.

    Args:
        reference: the arm that the others are compared to.
        rows: name, score, and low, mean and high; low and high are None without an interval.
        ticks: place and text.
        zero: the place of no difference.
    """

    reference: str
    rows: list[tuple[str, Score, float | None, float, float | None]]
    ticks: list[tuple[float, str]]
    zero: float


@dataclass(frozen=True)
class ComparedSplit:
    """All rows on one test split, with their verdicts.

    Args:
        split: its name.
        rows: the arms and their teachers.
        references: that something is compared to.
        forests: the differences to each.
        headline: in words; without a value where there is none.
        verdicts: of the comparison.
    """

    split: str
    rows: list[Row]
    references: list[str]
    forests: list[Forest]
    headline: Traced
    verdicts: list[Traced]


@dataclass(frozen=True)
class RunLink:
    """One run of an arm: its folder, and its page where it has one."""

    folder: Traced
    page: str | None


def comparison_context(files: RunFiles) -> dict[str, Any]:
    """Return what the template of a comparison reads.

    Raises:
        RunError: ``compare.json`` is missing or damaged.
    """
    content = files.json_object(COMPARE_FILE)
    own_runs = method_runs(files, content)
    arms = list(content.at("rows").entries())
    seconds = [arm.at("cost", "seconds").value or 0 for arm in arms]
    # An arm's teachers come out of the arm's own runs.
    runs = [
        (arm.at("name"), [_link(files, run) for run in arm.at("runs").entries()])
        for arm in arms
        if not is_of_teachers(str(arm.at("name").value))
    ]
    return {
        "title": files.folder.resolve().name,
        "content": content,
        "arms": arms,
        "splits": [_split(content, split) for split in _splits(content)],
        "most_seconds": max(seconds, default=0) or 1,
        "trainings": [row for arm in arms if (row := _training(arm)) is not None],
        "runs": runs,
        "method": content.at("method"),
        "paragraphs": [p for p in str(content.at("method").value or "").split("\n\n") if p.strip()],
        "versions": None,
        "has_labels": comparison_labels(files) is not None,
        "measures": MEASURES,
        "contexts": context_over_seeds(own_runs, _splits(content)),
        **NO_RUN,
        **first_run_context(own_runs),
    }


def comparison_partitions(files: RunFiles) -> dict[str, Any] | None:
    """Return the partitions for the page's scripts; None where the method has no run yet.

    Raises:
        PartitionError: a label graph is damaged.
    """
    own_runs = method_runs(files, files.json_object(COMPARE_FILE))
    views = partition_views(own_runs[0]) if own_runs else None
    return graph_data(views) if views else None


def comparison_labels(files: RunFiles) -> dict[str, Any] | None:
    """Return the table of labels for the page's scripts; None where no arm has one."""
    content = files.json_object(COMPARE_FILE)
    splits = []
    labels: list[str] = []
    for split in _splits(content):
        arms = [
            (str(arm.at("name").value), arm.at("average_precision", split))
            for arm in content.at("rows").entries()
            if arm.at("average_precision", split).value
        ]
        labels = labels or list(dict.fromkeys(label for _, ap in arms for label, _ in ap.items()))
        columns = [
            precision_column(
                name, ap, labels, compared_to=REFERENCES[0] if name == METHOD_ARM else None
            )
            for name, ap in arms
        ]
        if columns:
            splits.append({"name": split, "positives": None, "predictors": columns})
    if not splits:
        return None
    return {"labels": labels, "trainImages": None, "parts": [], "splits": splits}


def is_of_teachers(name: str) -> bool:
    """Return whether a row is of the teachers of an arm and no arm.

    Example:
        >>> is_of_teachers("cpsd: teachers/co-occurrence"), is_of_teachers("cpsd")
        (True, False)
    """
    return ": teachers" in name


def forest(rows: list[Row], reference: str, split: str) -> Forest | None:
    """Return the differences to a reference along one axis; None where no row has one.

    The axis holds zero, every point and every interval.
    """
    found = []
    for row in rows:
        score = row.differences.get(reference)
        if score is None or score.value.number is None:
            continue
        bounds = row.content.at("differences", reference, split, "mAP")
        low, high = bounds.at("low").value, bounds.at("high").value
        if low is None or high is None:
            low = high = None
        found.append((row.name, score, low, score.value.number, high))
    if not found:
        return None
    values = [0.0, *(value for entry in found for value in entry[2:] if value is not None)]
    least, most = min(values), max(values)
    room = (most - least or 0.01) * 0.06
    least, most = least - room, most + room

    def along(value: float) -> float:
        return round(100 * (value - least) / (most - least), 3)

    entries = [
        (name, score, None if a is None else along(a), along(b), None if c is None else along(c))
        for name, score, a, b, c in found
    ]
    marks = [(along(tick), _tick_text(tick)) for tick in _ticks(least, most)]
    return Forest(reference, entries, marks, along(0))


def _tick_text(tick: float) -> str:
    return f"{100 * tick:+g}".replace("-", "\N{MINUS SIGN}") if tick else "0"


def _ticks(low: float, high: float) -> list[float]:
    """Return round numbers between two bounds, six at most.

    Example:
        >>> _ticks(-0.011, 0.032)
        [-0.01, 0.0, 0.01, 0.02, 0.03]
    """
    steps = (factor * 10.0**power for power in range(-5, 2) for factor in (1, 2, 5))
    step = next(step for step in steps if (high - low) / step <= 6)
    first, last = -int(-low / step), int(high / step)
    return [round(index * step, 8) for index in range(first, last + 1)]


def _splits(content: Traced) -> list[str]:
    return in_order(str(split.value) for split in content.at("splits").entries())


def _split(content: Traced, split: str) -> ComparedSplit:
    rows = [_row(arm, split) for arm in content.at("rows").entries()]
    references = [name for name in REFERENCES if any(name in row.differences for row in rows)]
    forests = [forest(rows, reference, split) for reference in references]
    said = content.at("verdicts", split)
    return ComparedSplit(
        split=split,
        rows=rows,
        references=references,
        forests=[drawn for drawn in forests if drawn is not None],
        headline=said.at("headline"),
        verdicts=list(said.at("verdicts").entries()),
    )


def _row(arm: Traced, split: str) -> Row:
    metrics = arm.at("intervals", split)
    note = metrics.at("mAP", "note")
    return Row(
        name=str(arm.at("name").value),
        content=arm,
        scores={
            metric: Score(figure(spanned.at("mean"), "percent"), span(spanned))
            for metric, spanned in metrics.items()
            if metric in METRICS
        },
        differences={
            reference: _difference(by_split.at(split, "mAP"))
            for reference, by_split in arm.at("differences").items()
            if by_split.at(split, "mAP", "mean").there
        },
        notes=[note] if note.value else [],
    )


def _difference(spanned: Traced) -> Score:
    return Score(figure(spanned.at("mean"), "points"), span(spanned, signed=True), tone(spanned))


def _training(arm: Traced) -> tuple[str, *tuple[Figure, ...]] | None:
    """Return an arm's name and what ``LEARNING_CURVE`` names, as means over its runs.

    None for teachers, and where no run says it.
    """
    curves = [run.at("learning_curve") for run in arm.at("runs").entries()]
    curves = [curve for curve in curves if curve.there]
    if not curves:
        return None
    means = [average([c.at(key) for c in curves], how) for key, how in LEARNING_CURVE.items()]
    return str(arm.at("name").value), *means


def _link(files: RunFiles, run: Traced) -> RunLink:
    page = f"{run.at('path').value}/report.html"
    # A link out of the folder would break when the folder is handed on.
    inside = (files.folder / page).resolve().is_relative_to(files.folder.resolve())
    there = inside and is_there(files.folder / page)
    return RunLink(run.at("path"), place(page) if there else None)
