"""Tables for the terminal."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.markup import escape
from rich.table import Table

PERCENT_COLUMNS = ("mAP", "CF1", "OF1")
DISTANCES = ("squared_logit", "absolute_probability")


def score_table(boards: Mapping[str, Mapping[str, Any]]) -> Table:
    """Return the scores of all predictors, in percent, a column group for each test split.

    Args:
        boards: by test split, what ``evaluation/<split>.json`` holds.
    """
    table = Table(title="Scores in percent", title_justify="left")
    table.add_column("predictor")
    for split in boards:
        for column in PERCENT_COLUMNS:
            table.add_column(f"{split}\n{column}", justify="right")
    names = dict.fromkeys(name for board in boards.values() for name in board["predictors"])
    for name in names:
        cells = [
            percent(board["predictors"].get(name, {}).get(column))
            for board in boards.values()
            for column in PERCENT_COLUMNS
        ]
        table.add_row(escape(name), *cells)
    return table


def distance_table(boards: Mapping[str, Mapping[str, Any]]) -> Table:
    """Return how far the student is from its teachers on each test split."""
    table = Table(title="Student to teachers", title_justify="left")
    table.add_column("teachers")
    for split in boards:
        table.add_column(f"{split}\nsquared logit", justify="right")
        table.add_column(f"{split}\nprobability", justify="right")
    names = dict.fromkeys(n for board in boards.values() for n in board["student_teacher_distance"])
    for name in names:
        cells: list[str] = []
        for board in boards.values():
            distance = board["student_teacher_distance"].get(name, {})
            cells += [f"{distance[k]:.3f}" if k in distance else "-" for k in DISTANCES]
        table.add_row(escape(name), *cells)
    return table


def stage_table(stages: Mapping[str, Mapping[str, Any]]) -> Table:
    """Return what each stage of a run has cost."""
    table = Table(title="Cost", title_justify="left")
    table.add_column("stage")
    for column in ("seconds", "pictures forward", "pictures backward"):
        table.add_column(column, justify="right")
    for name, mark in stages.items():
        cost = mark["cost"]
        table.add_row(
            escape(name),
            f"{cost['seconds']:.1f}",
            f"{cost['images_forward']:,}",
            f"{cost['images_backward']:,}",
        )
    return table


def count_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> Table:
    """Return a plain table: the first column to the left, numbers to the right."""
    table = Table(title=title, title_justify="left")
    for position, column in enumerate(columns):
        table.add_column(escape(column), justify="left" if position == 0 else "right")
    for row in rows:
        table.add_row(*(f"{c:,}" if isinstance(c, int) else escape(str(c)) for c in row))
    return table


def percent(value: float | None) -> str:
    """Return a fraction as percent with one digit; a dash where there is none.

    Example:
        >>> percent(0.12345), percent(None)
        ('12.3', '-')
    """
    return "-" if value is None else f"{100 * value:.1f}"
