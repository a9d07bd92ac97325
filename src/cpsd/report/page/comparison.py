"""The report of a comparison: arms with intervals, differences, verdicts and costs."""

from dataclasses import dataclass
from typing import Any

from cpsd.report.page.page_data import precision_column
from cpsd.report.page.results import Score, span, tone
from cpsd.report.page.run_files import RunFiles, place
from cpsd.report.page.traced import Figure, Traced, figure

COMPARE_FILE = "compare.json"
METRICS = ("mAP", "CF1", "OF1")
BASELINES = ("baseline", "baseline-long")
"""The arms that every other is compared to."""
STUDENT_ARM = "cpsd"


@dataclass(frozen=True)
class RunLink:
    """One run of an arm: its seed, its folder, and its page where it has one."""

    seed: str
    folder: Traced
    page: str | None


@dataclass(frozen=True)
class Arm:
    """One arm of a comparison.

    Args:
        name: its name.
        content: what the file says of it.
        scores: by metric, on the split of the comparison.
        other_splits: by further test split, the same.
        differences: by reference, the difference in mAP.
        seconds: its cost by the clock.
        forward: pictures put through a network.
        backward: the same for backward passes.
        runs: its runs.
        notes: what its intervals are conditional on.
    """

    name: str
    content: Traced
    scores: dict[str, Score]
    other_splits: dict[str, dict[str, Score]]
    differences: dict[str, Score]
    seconds: Figure
    forward: Figure
    backward: Figure
    runs: list[RunLink]
    notes: list[Traced]


@dataclass(frozen=True)
class Forest:
    """Where points and intervals stand along one axis, in percent of its length.

    Args:
        rows: arm, score, and low, mean and high; low and high are None without an interval.
        ticks: place and text.
        zero: the place of no difference.
    """

    rows: list[tuple[str, Score, float | None, float, float | None]]
    ticks: list[tuple[float, str]]
    zero: float


def comparison_context(files: RunFiles) -> dict[str, Any]:
    """Return what the template of a comparison reads.

    Raises:
        RunError: ``compare.json`` is missing or damaged.
    """
    content = files.json_object(COMPARE_FILE)
    arms = [_arm(files, name, arm) for name, arm in content.at("arms").items()]
    references = [name for name in BASELINES if any(name in arm.differences for arm in arms)]
    method = content.at("method")
    paragraphs = str(method.value or "").split("\n\n")
    return {
        "title": files.folder.resolve().name,
        "content": content,
        "arms": arms,
        "references": references,
        "forests": {name: forest(arms, name) for name in references},
        "other_splits": list(dict.fromkeys(split for arm in arms for split in arm.other_splits)),
        "most_seconds": max((arm.seconds.number or 0 for arm in arms), default=0) or 1,
        "method": method,
        "paragraphs": [paragraph for paragraph in paragraphs if paragraph.strip()],
        "versions": None,
        "has_labels": bool(_arms_with_labels(content)),
    }


def comparison_labels(files: RunFiles) -> dict[str, Any] | None:
    """Return the table of labels for the page's scripts; None where no arm has one."""
    content = files.json_object(COMPARE_FILE)
    arms = _arms_with_labels(content)
    if not arms:
        return None
    labels = list(dict.fromkeys(label for _, ap in arms for label, _ in ap.items()))
    columns = [
        precision_column(name, ap, labels, compared_to="baseline" if name == STUDENT_ARM else None)
        for name, ap in arms
    ]
    split = str(content.at("split").value or "test")
    return {
        "labels": labels,
        "trainImages": None,
        "parts": [],
        "splits": [{"name": split, "positives": None, "predictors": columns}],
    }


def forest(arms: list[Arm], reference: str) -> Forest | None:
    """Return the differences to a reference along one axis; None where no arm has one.

    The axis holds zero, every point and every interval.
    """
    found = []
    for arm in arms:
        score = arm.differences.get(reference)
        if score is None or score.value.number is None:
            continue
        bounds = arm.content.at("differences", reference, "mAP")
        low, high = bounds.at("low").value, bounds.at("high").value
        both = low is not None and high is not None
        found.append(
            (arm.name, score, low if both else None, score.value.number, high if both else None)
        )
    if not found:
        return None
    values = [0.0, *(value for row in found for value in row[2:] if value is not None)]
    low, high = min(values), max(values)
    room = (high - low or 0.01) * 0.06
    low, high = low - room, high + room

    def along(value: float) -> float:
        return round(100 * (value - low) / (high - low), 3)

    rows = [
        (name, score, None if a is None else along(a), along(b), None if c is None else along(c))
        for name, score, a, b, c in found
    ]
    ticks = [(along(tick), f"{100 * tick:+g}" if tick else "0") for tick in _ticks(low, high)]
    return Forest(rows, [(at, text.replace("-", "\N{MINUS SIGN}")) for at, text in ticks], along(0))


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


def _arms_with_labels(content: Traced) -> list[tuple[str, Traced]]:
    found = [(name, arm.at("average_precision")) for name, arm in content.at("arms").items()]
    return [(name, ap) for name, ap in found if ap.value]


def _arm(files: RunFiles, name: str, content: Traced) -> Arm:
    cost = content.at("cost")
    noted = [content.at("metrics", "mAP", "note")]
    return Arm(
        name=name,
        content=content,
        scores=_scores(content.at("metrics")),
        other_splits={split: _scores(metrics) for split, metrics in content.at("splits").items()},
        differences={
            reference: _difference(metrics.at("mAP"))
            for reference, metrics in content.at("differences").items()
            if metrics.at("mAP", "mean").there
        },
        seconds=figure(cost.at("seconds"), "seconds"),
        forward=figure(cost.at("images_forward"), "count"),
        backward=figure(cost.at("images_backward"), "count"),
        runs=[_link(files, seed, folder) for seed, folder in content.at("runs").items()],
        notes=[note for note in noted if note.value],
    )


def _scores(metrics: Traced) -> dict[str, Score]:
    return {
        metric: Score(figure(spanned.at("mean"), "percent"), span(spanned))
        for metric, spanned in metrics.items()
        if metric in METRICS
    }


def _difference(spanned: Traced) -> Score:
    return Score(figure(spanned.at("mean"), "points"), span(spanned, signed=True), tone(spanned))


def _link(files: RunFiles, seed: str, folder: Traced) -> RunLink:
    page = f"{folder.value}/report.html"
    # A link out of the folder would break when the folder is handed on.
    inside = (files.folder / page).resolve().is_relative_to(files.folder.resolve())
    there = inside and (files.folder / page).is_file()
    return RunLink(seed, folder, place(page) if there else None)
