"""Modules of the benchmarks folder, imported as its scripts import each other."""

import importlib
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture
def benchmark_module(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], ModuleType]:
    """Import a module of the benchmarks folder by its name."""
    monkeypatch.syspath_prepend(BENCHMARKS)
    return importlib.import_module
