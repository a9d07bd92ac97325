"""The page in a real browser: what it draws, how it is operated, what it asks for."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cpsd.evaluation.prediction_files import read_predictions
from cpsd.report.page import write_comparison_report, write_report
from page_browser import CONTRASTS, NAMES, Visit, installed, switches
from page_comparison import comparison
from page_run import HOSTILE, make_run
from page_sources import look_up

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    found = installed()
    if found is None:
        pytest.skip(f"no browser is there (looked for {', '.join(NAMES)})")
    with playwright.sync_playwright() as engine:
        browser = engine.chromium.launch(executable_path=found, args=switches())
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    labels = (*HOSTILE, "elk", *(f"label {number}" for number in range(1, 113)))
    folder = make_run(tmp_path_factory.mktemp("runs") / "made", labels=labels, num_images=60)
    write_report(folder)
    return folder


@pytest.fixture(scope="module")
def wide(browser: Any, run: Path) -> Iterator[Visit]:
    visit = Visit(browser, run, viewport={"width": 1600, "height": 900})
    yield visit
    visit.context.close()


@pytest.fixture
def visit(wide: Visit) -> Visit:
    """The wide page as it is after opening."""
    wide.page.reload()
    wide.draw_all()
    return wide


def test_nothing_is_said_in_the_console_and_nothing_is_asked_for(visit: Visit, run: Path) -> None:
    page = visit.page
    for control in page.locator("select:visible").all():
        control.select_option(index=control.locator("option").count() - 1)
    page.locator("#threshold").fill("3")
    page.locator("#label-table tbody th button").last.click()
    page.locator("figure.graph .label").first.dispatch_event("click")
    assert visit.said == []
    outside = [url for url in visit.asked if not url.startswith("data:")]
    assert set(outside) == {(run / "report.html").as_uri()}


def test_figures_are_drawn_when_they_come_near_the_screen(wide: Visit) -> None:
    page = wide.page
    page.evaluate("scrollTo(0, 0)")  # where a page has been scrolled to, it opens again
    page.reload()
    page.wait_for_selector("#label-table tbody tr")
    graphs, curves = (
        page.locator("figure.graph svg"),
        page.locator("#precision-recall svg path.line"),
    )
    before = page.evaluate("document.documentElement.scrollHeight")
    assert (graphs.count(), curves.count()) == (0, 0)
    page.locator("#label-curves").scroll_into_view_if_needed()
    curves.first.wait_for()
    page.locator("figure.graph").first.scroll_into_view_if_needed()
    graphs.first.wait_for()
    wide.draw_all()
    # What was not drawn yet had its room already, so that nothing jumps.
    assert page.evaluate("document.documentElement.scrollHeight") == pytest.approx(before, abs=40)


def test_hostile_names_are_text_everywhere(visit: Visit) -> None:
    page = visit.page
    assert page.evaluate("window.hacked") is None
    for name in HOSTILE:
        page.locator("#label-search").fill(name)
        assert visit.first_column() == [name]
    assert set(HOSTILE) <= set(visit.texts("figure.graph:first-child .label title"))
    assert set(HOSTILE) <= set(visit.texts("#curve-label option"))
    assert set(HOSTILE) <= set(visit.texts("ul.parts:first-of-type .name"))
    for name in HOSTILE:
        page.locator("#curve-label").select_option(value=name)
        assert name in page.locator("#counts-table caption").text_content()
        assert page.locator("#counts-table tbody tr").count() == 5
    assert page.locator("main img[src='x']").count() == 0


def test_headers_sort_up_and_down_with_gaps_last(visit: Visit, run: Path) -> None:
    page = visit.page
    header = page.locator("#label-table thead th", has_text="student")
    values = look_up(run, "evaluation/test.json#/predictors/student/average_precision")
    ranked = sorted((value, name) for name, value in values.items() if value is not None)
    assert header.get_attribute("aria-sort") is None
    header.locator("button").click()
    assert header.get_attribute("aria-sort") == "descending"
    assert visit.first_column()[:3] == [name for _, name in ranked[:-4:-1]]
    header.locator("button").click()
    assert header.get_attribute("aria-sort") == "ascending"
    assert visit.first_column()[:3] == [name for _, name in ranked[:3]]
    assert page.locator("#label-table thead [aria-sort]").count() == 1
    for _ in range(2):
        page.locator("#label-on").click()
    assert visit.first_column()[-1] == "label 112"
    assert page.locator("#label-table tbody tr").last.locator("td").nth(3).text_content() == "–"  # noqa: RUF001


def test_labels_are_shown_in_pages_and_found_by_name(visit: Visit) -> None:
    page = visit.page
    status = page.locator("#label-status")
    assert status.text_content() == "1 to 50 of 121 labels"
    assert page.locator("#label-back").is_disabled()
    page.locator("#label-on").click()
    page.locator("#label-on").click()
    assert status.text_content() == "101 to 121 of 121 labels"
    assert page.locator("#label-on").is_disabled()
    page.locator("#label-search").fill("LABEL 11")
    assert visit.first_column() == ["label 11", "label 110", "label 111", "label 112"]
    page.locator("#label-search").fill("<script>")
    assert visit.first_column() == [name for name in visit.first_column() if "<script>" in name]
    assert len(visit.first_column()) == 2
    page.locator("#label-search").fill("no such label")
    assert status.text_content() == "No labels found"


def test_numbers_drawn_by_scripts_are_those_of_the_files(visit: Visit, run: Path) -> None:
    page = visit.page
    page.locator("#label-split").select_option(value="test-unseen")
    cells = page.evaluate(
        """() => [...document.querySelectorAll('#label-table data, #threshold-table data,'
             + ' #reliability-table data')].map((cell) => ({
                 value: cell.value, text: cell.textContent, source: cell.dataset.source,
                 derived: cell.dataset.derived || '', shownAs: cell.dataset.shownAs }))"""
    )
    assert len(cells) > 700
    for cell in cells:
        found = [look_up(run, source) for source in cell["source"].split()]
        number = _derived(cell["derived"], found, cell)
        if number is None:
            assert (cell["value"], cell["text"]) == ("", "–")  # noqa: RUF001
        else:
            assert float(cell["value"]) == pytest.approx(number, abs=1e-12)
            digits = {"percent": 100 * number, "points": 100 * number}.get(cell["shownAs"], number)
            shown = float(cell["text"].replace("−", "-").replace(",", ""))  # noqa: RUF001
            assert abs(shown - digits) <= 0.0501


def _derived(how: str, found: list[Any], cell: dict[str, str]) -> float | None:
    if how == "difference":
        return None if None in found else found[0] - found[1]
    if how == "positives":
        return float((found[0] == 1).sum())
    if how in ("part-of-label", "images-with-label"):
        return float(cell["value"])
    return None if found[0] is None else float(found[0])


def test_counts_at_a_probability_are_those_of_the_predictions(visit: Visit, run: Path) -> None:
    page = visit.page
    label = "label 7"
    page.locator("#curve-label").select_option(value=label)
    page.locator("#threshold").fill("34")
    assert page.locator("#threshold-value").text_content() == "0.70"
    for row in page.locator("#counts-table tbody tr").all():
        name, *cells = [str(text) for text in row.locator("th, td").all_text_contents()]
        place = run / "predictions" / name.replace("/", ".") / "test.parquet"
        predictions = read_predictions(place)
        column = predictions.labels.index(label)
        targets = predictions.targets[:, column]
        chosen = predictions.logits[:, column] >= np.log(0.7 / 0.3)
        hits = int((chosen & (targets == 1)).sum())
        false_alarms = int((chosen & (targets == 0)).sum())
        positives = int((targets == 1).sum())
        precision = hits / max(hits + false_alarms, 1)
        f1 = 2 * hits / (hits + false_alarms + positives)
        scores = [f"{100 * score:.1f}" for score in (precision, hits / positives, f1)]
        counts = [str(count) for count in (hits, false_alarms, positives - hits)]
        assert cells == scores + counts
        sources = {data.get_attribute("data-source") for data in row.locator("data").all()}
        assert sources == {
            f"predictions/{name.replace('/', '.')}/test.parquet#column=logit%3Alabel%207"
        }


def test_choosing_a_label_moves_every_place_that_shows_one(visit: Visit) -> None:
    page = visit.page
    page.locator("#label-search").fill("label 9")
    page.locator("#label-table tbody button", has_text="label 9").first.click()
    assert page.locator("#curve-label").input_value() == "label 9"
    assert page.locator("#reliability-label").input_value() == "label 9"
    assert page.locator("#graph-label").input_value() == "label 9"
    assert visit.texts("figure.graph .label.picked title") == ["label 9", "label 9"]
    page.locator("#graph-label").select_option(value="")
    assert page.locator("figure.graph .label.picked").count() == 0
    assert page.locator("#curve-label").input_value() == "label 9"


def test_everything_can_be_done_by_keyboard(visit: Visit) -> None:
    page = visit.page
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    assert page.locator(".skip").bounding_box()["y"] >= 0
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "main"
    header = page.locator("#label-table thead th", has_text="baseline").first
    header.locator("button").focus()
    page.keyboard.press("Enter")
    assert header.get_attribute("aria-sort") == "descending"
    outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
    assert outline == "solid"
    name = str(page.locator("#label-table tbody button").first.text_content())
    page.locator("#label-table tbody button").first.focus()
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "curve-label"
    assert page.locator("#curve-label").input_value() == name
    page.locator("#threshold").focus()
    page.keyboard.press("ArrowRight")
    assert page.locator("#threshold-value").text_content() == "0.52"
    for region in page.locator(".scroll").all():
        assert region.get_attribute("tabindex") == "0"
        assert region.get_attribute("aria-label")


def test_every_table_has_a_caption_and_every_control_a_name(visit: Visit) -> None:
    page = visit.page
    assert page.locator("table").count() == page.locator("table > caption").count()
    unnamed = page.evaluate(
        """() => [...document.querySelectorAll('select, input')]
            .filter((control) => !control.labels.length).map((control) => control.id)"""
    )
    assert unnamed == []
    ids = page.evaluate("[...document.querySelectorAll('[id]')].map((one) => one.id)")
    assert len(ids) == len(set(ids))
    assert page.locator("img:not([alt])").count() == 0


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_narrow_screen_needs_no_scrolling_sideways(browser: Any, run: Path, scheme: str) -> None:
    visit = Visit(browser, run, viewport={"width": 400, "height": 800}, color_scheme=scheme)
    widths = visit.page.evaluate("[document.documentElement.scrollWidth, innerWidth]")
    assert widths == [400, 400]
    faint = visit.page.evaluate(CONTRASTS)
    assert faint == []
    assert visit.said == []
    visit.context.close()


def test_the_page_of_a_comparison_works_too(browser: Any, tmp_path: Path) -> None:
    folder = comparison(tmp_path / "c")
    write_comparison_report(folder)
    settings = {"viewport": {"width": 400, "height": 800}, "color_scheme": "dark"}
    visit = Visit(browser, folder, drawn=("#label-table tbody tr",), **settings)
    assert visit.first_column() == ["</script>", "cat"]
    visit.page.locator("#label-table thead th", has_text="to baseline").locator("button").click()
    gains = visit.texts("#label-table tbody tr td:nth-child(4)")
    assert gains == ["+10.0", "0.0"]
    visit.page.locator("#arms thead th", has_text="mAP").first.locator("button").click()
    assert visit.texts("#arms table >> nth=0 >> tbody th > .name")[0] == "<b>arm</b>"
    assert visit.page.evaluate("document.documentElement.scrollWidth") == 400
    assert visit.page.evaluate(CONTRASTS) == []
    assert visit.said == []
    assert {url for url in visit.asked if not url.startswith("data:")} == {
        (folder / "report.html").as_uri()
    }
    visit.context.close()
