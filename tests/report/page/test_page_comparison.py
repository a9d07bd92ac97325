"""The page of a comparison."""

import json
from pathlib import Path
from typing import Any

import pytest

from cpsd.errors import RunError
from cpsd.report.page import write_comparison_report
from cpsd.report.page.comparison import COMPARE_FILE, _arm, forest
from cpsd.report.page.run_files import RunFiles
from cpsd.report.page.traced import Traced
from page_sources import expected, read_page


def interval(mean: float, half: float | None, note: str = "") -> dict[str, Any]:
    low, high = (None, None) if half is None else (mean - half, mean + half)
    return {"mean": mean, "low": low, "high": high, "num_seeds": 3, "note": note}


def comparison(folder: Path) -> Path:
    """Write the folder of a comparison with three arms, one of them with a hostile name."""
    arms: dict[str, Any] = {}
    for index, name in enumerate(("baseline", "cpsd", "<b>ensemble</b>")):
        arms[name] = {
            "description": f"what {name} is",
            "seeds": [0, 1, 2],
            "metrics": {key: interval(0.4 + 0.01 * index, 0.01) for key in ("mAP", "CF1", "OF1")},
            "splits": {"test-unseen": {"mAP": interval(0.2, None)}},
            "cost": {"seconds": 20.0 * index, "images_forward": 5000, "images_backward": 200},
            "average_precision": {"cat": 0.5, "</script>": 0.25 + 0.1 * index},
            "runs": {"0": f"runs/{index}/0", "1": f"runs/{index}/1"},
        }
    arms["cpsd"]["differences"] = {
        "baseline": {"mAP": interval(0.012, 0.008, "Conditional on one teacher set.")}
    }
    arms["<b>ensemble</b>"]["differences"] = {"baseline": {"mAP": interval(-0.004, 0.02)}}
    content = {
        "split": "test",
        "headline": "cpsd is better than baseline by 1.2 points of mAP.",
        "num_labels": 2,
        "num_images": 800,
        "seeds": [0, 1, 2],
        "num_resamples": 2000,
        "complete": False,
        "arms": arms,
        "verdicts": [{"outcome": "better", "text": "cpsd is better (0.4 to 2.0 points)."}],
        "method": "Two levels.\n\nSeeds, then <images>.",
        "notes": ["A note of 3 words."],
    }
    folder.mkdir(parents=True)
    (folder / COMPARE_FILE).write_text(json.dumps(content), encoding="utf-8")
    (folder / "runs" / "1" / "0").mkdir(parents=True)
    (folder / "runs" / "1" / "0" / "report.html").write_text("a page", encoding="utf-8")
    return folder


def test_every_number_is_what_the_file_says(tmp_path: Path) -> None:
    folder = comparison(tmp_path / "c")
    page = read_page(write_comparison_report(folder))
    assert [(s, expected(folder, s)) for s in page.shown if s.text != expected(folder, s)] == []
    assert page.untraced == []
    shown = {source for one in page.shown for source in one.sources}
    arm = "compare.json#/arms/%3Cb%3Eensemble%3C~1b%3E"
    for place in (
        "compare.json#/arms/cpsd/metrics/mAP/mean",
        "compare.json#/arms/cpsd/differences/baseline/mAP/low",
        f"{arm}/cost/seconds",
        f"{arm}/splits/test-unseen/mAP/mean",
    ):
        assert place in shown


def test_words_of_the_comparison_stand_on_the_page(tmp_path: Path) -> None:
    page = read_page(write_comparison_report(comparison(tmp_path / "c")))
    whole = "".join(page.texts)
    for words in (
        "cpsd is better than baseline by 1.2 points of mAP.",
        "cpsd is better (0.4 to 2.0 points).",
        "This comparison is not finished",
        "<b>ensemble</b>",
        "Seeds, then <images>.",
        "A note of 3 words.",
        "+0.4 to +2.0",
        "−0.4",  # noqa: RUF001 - what the page shows
    ):
        assert words in whole


def test_only_runs_with_a_page_are_linked(tmp_path: Path) -> None:
    folder = comparison(tmp_path / "c")
    source = write_comparison_report(folder).read_text(encoding="utf-8")
    assert source.count('href="runs/') == 1
    assert 'href="runs/1/0/report.html"' in source


def test_a_run_outside_of_the_folder_is_not_linked(tmp_path: Path) -> None:
    (tmp_path / "report.html").write_text("somebody's page", encoding="utf-8")
    (tmp_path / "c").mkdir()
    arm = _arm(RunFiles(tmp_path / "c"), "cpsd", Traced({"runs": {"0": ".."}}, "compare.json"))
    assert [run.page for run in arm.runs] == [None]


def test_differences_stand_in_order_along_their_axis(tmp_path: Path) -> None:
    folder = comparison(tmp_path / "c")
    content = RunFiles(folder).json(COMPARE_FILE)
    arms = [_arm(RunFiles(folder), name, arm) for name, arm in content.at("arms").items()]
    drawn = forest(arms, "baseline")
    assert drawn is not None
    rows = {row[0]: row[2:] for row in drawn.rows}
    low, mean, high = rows["cpsd"]
    assert low is not None
    assert high is not None
    assert drawn.zero < low < mean < high <= 100
    # Places are linear in the differences: 0.004, 0.012 and 0.020 from zero.
    assert (mean - drawn.zero) / (low - drawn.zero) == pytest.approx(3, rel=1e-3)
    assert (high - drawn.zero) / (low - drawn.zero) == pytest.approx(5, rel=1e-3)
    assert (drawn.zero, "0") in drawn.ticks
    assert forest(arms, "baseline-long") is None


def test_a_comparison_that_has_only_begun_has_a_page(tmp_path: Path) -> None:
    (tmp_path / COMPARE_FILE).write_text('{"arms": {}}', encoding="utf-8")
    whole = "".join(read_page(write_comparison_report(tmp_path)).texts)
    assert "No arm has a figure yet" in whole
    assert "No arm has been compared yet" in whole


def test_a_folder_without_a_comparison_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"compare\.json is missing"):
        write_comparison_report(tmp_path)
