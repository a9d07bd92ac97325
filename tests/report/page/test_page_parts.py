"""Partitions, matrices, pictures and scripts of the page, one by one."""

import base64
import io
import json
import re
from importlib.resources import files as package_files
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cpsd.errors import RunError
from cpsd.graph import LabelGraph, co_occurrence_affinity, dis_occurrence_affinity
from cpsd.labels import LabelSpace
from cpsd.report.page import partition_view
from cpsd.report.page.findings import findings, rankings
from cpsd.report.page.gallery import data_uri, gallery
from cpsd.report.page.partition_view import LIGHT, partition_views, png, strongest_links
from cpsd.report.page.render import PACKAGE, SCRIPTS, inline_json, module_text
from cpsd.report.page.run_files import RunFiles
from cpsd.report.page.traced import Traced, difference, figure, interval, show
from cpsd.report.page.write import write_report
from page_run import make_run


def pixels(uri: str) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    """Return a PNG's colours (H, W, 3)."""
    content = base64.b64decode(uri.removeprefix("data:image/png;base64,"))
    return np.asarray(Image.open(io.BytesIO(content)).convert("RGB"))


def test_matrices_hold_the_affinities_in_the_order_of_the_parts(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", findings=False)
    views = partition_views(RunFiles(run))
    assert views is not None
    graph = LabelGraph.load(run / "label_graph.npz")
    for view, affinity in zip(
        views.views,
        (co_occurrence_affinity(graph).toarray(), dis_occurrence_affinity(graph).toarray()),
        strict=True,
    ):
        parts = json.loads((run / "partitions" / f"{view.strategy}.json").read_text())["parts"]
        assert [set(part) for part in view.parts] == [set(part) for part in parts]
        order = [graph.labels.index(name) for part in view.parts for name in part]
        assert list(view.order) == order
        shades = pixels(view.matrix_light).astype(int).sum(axis=2)
        assert shades.shape == affinity.shape
        # A greater affinity is darker; the palette has 256 steps, so that near ones may be equal.
        upper = np.triu_indices(len(order), 1)
        ranked = affinity[np.ix_(order, order)][upper].argsort()
        assert (np.diff(shades[upper][ranked]) <= 0).all()
        assert len(np.unique(shades)) > 20


def test_a_part_begins_with_the_label_in_most_pictures(tmp_path: Path) -> None:
    views = partition_views(RunFiles(make_run(tmp_path / "run", findings=False)))
    assert views is not None
    for part in views.views[0].parts:
        counts = [views.images[views.labels.index(name)] for name in part]
        assert counts == sorted(counts, reverse=True)


def test_bounds_of_parts_cover_the_matrix(tmp_path: Path) -> None:
    views = partition_views(RunFiles(make_run(tmp_path / "run", findings=False)))
    assert views is not None
    bounds = views.views[0].bounds
    assert (bounds[0][0], bounds[-1][1]) == (0.0, 100.0)
    assert [end for _, end in bounds[:-1]] == [begin for begin, _ in bounds[1:]]
    assert len(set(views.views[0].hues)) == len(bounds)


def test_every_label_keeps_its_strongest_link_as_long_as_there_is_room() -> None:
    generator = np.random.default_rng(0)
    weights = np.triu(generator.random((30, 30)) ** 3, 1)
    affinity = weights + weights.T
    links = strongest_links(affinity, 40)
    assert len(links) == 40
    assert [weight for *_, weight in links] == sorted((w for *_, w in links), reverse=True)
    for label in range(30):
        strongest = affinity[label].max()
        assert any(label in link[:2] and link[2] == strongest for link in links)


def test_colours_run_from_the_first_to_the_last() -> None:
    colours = pixels(png(np.array([[0.0, 1.0], [0.5, 2.0]]), 0.0, 1.0, LIGHT))
    assert tuple(colours[0, 0]) == LIGHT[0]
    assert tuple(colours[0, 1]) == tuple(colours[1, 1]) == LIGHT[-1]


def test_labels_without_any_link_can_be_shown(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", labels=("cat", "dog", "fox"), findings=False)
    labels = LabelSpace(("cat", "dog", "fox"))
    alone = LabelGraph.from_counts([4, 2, 0], np.zeros((3, 3)), labels=labels)
    alone.save(run / "label_graph.npz")
    views = partition_views(RunFiles(run))
    assert views is not None
    assert views.links == ()
    assert views.views[0].inside.number is None


def test_of_too_many_labels_nothing_is_drawn_and_the_page_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make_run(tmp_path / "run", findings=False)
    monkeypatch.setattr(partition_view, "MOST_LABELS", 2)
    views = partition_views(RunFiles(run))
    assert views is not None
    assert views.too_many
    assert (views.views, views.links) == ((), ())
    assert len(views.images) == len(views.labels) > 2
    page = write_report(run).read_text(encoding="utf-8")
    assert "There are more than 2 labels, too many to be drawn." in page


def test_a_partition_of_other_labels_is_refused(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", findings=False)
    content = {"strategy": "co-occurrence", "parts": [["nobody"]]}
    (run / "partitions" / "co-occurrence.json").write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(RunError, match=r"co-occurrence\.json does not fit label_graph\.npz"):
        partition_views(RunFiles(run))


def test_a_gallery_leaves_out_entries_without_their_pictures(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    whole = gallery(RunFiles(run))
    assert whole is not None
    assert (len(whole.entries), whole.left_out) == (2, 0)
    assert whole.entries[0].boxes == [pytest.approx((10, 20, 40, 40))]
    reasons = {cell.predictor: cell.nothing_to_compare.value for cell in whole.entries[0].cells}
    assert [name for name, reason in reasons.items() if reason == "one place"] == ["student"]
    (run / "explanations" / "0-student.jpg").unlink()
    some = gallery(RunFiles(run))
    assert some is not None
    assert (len(some.entries), some.left_out) == (1, 1)


def test_only_pictures_of_the_run_are_inlined(tmp_path: Path) -> None:
    (tmp_path / "secret.jpg").write_bytes(b"x")
    run = make_run(tmp_path / "run")
    (run / "explanations" / "page.html").write_text("x", encoding="utf-8")
    files = RunFiles(run)
    assert data_uri(files, "explanations/../../secret.jpg") is None
    assert data_uri(files, str(tmp_path / "secret.jpg")) is None
    assert data_uri(files, "explanations/page.html") is None
    assert data_uri(files, "explanations/0-picture.jpg") is not None


def test_pairs_that_moved_are_shown_else_the_largest(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    place = run / "findings" / "context-test.json"
    (found,) = findings(RunFiles(run), "context")
    assert found.compared == ["baseline", "student"]
    assert [(r.measure, r.moved, len(r.pairs)) for r in rankings(found)] == [
        ("recall", True, 1),
        ("false_alarm", True, 1),
    ]
    content = json.loads(place.read_text(encoding="utf-8"))
    content.update(compared=None, rankings={"recall_gap_largest": [0, 0]})
    place.write_text(json.dumps(content), encoding="utf-8")
    (found,) = findings(RunFiles(run), "context")
    assert [(r.moved, len(r.pairs)) for r in rankings(found)] == [(False, 2), (False, 0)]


def test_scripts_are_laid_together_without_their_imports() -> None:
    text = module_text(SCRIPTS)
    assert not re.search(r"^(import|export)\b", text, re.MULTILINE)
    names = re.findall(r"^(?:async )?(?:function|class|const|let) (\w+)", text, re.MULTILINE)
    assert len(names) == len(set(names))
    listed = {path.name for path in (package_files(PACKAGE) / "scripts").iterdir()}
    assert listed == set(SCRIPTS)


def test_scripts_import_earlier_ones_and_never_parse_texts() -> None:
    for index, name in enumerate(SCRIPTS):
        text = (package_files(PACKAGE) / "scripts" / name).read_text(encoding="utf-8")
        assert text.startswith("// @ts-check\n")
        imported = re.findall(r'^import .* from "\./(.*)";$', text, re.MULTILINE)
        assert set(imported) <= set(SCRIPTS[:index])
        for danger in ("innerHTML", "insertAdjacentHTML", "document.write", "eval(", "fetch("):
            assert danger not in text


def test_json_inside_a_script_element_ends_no_element() -> None:
    text = inline_json({"</script><!--": "\u2028\u2029&"})
    assert not set("<>&\u2028\u2029") & set(text)
    assert json.loads(text) == {"</script><!--": "\u2028\u2029&"}


@pytest.mark.parametrize(
    ("value", "shown_as", "text"),
    [
        (0.0, "percent", "0.0"),
        (-0.0004, "points", "0.0"),
        (float("nan"), "percent", "\N{EN DASH}"),
        (True, "count", "\N{EN DASH}"),
        (12.345, "decimal", "12.3"),
        (9.94, "seconds", "9.9 s"),
        (59.9, "seconds", "1 min 00 s"),
        (7300, "seconds", "2 h 01 min"),
        ([1, None], "value", "1, none"),
    ],
)
def test_numbers_are_shown_with_the_digits_that_count(
    value: object, shown_as: str, text: str
) -> None:
    assert show(value, shown_as) == text  # type: ignore[arg-type]


def test_a_figure_of_a_missing_value_is_a_dash_and_keeps_its_place() -> None:
    missing = Traced({"a": {}}, "x.json").at("a", "b/c")
    assert figure(missing, "percent").text == "\N{EN DASH}"
    assert figure(missing, "percent").sources == ("x.json#/a/b~1c",)
    assert difference(Traced(0.5, "x"), missing).number is None
    assert interval(Traced(0.5, "x"), missing, "percent") is None
