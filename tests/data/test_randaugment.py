"""RandAugment: torchvision's own is the oracle, for draws and for pixels."""

import numpy as np
import pytest
import torch
from PIL import Image, ImageFilter
from torchvision.transforms import v2

from cpsd.data.randaugment import _OPERATIONS, _smooth, randaugment


def picture(kind: str, width: int, height: int) -> Image.Image:
    generator = np.random.default_rng(3)
    if kind == "noise":
        pixels = generator.integers(0, 256, (height, width, 3))
    elif kind == "extremes":
        pixels = generator.integers(0, 2, (height, width, 3)) * 255
    elif kind == "dark":
        pixels = generator.integers(0, 9, (height, width, 3))
    else:
        y, x = np.mgrid[0:height, 0:width]
        pixels = np.stack([x * 255 // width, y * 255 // height, (x + y) % 256], axis=-1)
    return Image.fromarray(pixels.astype(np.uint8))


KINDS = ("noise", "extremes", "dark", "ramps")


@pytest.mark.parametrize("kind", KINDS)
def test_draws_and_pixels_are_torchvisions(kind: str) -> None:
    # 150 draws of two of 25 signed operations: each comes in about a dozen times, on any kind.
    image = picture(kind, 40, 31)
    for seed in range(150):
        ours = randaugment(image, generator=torch.Generator().manual_seed(seed))
        torch.manual_seed(seed)
        np.testing.assert_array_equal(ours, np.asarray(v2.RandAugment()(image)), str(seed))


@pytest.mark.parametrize("size", [(448, 448), (96, 65), (3, 3), (2, 5), (5, 2), (1, 1)])
def test_sizes_are_torchvisions(size: tuple[int, int]) -> None:
    image = picture("noise", *size)
    for seed in range(20 if size[0] > 100 else 60):
        ours = randaugment(image, generator=torch.Generator().manual_seed(seed))
        torch.manual_seed(seed)
        np.testing.assert_array_equal(ours, np.asarray(v2.RandAugment()(image)), str(seed))


def test_operations_are_as_many_and_as_signed_as_torchvisions() -> None:
    space = v2.RandAugment._AUGMENTATION_SPACE
    assert [signed for _, signed in _OPERATIONS] == [signed for _, signed in space.values()]


@pytest.mark.parametrize("kind", KINDS)
def test_smoothing_is_pillows(kind: str) -> None:
    for size in ((40, 31), (3, 3), (1, 7)):
        image = picture(kind, *size)
        expected = np.asarray(image.filter(ImageFilter.SMOOTH))
        np.testing.assert_array_equal(_smooth(image), expected)


def test_every_sum_of_neighbours_is_rounded_as_pillow_rounds_it() -> None:
    # One neighbour and the centre of one row of 3 x 3 windows: all sums that bytes can make there.
    values = np.arange(256, dtype=np.uint8)
    rows = np.zeros((3, 3 * 256 * 6), dtype=np.uint8)
    others = (0, 1, 2, 64, 128, 255)
    for i, other in enumerate(others):
        columns = slice(3 * 256 * i + 1, 3 * 256 * (i + 1) + 1, 3)
        rows[1, columns] = values
        rows[0, columns] = other
    image = Image.fromarray(np.repeat(rows[..., None], 3, axis=-1))
    expected = np.asarray(image.filter(ImageFilter.SMOOTH))
    np.testing.assert_array_equal(_smooth(image), expected)


def test_the_picture_stays_as_it_is_and_no_global_generator_moves() -> None:
    image = picture("noise", 20, 20)
    before, state = np.array(image), torch.get_rng_state()
    for seed in range(60):
        randaugment(image, generator=torch.Generator().manual_seed(seed))
    np.testing.assert_array_equal(image, before)
    assert torch.equal(state, torch.get_rng_state())
