import io
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from cpsd.data.boxes import Box
from cpsd.explain.overlay import fitted, overlay
from cpsd.explain.panel import PanelColumn, PanelRow, draw_panel, panel_layout

FILL = (0x3B, 0x6E, 0xA8)
TRACK = (0xDC, 0xDC, 0xDC)
NOTE = "How the maps were made. " * 8


def picture(width: int = 96, height: int = 60) -> Image.Image:
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def columns(num_rows: int, *names: str) -> list[PanelColumn]:
    generator = np.random.default_rng(1)
    return [
        PanelColumn(
            name,
            generator.random(num_rows),
            generator.random((num_rows, 4, 4)).astype(np.float32),
        )
        for name in names
    ]


def decoded(panel: Image.Image) -> Image.Image:
    """Return the panel as who opens its PNG file sees it."""
    file = io.BytesIO()
    panel.save(file, format="PNG")
    opened = Image.open(file)
    opened.load()
    assert opened.mode == "RGB"
    return opened


@pytest.mark.parametrize("size", [(96, 60), (60, 96), (500, 40)])
def test_cells_hold_the_picture_and_its_overlays(size: tuple[int, int]) -> None:
    own, rows = picture(*size), [PanelRow("cat", 1), PanelRow("dog", 0), PanelRow("eel", -1)]
    predictors = columns(3, "baseline", "student")
    layout = panel_layout(own, rows, predictors, NOTE)
    panel = decoded(draw_panel(own, rows, predictors, title="a.jpg", note=NOTE))
    assert panel.size == layout.size
    assert layout.cell == fitted(own, 240).size
    for r in range(3):
        for c in range(3):
            left, top = layout.corner(r, c)
            width, height = layout.cell
            cell = np.asarray(panel.crop((left, top, left + width, top + height)))
            shown = fitted(own, 240)
            expected = shown if c == 0 else overlay(shown, predictors[c - 1].maps[r])
            np.testing.assert_array_equal(cell, np.asarray(expected))


def test_bars_are_as_long_as_probabilities() -> None:
    own, rows = picture(), [PanelRow("cat")]
    predictors = columns(1, "baseline", "teachers", "student")
    for column, value in zip(predictors, (0.0, 0.37, 1.0), strict=True):
        column.probabilities[0] = value
    layout = panel_layout(own, rows, predictors, NOTE)
    pixels = np.asarray(draw_panel(own, rows, predictors, title="a.jpg", note=NOTE))
    for c, value in enumerate((0.0, 0.37, 1.0), start=1):
        left, top = layout.corner(0, c)
        line = pixels[top + layout.cell[1] + 14, left : left + layout.cell[0]]
        filled = (line == FILL).all(axis=1).sum()
        empty = (line == TRACK).all(axis=1).sum()
        assert filled / (filled + empty) == pytest.approx(value, abs=0.01)


def test_what_is_written_depends_on_label_target_and_probability() -> None:
    own, predictors = picture(), columns(1, "student")
    panels = [
        np.asarray(
            draw_panel(
                own,
                [row],
                [replace(one, thresholds=threshold) for one in predictors],
                title=title,
                note=note,
            )
        )
        for row, title, note, threshold in (
            (PanelRow("cat", 1), "a.jpg", NOTE, 0.0),
            (PanelRow("cat", 1), "a.jpg", NOTE, 0.0),
            (PanelRow("rat", 1), "a.jpg", NOTE, 0.0),
            (PanelRow("cat", 0), "a.jpg", NOTE, 0.0),
            (PanelRow("cat"), "a.jpg", NOTE, 0.0),
            (PanelRow("cat", 1), "b.jpg", NOTE, 0.0),
            (PanelRow("cat", 1), "a.jpg", NOTE.upper(), 0.0),
            (PanelRow("cat", 1), "a.jpg", NOTE, 1.0),  # not predicted: not bold
        )
    ]
    np.testing.assert_array_equal(panels[0], panels[1])
    for other in panels[2:]:
        assert other.shape == panels[0].shape
        assert (other != panels[0]).any()


def test_a_known_place_is_framed_on_the_picture_alone() -> None:
    own, predictors = Image.new("RGB", (60, 60), (0, 90, 0)), columns(1, "student")
    rows = [[PanelRow("cat", boxes=boxes)] for boxes in ((), [Box(0.25, 0.25, 0.75, 1.0)])]
    plain, framed = (
        np.asarray(draw_panel(own, row, predictors, title="a", note=NOTE)).astype(int)
        for row in rows
    )
    left, top = panel_layout(own, rows[0], predictors, NOTE).corner(0, 0)
    y, x = np.nonzero((plain != framed).any(axis=2))
    assert left + 60 - 4 <= x.min() <= left + 60
    assert left + 180 <= x.max() <= left + 180 + 4
    assert top + 60 - 4 <= y.min() <= top + 60
    assert top + 240 <= y.max() <= top + 240 + 4
    assert framed[top + 120, left + 60].min() > 200  # white between black lines
    assert (framed[top + 120, left + 120] == (0, 90, 0)).all()


@pytest.mark.parametrize(
    "map_hw", [np.zeros((4, 4)), np.full((1, 1), 0.7), np.full((4, 4), 0.7)], ids=str
)
def test_a_map_that_tells_no_places_apart_is_dark_and_says_why(
    map_hw: NDArray[np.float64],
) -> None:
    own, rows = picture(), [PanelRow("cat")]
    column = PanelColumn("student", np.array([0.2]), map_hw[None].astype(np.float32))
    layout = panel_layout(own, rows, [column], NOTE)
    panel = draw_panel(own, rows, [column], title="a", note=NOTE)
    left, top = layout.corner(0, 1)
    cell = np.asarray(panel.crop((left, top, left + layout.cell[0], top + layout.cell[1])))
    dark = overlay(fitted(own, 240), np.zeros((4, 4), dtype=np.float32))
    changed = (cell != np.asarray(dark)).any(axis=2)
    rows_changed = np.flatnonzero(changed.any(axis=1))
    assert 0.1 < changed.mean() < 0.25
    assert (cell == 255).all(axis=2).any()  # white on a strip of ink
    middle = layout.cell[1] / 2
    assert middle - 20 < rows_changed.min() < rows_changed.max() < middle + 20


@pytest.mark.parametrize(
    "label",
    [
        "a $x_1$ label of $\\frac$ nonsense",
        "<script>alert(1)</script>",
        "犬",
        "two\nlines\tand a tab",
        "\udcff",
        "Donaudampfschifffahrtselektrizitätenhauptbetriebswerkbauunterbeamtengesellschaft",
        "many words " * 30,
    ],
)
def test_labels_of_all_kinds_are_drawn_beside_the_pictures(label: str) -> None:
    own, rows, predictors = picture(), [PanelRow(label, 1)], columns(1, "student")
    layout = panel_layout(own, rows, predictors, NOTE)
    panel = np.asarray(draw_panel(own, rows, predictors, title=label, note=NOTE))
    left, top = layout.corner(0, 0)
    names = panel[top : top + layout.row_height, :left]
    assert (names < 128).any()
    assert (names[:, -4:] == 255).all()  # nothing runs into the picture
    assert (panel[:, -10:] == 255).all()  # nor the title out of the panel


def test_a_long_note_makes_the_panel_higher_and_is_whole() -> None:
    own, rows, predictors = picture(), [PanelRow("cat")], columns(1, "student")
    short, long = (panel_layout(own, rows, predictors, note) for note in ("Short.", NOTE * 3))
    assert " ".join(long.note_lines) == (NOTE * 3).strip()
    assert long.size[1] > short.size[1]
    panel = np.asarray(draw_panel(own, rows, predictors, title="a", note=NOTE * 3))
    assert panel.shape[:2] == long.size[::-1]
    assert (panel[-10:] == 255).all()
    assert (panel[-60:-20] < 200).any()  # its last line
