"""Pixels at training size: Pillow's resize is the oracle, to within a level."""

import gc
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from cpsd.data.images import read_image
from cpsd.data.pixels import Pixels, read_pixels, squashed


def noise(width: int, height: int, *, seed: int = 0) -> Pixels:
    generator = np.random.default_rng(seed)
    return generator.integers(0, 256, (height, width, 3), dtype=np.uint8)


def by_pillow(pixels: Pixels, size: int) -> Pixels:
    square = Image.fromarray(pixels).resize((size, size), Image.Resampling.BILINEAR)
    return np.asarray(square, dtype=np.uint8)


def distances(first: Pixels, second: Pixels) -> NDArray[np.int64]:
    return np.abs(first.astype(np.int64) - second.astype(np.int64))


@pytest.mark.parametrize(
    ("width", "height", "size"),
    [
        # smaller, larger, one side each, much smaller, a single row or pixel
        (100, 40, 24),
        (9, 7, 32),
        (10, 90, 30),
        (1500, 1100, 16),
        (64, 1, 8),
        (1, 1, 5),
        (33, 20, 1),
    ],
)
def test_squashing_is_pillows_antialiased_bilinear_to_a_level(
    width: int, height: int, size: int
) -> None:
    extremes = (noise(width, height) > 127).astype(np.uint8) * 255
    for pixels in (noise(width, height), extremes):
        result = squashed(pixels, size)
        assert result.shape == (size, size, 3)
        assert result.dtype == np.uint8
        assert result.flags.c_contiguous
        apart = distances(result, by_pillow(pixels, size))
        assert apart.max() <= 1
        # Rarely at all; of regular patterns that fall onto halves (here 90 rows to 30), often.
        assert apart.mean() < 0.2


def test_pixels_of_the_size_are_taken_as_they_are() -> None:
    pixels = noise(6, 6)
    assert squashed(pixels, 6) is pixels


def test_read_only_and_sliced_pixels_are_squashed_too() -> None:
    pixels = noise(12, 9)
    expected = squashed(pixels, 5)
    frozen = pixels.copy()
    frozen.flags.writeable = False
    mirrored = np.ascontiguousarray(pixels[:, ::-1])[:, ::-1]
    for same in (frozen, mirrored):
        np.testing.assert_array_equal(squashed(same, 5), expected)


def test_a_file_comes_at_the_size_it_is_asked_for(tmp_path: Path) -> None:
    Image.fromarray(noise(100, 40)).save(tmp_path / "a.png")
    pixels = read_pixels(tmp_path / "a.png", 24)
    np.testing.assert_array_equal(pixels, squashed(noise(100, 40), 24))


@pytest.mark.parametrize(
    ("width", "height"),
    [
        (100, 40),
        (24, 24),
        (2100, 2000),  # too large for Pillow to hold it in one piece
    ],
)
@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA", "P"])
def test_pixels_are_those_of_a_copy(mode: str, width: int, height: int, tmp_path: Path) -> None:
    image = Image.fromarray(noise(width, height)).convert(mode)
    exif = Image.Exif()
    exif[0x0112] = 6
    image.save(tmp_path / "a.png", exif=exif)
    pixels = read_pixels(tmp_path / "a.png", 24)
    upright = image.transpose(Image.Transpose.ROTATE_270)
    expected = squashed(np.array(upright.convert("RGB")), 24)
    np.testing.assert_array_equal(pixels, expected)
    assert pixels.flags.c_contiguous
    assert pixels.shape == (24, 24, 3)


def test_pixels_outlive_the_picture(tmp_path: Path) -> None:
    Image.fromarray(noise(24, 24)).save(tmp_path / "a.png")
    kept = [read_pixels(tmp_path / "a.png", 24) for _ in range(50)]
    gc.collect()
    assert all((pixels == noise(24, 24)).all() for pixels in kept)


def test_one_pixel_fills_the_square(tmp_path: Path) -> None:
    Image.new("RGB", (1, 1), (1, 2, 3)).save(tmp_path / "a.png")
    assert (read_pixels(tmp_path / "a.png", 8) == [1, 2, 3]).all()


@pytest.mark.parametrize("size", [(1600, 1200), (4000, 64), (300, 300)])
def test_scaling_while_decoding_does_not_hurt(tmp_path: Path, size: tuple[int, int]) -> None:
    y, x = np.mgrid[0 : size[1], 0 : size[0]]
    channels = [x * 255 // size[0], y * 255 // size[1], (x + y) * 255 // (size[0] + size[1])]
    smooth = Image.fromarray(np.stack(channels, -1).astype(np.uint8))
    coarse = Image.effect_noise((size[0] // 8, size[1] // 8), 90).convert("RGB")
    image = Image.blend(coarse.resize(size, Image.Resampling.BICUBIC), smooth, 0.5)
    image.save(tmp_path / "a.jpg", quality=90)
    drafted = read_pixels(tmp_path / "a.jpg", 96)
    apart = distances(drafted, by_pillow(np.asarray(read_image(tmp_path / "a.jpg")), 96))
    assert apart.mean() < 0.5
    assert apart.max() < 8


def test_a_large_jpeg_is_scaled_while_it_is_decoded(tmp_path: Path) -> None:
    Image.fromarray(noise(640, 400)).save(tmp_path / "a.jpg")
    assert read_image(tmp_path / "a.jpg", least=100).size == (160, 100)
    assert read_image(tmp_path / "a.jpg", least=101).size == (320, 200)
    assert read_image(tmp_path / "a.jpg").size == (640, 400)
