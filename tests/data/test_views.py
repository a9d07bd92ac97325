import random
from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from torchvision.transforms import v2

from cpsd.config import ImageConfig
from cpsd.data.pixels import squashed
from cpsd.data.views import PLAIN, cutout, view
from cpsd.seeds import derive_seed

SIZE = 24
FULL = ImageConfig(size=SIZE, horizontal_flip=True)
NOTHING = ImageConfig(size=SIZE, randaugment=False, cutout=0)
CUTOUT_ONLY = replace(NOTHING, cutout=0.5)


@pytest.fixture
def pixels() -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, size=(SIZE, SIZE, 3), dtype=np.uint8)


def test_view_has_bytes_with_channels_last(pixels: NDArray[np.uint8]) -> None:
    for view_index in (PLAIN, 0):
        image = view(pixels, view_index, seed=0, image_index=0, config=FULL)
        assert image.shape == (SIZE, SIZE, 3)
        assert image.dtype == np.uint8


def test_plain_view_and_a_view_without_augmentation_are_the_pixels(
    pixels: NDArray[np.uint8],
) -> None:
    for view_index, config in ((PLAIN, FULL), (4, NOTHING)):
        image = view(pixels, view_index, seed=0, image_index=0, config=config)
        np.testing.assert_array_equal(image, pixels)


def test_pixels_of_another_size_are_squashed(pixels: NDArray[np.uint8]) -> None:
    wide = np.repeat(pixels, 2, axis=1)
    image = view(wide, PLAIN, seed=0, image_index=0, config=FULL)
    np.testing.assert_array_equal(image, squashed(wide, SIZE))


def test_view_does_not_depend_on_any_global_generator(pixels: NDArray[np.uint8]) -> None:
    images = []
    for global_seed in (1, 2):
        torch.manual_seed(global_seed)
        np.random.seed(global_seed)
        random.seed(global_seed)
        images.append([view(pixels, v, seed=9, image_index=4, config=FULL) for v in range(20)])
    for first, second in zip(*images, strict=True):
        np.testing.assert_array_equal(first, second)


def global_states() -> tuple[object, ...]:
    return torch.get_rng_state().tolist(), str(np.random.get_state()), random.getstate()


def test_view_moves_no_global_generator_and_leaves_the_pixels(pixels: NDArray[np.uint8]) -> None:
    torch.manual_seed(3)
    before = global_states()
    copy = pixels.copy()
    for v in range(30):
        view(pixels, v, seed=9, image_index=4, config=FULL)
    after = global_states()
    assert before == after
    np.testing.assert_array_equal(pixels, copy)


def test_seed_picture_and_view_index_each_change_the_view(pixels: NDArray[np.uint8]) -> None:
    keys = [(0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1)]
    images = [
        view(pixels, v, seed=seed, image_index=image_index, config=FULL)
        for seed, image_index, v in keys
    ]
    for i, first in enumerate(images):
        assert not any(np.array_equal(first, second) for second in images[i + 1 :])


def test_randaugment_is_torchvisions(pixels: NDArray[np.uint8]) -> None:
    config = replace(NOTHING, randaugment=True)
    for v in range(40):
        image = view(pixels, v, seed=2, image_index=7, config=config)
        torch.manual_seed(derive_seed(2, "view", 7, v))
        expected = np.asarray(v2.RandAugment()(Image.fromarray(pixels)))
        np.testing.assert_array_equal(image, expected)


def test_flip_mirrors_every_second_view(pixels: NDArray[np.uint8]) -> None:
    config = replace(NOTHING, horizontal_flip=True)
    mirrored = 0
    for v in range(200):
        image = view(pixels, v, seed=0, image_index=0, config=config)
        is_mirrored = np.array_equal(image, pixels[:, ::-1])
        assert is_mirrored or np.array_equal(image, pixels)
        mirrored += is_mirrored
    assert 70 <= mirrored <= 130  # 100 +- 4 standard deviations


def test_cutout_is_one_square_of_one_colour_clipped_at_the_border() -> None:
    grey = np.full((SIZE, SIZE, 3), 128, dtype=np.uint8)
    colours, centres, clipped = set(), set(), 0
    for v in range(300):
        image = view(grey, v, seed=0, image_index=0, config=CUTOUT_ONLY)
        painted = (image != 128).any(axis=-1)
        ys, xs = np.nonzero(painted)
        square = painted[ys.min() : ys.max() + 1, xs.min() : xs.max() + 1]
        assert square.all()
        for low, high in ((ys.min(), ys.max()), (xs.min(), xs.max())):
            at_border = low == 0 or high == SIZE - 1
            side = int(high - low) + 1
            assert side == SIZE // 2 or (at_border and SIZE // 4 <= side < SIZE // 2)
        clipped += square.shape != (SIZE // 2, SIZE // 2)
        assert len(np.unique(image[painted], axis=0)) == 1
        colours.add(tuple(image[painted][0].tolist()))
        centres.add((int(ys.min()), int(xs.min())))
    assert len(colours) > 290
    assert len(centres) > 150
    assert 180 < clipped < 270  # 1 - (13/24)^2 = 0.71 of them, +- 4 standard deviations


def test_cutout_covers_the_share_that_a_uniform_centre_gives() -> None:
    # Counted over all centres of a row: the mean overlap of [c - 6, c + 6) with [0, 24), squared.
    overlaps = [len(set(range(c - 6, c + 6)) & set(range(24))) for c in range(24)]
    expected = (np.mean(overlaps) / 24) ** 2
    generator = torch.Generator().manual_seed(0)
    black = Image.new("RGB", (24, 24), (1, 2, 3))
    shares = []
    for _ in range(1500):
        painted = np.asarray(cutout(black, 0.5, generator=generator))
        shares.append((painted != (1, 2, 3)).any(axis=-1).mean())
    assert np.mean(shares) == pytest.approx(expected, abs=4 * np.std(shares) / np.sqrt(1500))
    assert not np.asarray(black).astype(int).std(axis=(0, 1)).any()  # the original is as it was


@pytest.mark.parametrize(("factor", "share"), [(0.0, 0.0), (1.0, 1.0)])
def test_cutout_factor_bounds(factor: float, share: float) -> None:
    black = Image.new("RGB", (5, 5), (1, 2, 3))
    generator = torch.Generator().manual_seed(1)
    painted = [np.asarray(cutout(black, factor, generator=generator)) for _ in range(50)]
    largest = max((pixels != (1, 2, 3)).any(axis=-1).mean() for pixels in painted)
    assert largest == share


@pytest.mark.parametrize("size", [1, 2, 3])
def test_smallest_pictures_have_views(size: int) -> None:
    config = replace(FULL, size=size)
    pixels = np.arange(size * size * 3, dtype=np.uint8).reshape(size, size, 3)
    for v in range(100):
        image = view(pixels, v, seed=0, image_index=0, config=config)
        assert image.shape == (size, size, 3)
