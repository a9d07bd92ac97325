"""The scripts about the bootstrap run and print whole tables."""

import runpy
import sys
from itertools import islice
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.split("|")[1:-1]]


def test_times_are_printed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--images", "300", "--labels", "4", "--resamples", "20"]
    monkeypatch.setattr(sys, "argv", ["bootstrap.py", *arguments])
    runpy.run_path(str(BENCHMARKS / "bootstrap.py"), run_name="__main__")
    table = [cells(line) for line in capsys.readouterr().out.splitlines()]
    assert [len(row) for row in table] == [6] * 3
    assert table[2][:2] == ["300 x 4", "20"]
    assert table[2][2].endswith(" s")
    point, low, _, high = table[2][5].replace("(", "").replace(")", "").split()
    assert 0 < float(low) < float(point) < float(high) < 1


@pytest.mark.parametrize(
    ("table", "first", "counts"),
    [
        ("table_of_effects", 4, [["2", "1"], ["3", "1"], ["3", "2"]]),
        ("table_of_scores", 5, [["500", "8"], ["500", "8"]]),
    ],
)
def test_coverage_is_in_the_tables(table: str, first: int, counts: list[list[str]]) -> None:
    rows_of = runpy.run_path(str(BENCHMARKS / "bootstrap_coverage.py"))[table]
    found = [cells(line) for line in islice(rows_of(2), 2 + len(counts))]
    assert {len(row) for row in found} == {len(found[0])}
    assert [row[:2] for row in found[2:]] == counts
    assert all(float(cell) in (0, 50, 100) for row in found[2:] for cell in row[first : first + 2])
