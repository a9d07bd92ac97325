"""Pictures from the disk to floats on the device, beside the recipe as it was published.

The published recipe decodes with Pillow, squashes with torchvision's first Resize, cuts out,
applies RandAugment, makes a float tensor of each picture and stacks them. Ours is the training
loader's own data set, on JPEGs and on a pack, and the step from bytes to floats on the device.
Both take the same pictures on one core, in batches of the paper's size, and keep the memory that
they free, as a training does.
"""

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from harness import Row, alternate
from photographs import write_photographs
from PIL import Image, ImageDraw
from torch import Tensor
from torchvision import transforms

from cpsd.config import ImageConfig
from cpsd.data.pack_writing import write_pack
from cpsd.data.picture_dataset import PictureDataset
from cpsd.data.records import Records
from cpsd.data.sources import with_pack
from cpsd.freed_memory import freed_memory_kept
from cpsd.training.members import scaled_pixels

SIZE = 448
BATCH = 24


def measure(*, smoke: bool) -> list[Row]:
    """Return how much faster pictures are ready than by the published recipe, on one core."""
    threads, random_state = torch.get_num_threads(), torch.get_rng_state()
    torch.set_num_threads(1)
    try:
        with freed_memory_kept():
            return _rows(smoke=smoke)
    finally:
        torch.set_num_threads(threads)
        torch.set_rng_state(random_state)


def _rows(*, smoke: bool) -> list[Row]:
    if smoke:
        return [*_large_pictures("64 x 48", (64, 48), 4, 1, size=32), *_small_pictures(4, 1)]
    return [
        *_large_pictures("640 x 480", (640, 480), BATCH, 11, must=("1.4", "3")),
        *_large_pictures("12 megapixels", (4000, 3000), 4, 5, must=("2.5", "20")),
        *_small_pictures(256, 9),
    ]


def _large_pictures(
    what: str,
    picture_size: tuple[int, int],
    number: int,
    rounds: int,
    *,
    must: tuple[str, str] | None = None,
    size: int = SIZE,
) -> list[Row]:
    """Return both ratios for JPEGs of ``picture_size``: from the JPEGs and from a pack of them."""
    config = ImageConfig(size=size)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "pictures"
        folder.mkdir()
        records = write_photographs(folder, number, picture_size, seed=0)
        write_pack(Path(name) / "pack", records, size)
        packed = with_pack(records, str(Path(name) / "pack"))
        paths = [records.image_path(row) for row in range(number)]
        bytes_BCHW = PictureDataset(packed, config, seed=0).__getitems__([(0, 0)] * number).images
        seconds = alternate(
            {
                "published": _published(paths, size),
                "jpeg": _ours(records, config),
                "pack": _ours(packed, config),
                "decode": lambda: [_decoded(path, size) for path in paths],
                "floats": lambda: _on_device(bytes_BCHW),
            },
            rounds,
        )
    per_second = {arm: number / took for arm, took in seconds.items()}
    ratio = {arm: seconds["published"] / took for arm, took in seconds.items()}
    title = f"training pictures a second and core, {what} JPEG -> {size} px"
    at_least = [None, None] if must is None else [f">= {limit}" for limit in must]
    return [
        Row(
            f"{title} / published recipe",
            ratio["jpeg"],
            "x",
            must=at_least[0],
            bound=f"decoding alone: {ratio['decode']:.1f} x",
            of_bound=seconds["decode"] / seconds["jpeg"],
        ),
        Row(
            f"{title}, packed / published recipe",
            ratio["pack"],
            "x",
            must=at_least[1],
            bound=f"bytes to floats alone: {ratio['floats']:.0f} x",
            of_bound=seconds["floats"] / seconds["pack"],
        ),
        *(
            Row(f"{title}: {arm}", per_second[name], "pictures/s")
            for arm, name in (
                ("published recipe", "published"),
                ("from JPEG", "jpeg"),
                ("from a pack", "pack"),
            )
        ),
    ]


def _small_pictures(number: int, rounds: int) -> list[Row]:
    """Return what it brings to keep 96 px JPEGs in memory, which are as large as they are shown."""
    config = ImageConfig(size=96)
    with tempfile.TemporaryDirectory() as name:
        records = write_photographs(Path(name), number, (96, 96), seed=1)
        copy = records.select(range(number))
        seconds = alternate(
            {"decoded": _ours(records, config), "kept": _ours(copy, config, memory_share=0.5)},
            rounds,
        )
    what = "epochs of 96 px JPEGs, kept in memory / decoded each time"
    rate = f"{number / seconds['kept']:,.0f} pictures/s"
    return [Row(what, seconds["decoded"] / seconds["kept"], "x", bound=f"augmentation: {rate}")]


def _ours(
    records: Records, config: ImageConfig, *, memory_share: float = 0.0
) -> Callable[[], Tensor]:
    pictures = PictureDataset(records, config, seed=0, memory_share=memory_share)
    epochs = iter(range(10**6))

    def batch() -> Tensor:
        epoch = next(epochs)
        loaded = pictures.__getitems__([(row, epoch) for row in range(len(records))])
        return _on_device(loaded.images)

    return batch


def _published(paths: Sequence[Path], size: int) -> Callable[[], Tensor]:
    steps = transforms.Compose(
        [
            transforms.Resize((size, size)),
            _cut_out,
            transforms.RandAugment(),
            transforms.ToTensor(),
        ]
    )

    def batch() -> Tensor:
        images = []
        for path in paths:
            with Image.open(path) as picture:
                images.append(steps(picture.convert("RGB")))
        return _synchronized(torch.stack(images).to(_device()))

    return batch


def _cut_out(picture: Image.Image) -> Image.Image:
    """Paint a square of half the side in a random colour, centred anywhere."""
    painted = picture.copy()
    x, y = (int(torch.randint(side, ())) for side in picture.size)
    half = min(picture.size) // 4
    colour = tuple(torch.randint(256, (3,)).tolist())
    ImageDraw.Draw(painted).rectangle((x - half, y - half, x + half, y + half), colour)
    return painted


def _decoded(path: Path, size: int) -> Image.Image:
    """Decode as ours does: at a fraction of the size where that is twice what is wanted."""
    with Image.open(path) as picture:
        picture.draft(None, (2 * size, 2 * size))
        picture.load()
        return picture


def _on_device(bytes_BCHW: Tensor) -> Tensor:
    return _synchronized(scaled_pixels(bytes_BCHW.to(_device(), non_blocking=True)))


def _device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def _synchronized(images: Tensor) -> Tensor:
    if images.is_cuda:
        torch.cuda.synchronize()
    return images
