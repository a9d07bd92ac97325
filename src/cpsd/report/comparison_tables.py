"""Tables of a comparison for the terminal."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.markup import escape
from rich.table import Table

from cpsd.report.tables import amount, counted_by, flops_of, in_order, percent, times

METRIC = "mAP"


def comparison_table(content: Mapping[str, Any]) -> Table:
    """Return the mAP of every row with its 95 % interval, and its differences to plain training.

    Args:
        content: of ``compare.json``.
    """
    references = _references(content["rows"])
    table = Table(title=f"{METRIC} in percent, with 95 % intervals", title_justify="left")
    table.add_column("split", overflow="fold")
    table.add_column("arm", overflow="fold")
    for head in ("seeds", METRIC, *(f"to {reference}" for reference in references)):
        table.add_column(escape(head), overflow="fold", justify="right")
    for split in in_order(content["splits"]):
        for position, row in enumerate(content["rows"]):
            interval = row["intervals"][split][METRIC]
            number = interval["num_seeds"] or _sets(interval["num_teacher_sets"])
            table.add_row(
                "" if position else escape(split),
                escape(row["name"]),
                str(number),
                interval_text(interval),
                *(_difference(row, reference, split) for reference in references),
            )
        table.add_section()
    if content["teacher_sets"] == 1:
        table.caption = "Of arms with teachers, conditional on one teacher set."
    return table


def _sets(number: int) -> str:
    return f"{number} set{'s' * (number > 1)}"


def cost_table(content: Mapping[str, Any]) -> Table:
    """Return what each arm's predictor costs in plain trainings, as a mean over seeds.

    Args:
        content: of ``compare.json``.
    """
    table = Table(
        title="Cost of one predictor in plain trainings, shared work included", title_justify="left"
    )
    table.add_column("arm", overflow="fold")
    heads = ("x plain", "by the clock", "seconds", "FLOPs", "forward", "backward")
    for head in heads:
        table.add_column(head, overflow="fold", justify="right")
    for row in content["rows"]:
        cost = row["cost"]
        table.add_row(
            escape(row["name"]),
            times(cost["plain_trainings"]),
            times(cost["plain_trainings_by_the_clock"]),
            f"{cost['seconds']:.0f}",
            amount(flops_of(cost)),
            f"{cost['images_forward']:,}",
            f"{cost['images_backward']:,}",
        )
    table.caption = counted_by(row["cost"] for row in content["rows"])
    return table


def learning_curve_table(content: Mapping[str, Any]) -> Table:
    """Return how far each arm's training went past its best epoch, as a mean over seeds.

    Args:
        content: of ``compare.json``.
    """
    table = Table(
        title="mAP on validation, in percent: a point less at the end is overfitting",
        title_justify="left",
    )
    table.add_column("arm", overflow="fold")
    for head in ("epochs", "best epoch", "mAP there", "after the last"):
        table.add_column(head, overflow="fold", justify="right")
    for row in content["rows"]:
        curves = [run["learning_curve"] for run in row["runs"] if run["learning_curve"]]
        if curves:
            epochs, best_epoch, best, last = (
                sum(curve[key] for curve in curves) / len(curves)
                for key in ("epochs", "best_epoch", "best", "last")
            )
            cells = (f"{epochs:.0f}", f"{best_epoch:.1f}", percent(best), percent(last))
            table.add_row(escape(row["name"]), *cells)
    return table


def interval_text(interval: Mapping[str, Any], *, signed: bool = False) -> str:
    """Return ``mean (low to high)`` in percent.

    Example:
        >>> interval_text({"mean": 0.4641, "low": 0.459, "high": 0.4692})
        '46.4 (45.9 to 46.9)'
        >>> interval_text({"mean": -0.004, "low": None, "high": None}, signed=True)
        '-0.4'
    """
    mean, low, high = (interval[key] for key in ("mean", "low", "high"))
    sign = "+" if signed else ""
    text = "-" if mean is None else f"{100 * mean:{sign}.1f}"
    if low is None or high is None:
        return text
    return f"{text} ({100 * low:{sign}.1f} to {100 * high:{sign}.1f})"


def _difference(row: Mapping[str, Any], reference: str, split: str) -> str:
    difference = row["differences"].get(reference, {}).get(split)
    return "" if difference is None else interval_text(difference[METRIC], signed=True)


def _references(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return what rows are compared with, in the order of the rows."""
    named = {reference for row in rows for reference in row["differences"]}
    return [row["name"] for row in rows if row["name"] in named]
