from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cpsd.data.images import PictureError
from cpsd.report.label_error_sheet import COLUMNS, MOST_TILES, label_error_sheet

RED, BLUE = (200, 10, 20), (10, 20, 200)


@dataclass(frozen=True)
class Entry:
    image: str
    label: str = "dog"
    given: int = 1
    probabilities: dict[str, float] = field(default_factory=lambda: {"first": 0.1, "second": 0.2})
    probability: float = 0.05


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    Image.new("RGB", (40, 20), RED).save(tmp_path / "red.png")
    Image.new("RGB", (500, 700), BLUE).save(tmp_path / "blue.png")
    (tmp_path / "broken.png").write_bytes(b"no picture")
    return tmp_path


def share_of(sheet: Image.Image, colour: tuple[int, int, int]) -> float:
    return float((np.asarray(sheet) == colour).all(axis=2).mean())


def pixels_of(sheet: Image.Image, colour: tuple[int, int, int]) -> tuple[int, int, int, int]:
    rows, columns = np.nonzero((np.asarray(sheet) == colour).all(axis=2))
    return int(rows.min()), int(rows.max()), int(columns.min()), int(columns.max())


def test_small_and_large_pictures_fill_their_tiles_in_order(folder: Path) -> None:
    sheet = label_error_sheet([Entry("red.png"), Entry("blue.png", given=0)], root=folder)
    top, bottom, left, right = pixels_of(sheet, RED)
    assert (right - left + 1, bottom - top + 1) == (220, 110)
    blue_top, blue_bottom, blue_left, _ = pixels_of(sheet, BLUE)
    assert blue_bottom - blue_top + 1 == 220
    assert blue_left > right


def test_words_are_drawn_below_each_picture(folder: Path) -> None:
    plain = label_error_sheet([Entry("red.png")], root=folder)
    other = label_error_sheet([Entry("red.png", label="cat")], root=folder)
    changed = np.nonzero((np.asarray(plain) != np.asarray(other)).any(axis=2))
    assert changed[0].min() > pixels_of(plain, RED)[1]
    assert len(set(changed[0].tolist())) < 18  # the line of the label alone


@pytest.mark.parametrize("name", ["broken.png", "gone.png"])
def test_a_picture_that_cannot_be_read_is_named(folder: Path, name: str) -> None:
    # A grey tile in its place would stay there when it can be read again.
    with pytest.raises(PictureError, match=name):
        label_error_sheet([Entry("red.png"), Entry(name)], root=folder)


def test_no_more_tiles_than_asked_for(folder: Path) -> None:
    many = [Entry("red.png")] * (MOST_TILES + 10)
    full = label_error_sheet(many, root=folder)
    assert full.size == label_error_sheet(many[:MOST_TILES], root=folder).size
    row = label_error_sheet(many, root=folder, most_tiles=COLUMNS)
    assert row.width == full.width
    assert abs(row.height - full.height / 6) < 60


def test_names_of_every_kind_stay_inside_their_tile(folder: Path) -> None:
    names = ["x" * 300, '<script>\n"quotes"', "a\udcffb", "\u72d7 \u00e9t\u00e9", "%s {}"]
    for name in names:
        Image.new("RGB", (4, 4), RED).save(folder / "red.png")
        alone = label_error_sheet([Entry("red.png", label=name)], root=folder)
        right = np.asarray(alone)[60:, 12 + 220 + 2 :]
        assert (right == 255).all()
    Image.new("RGB", (4, 4), RED).save(folder / "a\udcffb.png")
    odd = label_error_sheet([Entry("a\udcffb.png")], root=folder)
    assert odd.size == alone.size


def test_nothing_found_is_said(folder: Path) -> None:
    sheet = label_error_sheet([], root=folder)
    assert np.asarray(sheet).min() < 100
    with pytest.raises(ValueError, match="most_tiles"):
        label_error_sheet([], root=folder, most_tiles=0)
