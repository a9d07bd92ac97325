import copy
import io
from typing import Any

from rich.console import Console
from rich.table import Table

from cpsd.report.comparison_tables import comparison_table, cost_table, learning_curve_table


def interval(mean: float, low: float | None, high: float | None, seeds: int | None) -> Any:
    numbers = {"mean": mean, "low": low, "high": high}
    return {"mAP": {**numbers, "num_seeds": seeds, "num_teacher_sets": 2, "note": ""}}


def row(name: str, interval_of_test: Any, **differences: Any) -> dict[str, Any]:
    return {
        "name": name,
        "intervals": {"test": interval_of_test},
        "differences": {reference: {"test": found} for reference, found in differences.items()},
        "cost": {
            "plain_trainings": 14.25,
            "plain_trainings_by_the_clock": None,
            "seconds": 61.4,
            "images_forward": 12345,
            "images_backward": 6000,
            "flops_forward": 40_000_000,
            "flops_backward": 45_600_000,
        },
    }


CONTENT: dict[str, Any] = {
    "splits": ["test"],
    "teacher_sets": 2,
    "rows": [
        row("baseline", interval(0.5, 0.45, 0.55, 3)),
        row(
            "cpsd [x]", interval(0.512, 0.47, 0.552, 3), baseline=interval(0.012, -0.001, 0.025, 3)
        ),
        row("cpsd [x]: teachers", interval(0.53, None, None, None), baseline=None),
    ],
}


def printed(table: Table) -> list[str]:
    console = Console(file=io.StringIO(), width=120)
    console.print(table)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue().splitlines()


def test_every_row_has_its_interval_and_its_difference() -> None:
    lines = printed(comparison_table(CONTENT))
    cells = [[cell.strip() for cell in line.split("│")[1:-1]] for line in lines if "│" in line]
    assert cells == [
        ["test", "baseline", "3", "50.0 (45.0 to 55.0)", ""],
        ["", "cpsd [x]", "3", "51.2 (47.0 to 55.2)", "+1.2 (-0.1 to +2.5)"],
        ["", "cpsd [x]: teachers", "2 sets", "53.0", ""],
    ]
    one = copy.deepcopy(CONTENT)
    one["rows"][2]["intervals"]["test"]["mAP"]["num_teacher_sets"] = 1
    assert "│ 1 set │" in printed(comparison_table(one))[-2].replace("  ", " ")


def test_one_teacher_set_is_said_below_the_table() -> None:
    note = "conditional on one teacher set"
    assert note not in " ".join(printed(comparison_table(CONTENT)))
    assert note in " ".join(printed(comparison_table({**CONTENT, "teacher_sets": 1})))


def test_learning_curves_are_means_over_seeds_and_teachers_have_none() -> None:
    first = {"epochs": 24, "best_epoch": 8, "best": 0.52, "last": 0.49}
    second = {"epochs": 24, "best_epoch": 11, "best": 0.5, "last": 0.48}
    curves: list[list[Any]] = [[first, second], [first], [None]]
    rows = [
        {**row, "runs": [{"learning_curve": curve} for curve in of_row]}
        for row, of_row in zip(CONTENT["rows"], curves, strict=True)
    ]
    lines = printed(learning_curve_table({**CONTENT, "rows": rows}))
    cells = [[cell.strip() for cell in line.split("│")[1:-1]] for line in lines if "│" in line]
    assert cells == [
        ["baseline", "24", "9.5", "51.0", "48.5"],
        ["cpsd [x]", "24", "8.0", "52.0", "49.0"],
    ]


def test_costs_are_in_plain_trainings_seconds_operations_and_pictures() -> None:
    lines = printed(cost_table(CONTENT))
    cells = [[cell.strip() for cell in line.split("│")[1:-1]] for line in lines if "│" in line]
    assert cells[0] == ["baseline", "14.25", "-", "61", "85.6 M", "12,345", "6,000"]
