"""The evidence for the fast form, on a few embedded pictures."""

import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest


def test_the_smoke_form_runs_tells_and_goes_on(
    benchmark_module: Callable[[str], ModuleType],
    digits: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    evidence = benchmark_module("evidence_fast")
    out = tmp_path / "out"
    command = [
        str(digits), "--out", str(out), "--weights", "none", "--backbone",
        "test_byobnet.r160_in1k", "--test-split", "test", "--pictures", "24", "--size", "16",
        "--parts", "2", "--seeds", "1", "--epochs", "1", "--resamples", "50", "--workers", "0",
        "--accelerator", "cpu", "--long-epochs", "2",
    ]  # fmt: skip
    evidence.main(command)
    report = json.loads((out / "evidence.json").read_text())
    assert [report["runs_done"], report["runs_planned"], *report["arms"]] == [
        4, 4, "baseline", "fast", "baseline-long", "cpsd",
    ]  # fmt: skip
    scores = {name: arm["by seed"][0] for name, arm in report["arms"].items()}
    for reference in ("cpsd", "baseline", "baseline-long"):
        found = report["differences"][f"fast minus {reference}"]["mAP"]["mean"]
        assert found == pytest.approx(scores["fast"] - scores[reference])
    # Trained on as many pictures as asked for, and the fast form of what was asked for.
    stage = json.loads((out / "runs/baseline/0/.stages/baseline.json").read_text())
    assert stage["cost"]["images_backward"] == 24
    stage = json.loads((out / "runs/baseline-long/0/.stages/baseline.json").read_text())
    assert stage["cost"]["images_backward"] == 2 * 24
    assert "shared_stages: 3" in (out / "runs/fast/0/config.yaml").read_text()
    assert "shared_stages: 0" in (out / "runs/cpsd/0/config.yaml").read_text()
    printed = capsys.readouterr().out
    assert "| fast minus cpsd |" in printed
    assert "fast, seed 0: run 2 of 4" in printed
    student = out / "runs/fast/0/student/model.safetensors"
    finished = student.stat().st_mtime_ns
    evidence.main([*command, "--arms", "fast"])
    assert student.stat().st_mtime_ns == finished
    report = json.loads((out / "evidence.json").read_text())
    assert [*report["arms"]] == ["baseline", "fast", "cpsd"]
    assert [*report["differences"]] == [
        "fast minus cpsd", "fast minus baseline", "cpsd minus baseline",
    ]  # fmt: skip
    with pytest.raises(SystemExit) as refused:
        evidence.main([*command, "--arms", "fsat"])
    assert refused.value.code == 2
    assert "'fsat'" in capsys.readouterr().err
