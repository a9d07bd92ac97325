"""A comparison at an address, held to the one in a folder."""

import json
from pathlib import Path
from typing import Any

import pytest

from cpsd.cli import main
from cpsd.run_home import brought

ARMS = [
    "--config", "demo", "--image.size", "16", "--partition.parts", "2",
    "--training.epochs", "1", "--teachers.epochs", "1", "--distillation.views", "1",
    "--arms", "psd-c,ensemble-kd", "--seeds", "1", "--resamples", "50", "--machine.workers", "0",
    "--machine.accelerator", "cpu", "--machine.threads", "1", "--out",
]  # fmt: skip
THERE = "s3://pictures/compared"


def figures(comparison: Path) -> Any:
    content = json.loads((comparison / "compare.json").read_text())
    return [
        {key: row[key] for key in ("name", "intervals", "differences")} for row in content["rows"]
    ]


@pytest.mark.slow
def test_a_comparison_at_an_address_is_the_one_in_a_folder(
    s3: Any, sent: list[str], digits: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("cpsd.folder_copy.WORTH_COPYING", 10_000)
    assert main(["compare", str(digits), *ARMS, str(tmp_path / "here")]) == 0
    assert main(["compare", str(digits), *ARMS, THERE]) == 0
    shared = "teachers/co-occurrence/0/model.safetensors"
    # What runs share is sent for one of them, and copied there for the other.
    assert len([place for place in sent if place.endswith(shared)]) == 1
    monkeypatch.setenv("CPSD_CACHE", str(tmp_path / "other"))
    read = brought(THERE)
    assert figures(read) == figures(tmp_path / "here")
    assert (read / "runs/cpsd/0" / shared).read_bytes() == (
        read / "runs/psd-c/0" / shared
    ).read_bytes()
    assert (read / "report.html").exists()
