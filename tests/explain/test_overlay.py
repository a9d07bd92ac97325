import matplotlib
import numpy as np
import pytest
from PIL import Image

from cpsd.explain.overlay import (
    EVEN,
    NOTHING,
    ONE_PLACE,
    colours_of,
    fitted,
    nothing_to_compare,
    overlay,
)


def noise(width: int, height: int) -> Image.Image:
    pixels = np.random.default_rng(3).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def test_a_pixel_is_its_grey_under_the_colour_of_its_share() -> None:
    picture = noise(6, 4)
    map_hw = np.array([[0.0, 1.0, 2.0], [4.0, 8.0, 0.0]], dtype=np.float32)
    found = np.asarray(overlay(picture, map_hw))
    assert found.shape == (4, 6, 3)
    # Corners lie beyond the centres of the outermost places: no interpolation there.
    for row, column, share in ((0, 0, 0.0), (0, 5, 0.25), (3, 0, 0.5), (3, 5, 0.0)):
        grey = np.asarray(picture.convert("L"))[row, column]
        colour = 255 * np.array(matplotlib.colormaps["inferno"](share)[:3])
        opacity = 0.4 + 0.3 * share
        np.testing.assert_allclose(
            found[row, column], (1 - opacity) * grey + opacity * colour, atol=0.51
        )


def test_the_scale_of_a_map_is_its_own() -> None:
    picture, map_hw = noise(20, 20), np.random.default_rng(1).random((4, 4)).astype(np.float32)
    same = np.asarray(overlay(picture, 1024 * map_hw))
    np.testing.assert_array_equal(np.asarray(overlay(picture, map_hw)), same)


def test_an_empty_map_leaves_the_picture_dark() -> None:
    picture = noise(5, 5)
    expected = 0.6 * np.asarray(picture.convert("L")) + 0.4 * 255 * colours_of(np.zeros(1))[0, 0]
    found = np.asarray(overlay(picture, np.zeros((3, 3), dtype=np.float32)))[..., 0]
    np.testing.assert_allclose(found, expected, atol=0.51)


@pytest.mark.parametrize("map_hw", [[[0.7]], [[2.0, 2.0]], [[0.1, 0.1 + 1e-8]]], ids=str)
def test_a_map_that_tells_no_places_apart_leaves_it_as_dark(map_hw: list[list[float]]) -> None:
    picture = noise(5, 5)
    dark, found = (
        np.asarray(overlay(picture, np.array(one, dtype=np.float32))) for one in ([[0.0]], map_hw)
    )
    np.testing.assert_array_equal(found, dark)


@pytest.mark.parametrize(
    ("map_hw", "expected"),
    [
        ([[0.0, 0.0]], NOTHING),
        ([[0.0]], NOTHING),
        ([[1e-9]], ONE_PLACE),
        ([[3.0, 3.0], [3.0, 3.00001]], EVEN),
        ([[3.0, 3.0], [3.0, 3.001]], None),
        ([[0.0, 1e-9]], None),
    ],
    ids=str,
)
def test_it_is_told_why_there_is_nothing_to_compare(
    map_hw: list[list[float]], expected: str | None
) -> None:
    assert nothing_to_compare(np.array(map_hw, dtype=np.float32)) == expected


def test_the_brightest_place_is_where_the_map_has_its_maximum() -> None:
    map_hw = np.zeros((4, 5), dtype=np.float32)
    map_hw[2, 4] = 3.0
    grey = Image.new("RGB", (100, 40), (90, 90, 90))
    lightness = np.asarray(overlay(grey, map_hw).convert("L"), dtype=np.float64)
    row, column = np.unravel_index(lightness.argmax(), lightness.shape)
    assert 20 <= row < 30
    assert 80 <= column < 100


def test_colours_grow_lighter_all_the_way() -> None:
    red, green, blue = colours_of(np.linspace(0, 1, 64)).T
    assert (np.diff(0.2126 * red**2.2 + 0.7152 * green**2.2 + 0.0722 * blue**2.2) > 0).all()


@pytest.mark.parametrize(
    ("size", "expected"),
    [((400, 200), (100, 50)), ((30, 60), (50, 100)), ((2000, 3), (100, 1)), ((100, 100),) * 2],
)
def test_pictures_are_fitted_by_their_longer_side(
    size: tuple[int, int], expected: tuple[int, int]
) -> None:
    assert fitted(noise(*size), 100).size == expected
