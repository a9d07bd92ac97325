"""The page of a whole run, read without a browser."""

import json
import shutil
from pathlib import Path

import pytest

from cpsd.errors import RunError, UserError
from cpsd.graph import LabelGraph
from cpsd.report.page import write_report
from page_run import HOSTILE, make_run
from page_sources import Page, affinity_bounds, expected, read_page

LIMIT = 15_000_000


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with everything, and few links, so that all of them are drawn."""
    folder = make_run(tmp_path_factory.mktemp("runs") / "made", labels=(*HOSTILE, "cat", "dog"))
    graph = LabelGraph.load(folder / "label_graph.npz")
    both = graph.images_with_both.toarray()
    for column in range(2, 10):
        both[column, : column - 1] = both[: column - 1, column] = 0
    weak = LabelGraph.from_counts(
        graph.images_with_label, both, labels=graph.labels, num_images=graph.num_images
    )
    weak.save(folder / "label_graph.npz")
    write_report(folder)
    return folder


@pytest.fixture(scope="module")
def page(run: Path) -> Page:
    return read_page(run / "report.html")


def test_every_number_is_what_its_file_says(run: Path, page: Page) -> None:
    wrong = [
        (shown, expected(run, shown)) for shown in page.shown if shown.text != expected(run, shown)
    ]
    assert wrong == []
    assert len(page.shown) > 300


def test_every_kind_of_file_is_traced(page: Page) -> None:
    files = {source.split("#")[0] for shown in page.shown for source in shown.sources}
    for file in (
        "manifest.json", "config.yaml", "label_graph.npz", "partitions/co-occurrence.json",
        "evaluation/test.json", "evaluation/test-unseen.json", "baseline/metrics.csv",
        "student/model.json", "explanations/gallery.json", "explanations/pointing-test.json",
        *(f"findings/{kind}-test.json" for kind in (
            "context", "unseen-combinations", "biased-pairs", "thresholds", "calibration",
            "label-errors", "intervals",
        )),
    ):  # fmt: skip
        assert file in files


def test_no_digit_stands_on_the_page_without_its_place(page: Page) -> None:
    assert page.untraced == []


def test_raw_values_stand_beside_rounded_ones(run: Path, page: Page) -> None:
    board = json.loads((run / "evaluation" / "test.json").read_text(encoding="utf-8"))
    place = "evaluation/test.json#/predictors/student/mAP"
    values = {shown.value for shown in page.shown if shown.sources == [place]}
    assert values == {str(board["predictors"]["student"]["mAP"])}


def test_bounds_of_the_affinities_are_those_of_the_graph(run: Path, page: Page) -> None:
    bounds = affinity_bounds(LabelGraph.load(run / "label_graph.npz"))
    assert bounds <= {text.strip() for text in page.texts}


def test_sentences_of_the_protocol_stand_apart(page: Page) -> None:
    told = "".join(page.texts)
    assert "300 pictures of each split were used." in told
    assert "used.The run" not in told


def test_names_stand_on_the_page_as_text(run: Path, page: Page) -> None:
    whole = "".join(page.texts)
    for name in HOSTILE:
        assert name in whole
    source = (run / "report.html").read_text(encoding="utf-8")
    assert "<script>window" not in source
    assert "<img src=x" not in source
    # One of scripts and six of data; a name that ends one would add to them.
    assert source.count("</script>") == 7


def test_the_page_asks_for_nothing(run: Path) -> None:
    source = (run / "report.html").read_text(encoding="utf-8")
    assert "default-src 'none'" in source
    for attribute in ('src="http', "url(http", "@import", 'rel="stylesheet"'):
        assert attribute not in source


def test_the_page_is_the_same_when_it_is_written_again(run: Path) -> None:
    before = (run / "report.html").read_bytes()
    assert write_report(run) == run / "report.html"
    assert (run / "report.html").read_bytes() == before


def test_a_run_that_has_only_begun_has_a_page(tmp_path: Path) -> None:
    run = make_run(tmp_path / "begun", findings=False)
    for name in ("evaluation", "predictions", "partitions", "baseline", "student", "teachers"):
        shutil.rmtree(run / name)
    (run / "label_graph.npz").unlink()
    page = read_page(write_report(run))
    whole = " ".join(" ".join(page.texts).split())
    for sentence in (
        "This run has no evaluation yet",
        "The labels have not been cut yet",
        "Nothing has been trained yet",
        "There are no context findings yet",
        "This run has no gallery",
        "There is no list of likely label errors yet",
        "There are no thresholds and no calibration yet",
    ):
        assert sentence in whole
    assert all(shown.text == expected(run, shown) for shown in page.shown)


def test_teachers_that_are_made_of_the_baseline_are_told(page: Page, tmp_path: Path) -> None:
    words = "stages of the trained baseline, which stay as they are and are the same for all"
    assert words in _whole(page)
    run = make_run(tmp_path / "run", findings=False)
    settings = run / "config.yaml"
    faithful = settings.read_text().replace("start: baseline", "start: fresh")
    settings.write_text(faithful.replace("shared_stages: 3", "shared_stages: 0"))
    told = _whole(read_page(write_report(run)))
    assert "of the trained baseline" not in told
    assert "where the baseline ended" not in told


def test_plain_training_that_overfitted_is_named(page: Page, tmp_path: Path) -> None:
    assert "Plain training overfitted" not in _whole(page)
    run = make_run(tmp_path / "run", findings=False)
    metrics = "epoch,loss,validation_raw\n0,0.5,0.5\n1,0.4,0.488\n"
    (run / "baseline/metrics.csv").write_text(metrics, encoding="utf-8")
    found = read_page(write_report(run))
    assert "Plain training overfitted" in _whole(found)
    sources = ["baseline/metrics.csv", "baseline/model.json#/training/weights"]
    assert [shown.text for shown in found.shown if shown.sources == sources] == ["48.8"]


def _whole(page: Page) -> str:
    return " ".join(" ".join(page.texts).split())


def test_figures_that_are_not_defined_are_dashes(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", findings=False, splits=("test",))
    board = json.loads((run / "evaluation" / "test.json").read_text(encoding="utf-8"))
    board["predictors"]["student"]["mAP"] = None
    (run / "evaluation" / "test.json").write_text(json.dumps(board), encoding="utf-8")
    shown = [s for s in read_page(write_report(run)).shown if s.sources[0].endswith("student/mAP")]
    assert {s.text for s in shown} == {"\N{EN DASH}"}


def test_a_folder_without_a_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"manifest\.json and labels\.json are missing"):
        write_report(tmp_path)


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("evaluation/test.json", "[]", r"test\.json is damaged: it is no JSON object"),
        ("labels.json", "{}", r"labels\.json is damaged: it is no list of labels"),
        ("manifest.json", "{", r"manifest\.json cannot be read as JSON"),
        ("config.yaml", "a: [", r"config\.yaml cannot be read as YAML"),
        ("label_graph.npz", "x", r"label_graph\.npz does not hold a label graph"),
    ],
)
def test_a_damaged_file_is_named(tmp_path: Path, file: str, content: str, message: str) -> None:
    run = make_run(tmp_path / "run", findings=False, splits=("test",))
    (run / file).write_text(content, encoding="utf-8")
    with pytest.raises(UserError, match=message):
        write_report(run)
    assert not (run / "report.html").exists()


def test_a_thousand_labels_stay_small(tmp_path: Path) -> None:
    labels = [f"label {index}" for index in range(1000)]
    run = make_run(tmp_path / "run", labels=labels, num_images=100, splits=("test",), parts=13)
    assert write_report(run).stat().st_size < LIMIT


@pytest.mark.slow
def test_a_thousand_labels_on_many_pictures_stay_small(tmp_path: Path) -> None:
    labels = [f"label {index}" for index in range(1000)]
    run = make_run(
        tmp_path / "run", labels=labels, num_images=10_000, splits=("test",), parts=13,
        predictors=("baseline", "student"),
    )  # fmt: skip
    assert write_report(run).stat().st_size < LIMIT
