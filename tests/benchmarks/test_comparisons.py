import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest


@pytest.fixture(scope="module")
def comparisons() -> ModuleType:
    path = Path(__file__).resolve().parents[2] / "benchmarks" / "comparisons.py"
    spec = importlib.util.spec_from_file_location("comparisons", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def row(name: str, scores: dict[int, float], difference: Any, *, teachers: bool = False) -> Any:
    mean = sum(scores.values()) / len(scores)
    return {
        "name": name,
        "runs": [
            {"seed": None if teachers else seed, "scores": {"test": {"mAP": score}}}
            for seed, score in scores.items()
        ],
        "intervals": {"test": {"mAP": {"mean": mean, "low": mean - 0.02, "high": mean + 0.02}}},
        "differences": {} if difference is None else {"baseline": {"test": {"mAP": difference}}},
        "cost": {"plain_trainings": 1.0 if name == "baseline" else 3.57},
    }


GAIN = {"mean": 0.01, "low": -0.03, "high": 0.05}
ROWS = [
    row("baseline", {0: 0.5, 1: 0.52}, None),
    row("cpsd", {1: 0.515, 0: 0.525}, GAIN),
    row("cpsd: teachers", {0: 0.55}, GAIN, teachers=True),
]


def printed(
    comparisons: ModuleType,
    arguments: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> list[str]:
    monkeypatch.setattr(sys, "argv", ["comparisons.py", *arguments])
    comparisons.main()
    return capsys.readouterr().out.splitlines()


def write(folder: Path, rows: list[Any]) -> str:
    folder.mkdir()
    (folder / "compare.json").write_text(json.dumps({"rows": rows}))
    return str(folder)


def test_the_table_has_a_block_for_each_comparison(
    comparisons: ModuleType,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folders = [write(tmp_path / name, ROWS) for name in ("linear", "query")]
    lines = printed(comparisons, folders, monkeypatch, capsys)
    assert len(lines) == 2 + 2 * 3
    assert lines[2] == "| linear | baseline | 51.0 (49.0 to 53.0) |  |  | 1.0 |"
    cpsd = "|  | cpsd | 52.0 (50.0 to 54.0) | +1.0 (-3.0 to +5.0) | -0.5, +2.5 | 3.6 |"
    assert lines[3] == lines[6] == cpsd
    assert lines[4] == "|  | cpsd: teachers | 55.0 (53.0 to 57.0) | +1.0 (-3.0 to +5.0) |  | 3.6 |"


def test_the_table_of_regimes_has_a_row_for_each_comparison(
    comparisons: ModuleType,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    short = write(tmp_path / "short", ROWS)
    loss = {"mean": -0.02, "low": -0.03, "high": -0.01}
    long = write(tmp_path / "long", [*ROWS, row("baseline-long", {0: 0.48, 1: 0.5}, loss)])
    arguments = ["--regimes", short, f"weight=0.2, long={long}"]
    lines = printed(comparisons, arguments, monkeypatch, capsys)
    assert len(lines) == 2 + 2
    both = "51.0 (49.0 to 53.0) | +1.0 (-3.0 to +5.0) | +1.0 (-3.0 to +5.0) | -0.5, +2.5"
    assert lines[2] == f"| short | {both} |  | 3.6 |"
    assert lines[3] == f"| weight=0.2, long | {both} | -2.0 (-3.0 to -1.0) | 3.6 |"
