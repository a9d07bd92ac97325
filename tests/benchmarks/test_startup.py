"""What is measured of start-up is started and given its bar."""

from collections.abc import Callable
from types import ModuleType


def test_every_row_has_its_bar(benchmark_module: Callable[[str], ModuleType]) -> None:
    rows = benchmark_module("startup").measure(smoke=True)
    assert [(row.what, row.must) for row in rows] == [
        ("import of cpsd", "<= 0.3"),
        ("cpsd --help", "<= 0.7"),
        ("cpsd run --help", None),
    ]
    assert all(row.value > 0 for row in rows)
