"""The benchmark for a GPU runs from end to end where there is none, on tiny sizes."""

import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
import torch


def test_it_runs_on_a_cpu(
    benchmark_module: Callable[[str], ModuleType],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "gpu.json"
    main = benchmark_module("gpu").main
    assert main(["--device", "cpu", "--smoke", "--out", str(out)]) == 0
    rows = json.loads(out.read_text())["rows"]
    printed = capsys.readouterr().out.splitlines()[2:]
    assert len(printed) == len(rows)
    whats = " ".join(row["what"] for row in rows)
    for words in ("stored soft labels", "live teachers", "shared", "as bytes", "eager / folded"):
        assert words in whats
    assert all(row["value"] > 0 for row in rows)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_it_says_so(
    benchmark_module: Callable[[str], ModuleType], capsys: pytest.CaptureFixture[str]
) -> None:
    assert benchmark_module("gpu").main([]) == 2
    assert "There is no GPU" in capsys.readouterr().err
