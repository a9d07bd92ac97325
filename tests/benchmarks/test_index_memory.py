"""The memory of an index is measured where Linux tells it."""

from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest


@pytest.mark.skipif(
    not Path("/proc/self/smaps_rollup").is_file(), reason="this system does not tell memory so"
)
def test_every_row_has_its_bar(benchmark_module: Callable[[str], ModuleType]) -> None:
    rows = benchmark_module("index_memory").measure(smoke=True)
    assert [row.must for row in rows] == ["<= 400", None, None, "<= 20"]
    assert all(row.value >= 0 for row in rows[:3])
    assert rows[1].value > 0, "the peak is this process's own, whatever the one before it held"
    assert "2,000 pictures" in rows[0].what
