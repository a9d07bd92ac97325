from io import StringIO
from typing import Any

import pytest
from rich.console import Console
from rich.table import Table

from cpsd.report.tables import count_table, distance_table, percent, score_table, stage_table


def rows(table: Table) -> list[list[str]]:
    """Return what a person reads, cell by cell; the header first."""
    console = Console(file=StringIO(), width=200, color_system=None, legacy_windows=False)
    table.box = None
    table.title = None
    cells = [[str(column.header), *map(str, column.cells)] for column in table.columns]
    with console.capture() as capture:
        console.print(table)
    assert capture.get().strip()
    return [list(row) for row in zip(*cells, strict=True)]


def scores(value: float | None) -> dict[str, Any]:
    return {"mAP": value, "CF1": 0.5, "OF1": 0.25}


def test_scores_are_percent_by_split_and_predictor() -> None:
    boards = {
        "test": {"predictors": {"baseline": scores(0.41234), "student": scores(0.5)}},
        "test-night": {"predictors": {"student": scores(None), "teachers": scores(1.0)}},
    }
    assert rows(score_table(boards)) == [
        ["predictor"] + [f"{s}\n{m}" for s in boards for m in ("mAP", "CF1", "OF1")],
        ["baseline", "41.2", "50.0", "25.0", "-", "-", "-"],
        ["student", "50.0", "50.0", "25.0", "-", "50.0", "25.0"],
        ["teachers", "-", "-", "-", "100.0", "50.0", "25.0"],
    ]


def test_distances_stay_under_their_split() -> None:
    near = {"squared_logit": 0.12345, "absolute_probability": 0.05}
    boards: dict[str, dict[str, Any]] = {
        "test": {"student_teacher_distance": {"teachers/a": near}},
        "test-night": {"student_teacher_distance": {"teachers/b": near}},
    }
    assert rows(distance_table(boards))[1:] == [
        ["teachers/a", "0.123", "0.050", "-", "-"],
        ["teachers/b", "-", "-", "0.123", "0.050"],
    ]


def test_costs_are_listed_by_stage() -> None:
    cost = {"seconds": 12.34, "images_forward": 1234567, "images_backward": 0}
    assert rows(stage_table({"teachers/co-occurrence": {"cost": cost}}))[1:] == [
        ["teachers/co-occurrence", "12.3", "1,234,567", "0"]
    ]


def test_counts_and_words_stand_in_a_plain_table() -> None:
    table = count_table("Counts", ("split", "pictures"), [("train", 12345), ("", "none")])
    assert rows(table) == [["split", "pictures"], ["train", "12,345"], ["", "none"]]


def test_names_are_never_read_as_markup() -> None:
    console = Console(file=StringIO(), width=100, color_system=None)
    with console.capture() as capture:
        console.print(count_table("Counts", ("kind",), [("[red]odd[/red] [/]",)]))
    assert "[red]odd[/red] [/]" in capture.get()


@pytest.mark.parametrize(
    ("value", "text"), [(0.0, "0.0"), (1.0, "100.0"), (0.99996, "100.0"), (None, "-")]
)
def test_percent(value: float | None, text: str) -> None:
    assert percent(value) == text
