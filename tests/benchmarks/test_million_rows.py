from collections.abc import Callable
from types import ModuleType

import pytest


def test_the_smoke_form_goes_through_all_steps(
    benchmark_module: Callable[[str], ModuleType], capsys: pytest.CaptureFixture[str]
) -> None:
    assert benchmark_module("million_rows").main(["--smoke"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.partition(":")[0] for line in lines[1:]] == ["read", "check", "load", "epoch"]
    assert '"problems": 0' in lines[2]
    assert all('"rows": 2000' in line for line in lines[1:])
