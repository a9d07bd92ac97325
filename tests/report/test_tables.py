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


def test_scores_are_percent_with_a_block_a_split_and_test_first() -> None:
    # As files come out of a folder: "test-night.json" before "test.json".
    boards: dict[str, dict[str, Any]] = {
        "test-night": {"predictors": {"student": scores(None), "teachers": scores(1.0)}},
        "test": {"predictors": {"baseline": scores(0.41234), "student": scores(0.5)}},
        "test-dawn": {"predictors": {"student": {}}},
    }
    assert rows(score_table(boards)) == [
        ["split", "predictor", "mAP", "CF1", "OF1"],
        ["test", "baseline", "41.2", "50.0", "25.0"],
        ["", "student", "50.0", "50.0", "25.0"],
        ["test-dawn", "student", "-", "-", "-"],
        ["test-night", "student", "-", "50.0", "25.0"],
        ["", "teachers", "100.0", "50.0", "25.0"],
    ]


def test_distances_stand_in_the_block_of_their_split() -> None:
    near = {"squared_logit": 0.12345, "absolute_probability": 0.05}
    boards: dict[str, dict[str, Any]] = {
        "test-night": {"student_teacher_distance": {"teachers/b": {"squared_logit": 2.0}}},
        "test": {"student_teacher_distance": {"teachers/a": near}},
    }
    assert rows(distance_table(boards))[1:] == [
        ["test", "teachers/a", "0.123", "0.050"],
        ["test-night", "teachers/b", "2.000", "-"],
    ]


def test_nothing_is_cut_off_at_80_columns() -> None:
    splits = ["test", "test-unseen", "test-night-rain-and-snow-with-a-very-long-name-indeed"]
    names = ["baseline", "teachers/co-occurrence", "teachers/dis-occurrence", "a" * 40]
    far = {"squared_logit": 123456.789, "absolute_probability": 0.5}
    boards: dict[str, dict[str, Any]] = {
        split: {
            "predictors": dict.fromkeys(names, scores(1.0)),
            "student_teacher_distance": dict.fromkeys(names, far),
        }
        for split in splits
    }
    cost = {
        **{"seconds": 1234567.8, "images_forward": 123456789012, "images_backward": 0},
        **{
            "flops_forward": 123_456_789 * 10**12,
            "flops_backward": 0,
            "peak_memory": 98_765_432_109,
        },
    }
    mark = {
        **{"cost": cost, "plain_trainings": 1234.567, "plain_trainings_by_the_clock": 765.432},
        "plain_trainings_by": "passes, for there is no count of the operations of odd::one",
    }
    counts = ("split", "pictures", "with a positive", "without", "unlabelled", "with a problem")
    for table, words in (
        (score_table(boards), [*splits, *names, "100.0", "mAP", "CF1", "OF1"]),
        (distance_table(boards), [*splits, *names, "123456.789", "0.500"]),
        (
            stage_table(dict.fromkeys(names, mark), mark),
            [*names, "1234567.8", "123,456,789,012", "backward", "1234.57", "123 E", "98.8 GB"],
        ),
        (
            count_table("Counts", counts, [(name, *[82081] * 5) for name in splits]),
            [*splits, "82,081", "unlabelled", "problem"],
        ),
    ):
        console = Console(file=StringIO(), width=80, color_system=None, legacy_windows=False)
        with console.capture() as capture:
            console.print(table)
        lines = capture.get().splitlines()
        assert max(map(len, lines)) <= 80
        assert "…" not in capture.get()
        # A folded name goes on in its column on the next line.
        cells = [line.split("│" if "│" in line else "┃") for line in lines]
        columns = ["".join(cell.strip() for cell in column) for column in columns_of(cells)]
        for word in words:
            assert any(word in column for column in columns), word


def columns_of(cells: list[list[str]]) -> list[tuple[str, ...]]:
    """Return the columns of the lines that have as many cells as most."""
    most = max(map(len, cells))
    return list(zip(*(row for row in cells if len(row) == most), strict=True))


def test_costs_are_listed_by_stage() -> None:
    cost = {"seconds": 12.34, "images_forward": 1234567, "images_backward": 0}
    old = {"cost": cost}  # of before operations were counted
    counted = {
        "cost": {**cost, "flops_forward": 4 * 10**12, "flops_backward": 8 * 10**12},
        **{"plain_trainings": 0.5, "plain_trainings_by_the_clock": None},
    }
    table = stage_table({"teachers/co-occurrence": old, "student": counted}, counted)
    assert table.caption is None
    assert rows(table)[1:] == [
        ["teachers/co-occurrence", "-", "-", "12.3", "-", "-", "1,234,567", "0"],
        ["student", "0.50", "-", "12.3", "12 T", "-", "1,234,567", "0"],
        ["the method", "0.50", "-", "12.3", "12 T", "-", "1,234,567", "0"],
    ]


def test_the_reason_stands_below_where_operations_are_not_known() -> None:
    cost = {"seconds": 1.0, "images_forward": 1, "images_backward": 0}
    table = stage_table({"student": {"cost": cost, "plain_trainings_by": "passes, for x"}}, None)
    assert table.caption == "Counted by passes, for x."
    assert len(rows(table)) == 2


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
