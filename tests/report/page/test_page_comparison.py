"""The page of a comparison."""

import json
import shutil
from pathlib import Path

import pytest

from cpsd.errors import RunError
from cpsd.report.page import write_comparison_report
from cpsd.report.page.comparison import COMPARE_FILE, comparison_context
from cpsd.report.page.run_files import RunFiles
from page_comparison import comparison
from page_run import HOSTILE, make_run
from page_sources import expected, look_up, read_page


def test_every_number_is_what_the_file_says(tmp_path: Path) -> None:
    folder = comparison(tmp_path / "c")
    page = read_page(write_comparison_report(folder))
    assert [(s, expected(folder, s)) for s in page.shown if s.text != expected(folder, s)] == []
    assert page.untraced == []
    shown = {source for one in page.shown for source in one.sources}
    for place in (
        "compare.json#/rows/1/intervals/test/mAP/mean",
        "compare.json#/rows/1/differences/baseline/test/mAP/low",
        "compare.json#/rows/3/cost/plain_trainings",
        "compare.json#/rows/3/intervals/test-unseen/mAP/mean",
        "compare.json#/verdicts/test/headline",
    ):
        assert place in shown


def test_each_arm_says_how_far_its_training_went_past_its_best(tmp_path: Path) -> None:
    folder = comparison(tmp_path / "c")
    shown = read_page(write_comparison_report(folder)).shown
    texts: dict[str, list[str]] = {}
    for one in shown:
        if "/learning_curve/" in one.sources[0]:
            texts.setdefault(one.sources[0].split("/")[2], []).append(one.text)
            assert (one.derived, len(one.sources)) == ("mean", 2)
    of_arm = ["24", "8.5", "50.0", "48.0", "2.0"]
    assert texts == {"0": of_arm, "1": of_arm, "3": of_arm}  # the second row is of teachers


def test_a_comparison_of_an_earlier_version_says_nothing_of_its_trainings(tmp_path: Path) -> None:
    folder = comparison(tmp_path / "c")
    content = json.loads((folder / COMPARE_FILE).read_text(encoding="utf-8"))
    for row in content["rows"]:
        for run in row["runs"]:
            del run["learning_curve"]
    (folder / COMPARE_FILE).write_text(json.dumps(content), encoding="utf-8")
    told = "".join(read_page(write_comparison_report(folder)).texts)
    assert "Nothing is known of the trainings" in told


def test_one_teacher_set_is_said_in_the_tables_caption(tmp_path: Path) -> None:
    folder = comparison(tmp_path / "c")
    words = "conditional on one teacher set; means"
    assert words in "".join(read_page(write_comparison_report(folder)).texts)
    content = json.loads((folder / COMPARE_FILE).read_text(encoding="utf-8"))
    (folder / COMPARE_FILE).write_text(json.dumps({**content, "teacher_sets": 2}), encoding="utf-8")
    assert words not in "".join(read_page(write_comparison_report(folder)).texts)


def test_words_of_the_comparison_stand_on_the_page(tmp_path: Path) -> None:
    page = read_page(write_comparison_report(comparison(tmp_path / "c")))
    whole = "".join(page.texts)
    for words in (
        "cpsd is better than baseline by 1.2 points of mAP.",
        "cpsd is better (0.4 to 2.0 points).",
        "This comparison is not finished",
        "<b>arm</b>",
        "what <b>arm</b> is",
        "Conditional on one teacher set.",
        "Seeds, then <images>.",
        "+0.4 to +2.0",
        "−0.4",  # noqa: RUF001 - what the page shows
    ):
        assert words in whole


@pytest.fixture(scope="module")
def with_runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A comparison whose two runs of the method are there."""
    folder = comparison(tmp_path_factory.mktemp("comparisons") / "c")
    for seed in (0, 1):
        make_run(folder / "runs" / "1" / str(seed), labels=(*HOSTILE[:3], "cat"))
    means = folder / "runs/1/1/findings/unseen-combinations-test.json"
    content = json.loads(means.read_text(encoding="utf-8"))
    content["predictors"]["student"]["unseen"]["mAP_common_labels"] = 0.75
    means.write_text(json.dumps(content), encoding="utf-8")
    return folder


def test_what_was_done_and_how_comes_from_the_methods_first_run(with_runs: Path) -> None:
    page = read_page(write_comparison_report(with_runs))
    wrong = [(s, expected(with_runs, s)) for s in page.shown if s.text != expected(with_runs, s)]
    assert wrong == []
    assert page.untraced == []
    files = {source.split("#")[0] for one in page.shown for source in one.sources}
    first = "runs/1/0"
    for file in ("manifest.json", "config.yaml", "label_graph.npz", "evaluation/test.json"):
        assert f"{first}/{file}" in files
    whole = "".join(page.texts)
    for words in ("Sub-task teachers.", "Labels without positives", "Affinities, reordered"):
        assert words in whole
    assert "The method has no finished run yet" not in whole


def test_context_is_the_mean_over_the_methods_runs(with_runs: Path) -> None:
    shown = read_page(write_comparison_report(with_runs)).shown
    places = [
        f"runs/1/{seed}/findings/unseen-combinations-test.json"
        "#/predictors/student/unseen/mAP_common_labels"
        for seed in (0, 1)
    ]
    first = look_up(with_runs, places[0])
    texts = {one.derived: one.text for one in shown if set(one.sources) == set(places)}
    low, high = sorted((first, 0.75))
    assert texts == {
        "mean": f"{50 * (first + 0.75):.1f}",
        "interval": f"{100 * low:.1f} to {100 * high:.1f}",
    }


def test_a_damaged_findings_file_of_a_run_is_named(with_runs: Path, tmp_path: Path) -> None:
    folder = tmp_path / "c"
    shutil.copytree(with_runs, folder)
    (folder / "runs/1/0/findings/context-test.json").write_text("{", encoding="utf-8")
    with pytest.raises(RunError, match=r"context-test\.json"):
        write_comparison_report(folder)


def test_only_runs_with_a_page_are_linked(tmp_path: Path) -> None:
    folder = comparison(tmp_path / "c")
    source = write_comparison_report(folder).read_text(encoding="utf-8")
    assert source.count('href="runs/') == 1
    assert 'href="runs/1/0/report.html"' in source


def test_a_run_outside_of_the_folder_is_not_linked(tmp_path: Path) -> None:
    folder = comparison(tmp_path / "c")
    (tmp_path / "report.html").write_text("somebody's page", encoding="utf-8")
    content = json.loads((folder / COMPARE_FILE).read_text(encoding="utf-8"))
    content["rows"][1]["runs"][0]["path"] = ".."
    (folder / COMPARE_FILE).write_text(json.dumps(content), encoding="utf-8")
    source = write_comparison_report(folder).read_text(encoding="utf-8")
    assert 'href="../' not in source


def test_teachers_are_no_arm_of_their_own(tmp_path: Path) -> None:
    context = comparison_context(RunFiles(comparison(tmp_path / "c")))
    assert [name.value for name, _ in context["runs"]] == ["baseline", "cpsd", "<b>arm</b>"]
    kinds = [row.kind for row in context["splits"][0].rows]
    assert kinds == ["arm", "student", "of-arm", "arm"]


def test_test_comes_first_and_differences_stand_in_order_along_their_axis(tmp_path: Path) -> None:
    first, second = comparison_context(RunFiles(comparison(tmp_path / "c")))["splits"]
    assert (first.split, second.split) == ("test", "test-unseen")
    (drawn,) = first.forests
    rows = {entry[0]: entry[2:] for entry in drawn.rows}
    assert list(rows) == ["cpsd", "<b>arm</b>"]
    low, mean, high = rows["cpsd"]
    assert drawn.zero < low < mean < high <= 100
    # Places are linear in the differences: 0.004, 0.012 and 0.020 from zero.
    assert (mean - drawn.zero) / (low - drawn.zero) == pytest.approx(3, rel=1e-3)
    assert (high - drawn.zero) / (low - drawn.zero) == pytest.approx(5, rel=1e-3)
    assert (drawn.zero, "0") in drawn.ticks
    assert second.forests == []


def test_differences_without_an_interval_are_points(tmp_path: Path) -> None:
    folder = comparison(tmp_path / "c")
    content = json.loads((folder / COMPARE_FILE).read_text(encoding="utf-8"))
    content["rows"][1]["differences"]["baseline"]["test"]["mAP"]["low"] = None
    (folder / COMPARE_FILE).write_text(json.dumps(content), encoding="utf-8")
    split = comparison_context(RunFiles(folder))["splits"][0]
    name, score, low, mean, high = split.forests[0].rows[0]
    assert (name, score.interval, low, high) == ("cpsd", None, None, None)
    assert 0 < mean < 100


def test_a_comparison_that_has_only_begun_has_a_page(tmp_path: Path) -> None:
    (tmp_path / COMPARE_FILE).write_text('{"rows": []}', encoding="utf-8")
    whole = "".join(read_page(write_comparison_report(tmp_path)).texts)
    assert "No arm has a figure yet" in whole
    assert "No arm has been compared yet" in whole


def test_a_folder_without_a_comparison_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"compare\.json is missing"):
        write_comparison_report(tmp_path)
