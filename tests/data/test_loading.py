import gc
import multiprocessing
import os
import pickle
import platform
from collections.abc import Callable, Iterable
from pathlib import Path

import lightning
import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

import tiny
from cpsd.config import ImageConfig
from cpsd.data.loading import EpochSampler, PictureLoader, inference_loader, plain, training_loader
from cpsd.data.picture_dataset import Batch, PictureDataset
from cpsd.data.pixels import read_pixels
from cpsd.data.records import Records
from cpsd.data.views import PLAIN, view
from cpsd.errors import DataError
from cpsd.freed_memory import freed_memory_kept
from cpsd.peak_memory import held_by_workers

NUM_IMAGES = 11
CONFIG = ImageConfig(size=8, horizontal_flip=True)
BLOCK = 256 * 2**20


@pytest.fixture
def records(tmp_path: Path) -> Records:
    return tiny.noisy_records(tmp_path, NUM_IMAGES)


Loaded = Callable[..., list[Batch]]


@pytest.fixture
def load_epoch(records: Records) -> Loaded:
    def load(loader: PictureLoader, epoch: int) -> list[Batch]:
        assert isinstance(loader.sampler, EpochSampler)
        loader.sampler.set_epoch(epoch)
        return list(loader)

    return load


def train_on(records: Records, *, workers: int = 0, batch_size: int = 4) -> PictureLoader:
    return training_loader(
        records,
        range(1, NUM_IMAGES),
        CONFIG,
        batch_size=batch_size,
        seed=5,
        num_views=2,
        workers=workers,
    )


def assert_same(first: Iterable[Batch], second: Iterable[Batch]) -> None:
    for a, b in zip(first, second, strict=True):
        for mine, other in zip(a, b, strict=True):
            assert mine.dtype == other.dtype
            assert torch.equal(mine, other)


@pytest.mark.parametrize("workers", [1, 2])
def test_batches_are_the_same_bytes_whatever_the_workers(
    records: Records, load_epoch: Loaded, workers: int
) -> None:
    here, there = train_on(records), train_on(records, workers=workers)
    for epoch in (0, 1, 4):  # persistent workers: the later epochs come from the same processes
        assert_same(load_epoch(here, epoch), load_epoch(there, epoch))


def test_batch_holds_the_views_targets_and_rows(records: Records, load_epoch: Loaded) -> None:
    for epoch in (0, 3):
        for batch in load_epoch(train_on(records), epoch):
            assert isinstance(batch, Batch)
            assert (batch.images.dtype, batch.rows.dtype) == (torch.uint8, torch.int64)
            assert batch.targets.dtype == torch.int8
            np.testing.assert_array_equal(batch.targets, records.targets[batch.rows.numpy()])
            for image, row in zip(batch.images, batch.rows.tolist(), strict=True):
                pixels = read_pixels(records.image_path(row), 8)
                expected = view(pixels, epoch % 2, seed=5, image_index=row, config=CONFIG)
                np.testing.assert_array_equal(image.permute(1, 2, 0), expected)


def test_pictures_of_a_batch_lie_in_memory_as_networks_like_them(
    records: Records, load_epoch: Loaded
) -> None:
    for workers in (0, 1):
        for batch in load_epoch(train_on(records, workers=workers), 0):
            assert batch.images.is_contiguous(memory_format=torch.channels_last)


def test_dataset_item_is_a_view_and_its_row(records: Records) -> None:
    dataset = PictureDataset(records, CONFIG, seed=5)
    assert len(dataset) == NUM_IMAGES
    image, row = dataset[(3, PLAIN)]
    assert row == 3
    pixels = read_pixels(records.image_path(3), 8)
    np.testing.assert_array_equal(image.permute(1, 2, 0), pixels)
    assert torch.equal(dataset[(3, 2)][0], dataset[(3, 2)][0])
    assert not torch.equal(dataset[(3, 2)][0], dataset[(3, 1)][0])


def test_order_depends_on_seed_and_epoch_alone() -> None:
    def order(seed: int, epoch: int, global_seed: int = 0) -> list[int]:
        torch.manual_seed(global_seed)
        sampler = EpochSampler(range(10, 60), seed=seed, num_views=None)
        sampler.set_epoch(epoch)
        keys = list(sampler)
        assert {view_index for _, view_index in keys} == {epoch}
        return [row for row, _ in keys]

    assert sorted(order(0, 0)) == list(range(10, 60))
    assert order(0, 2) == order(0, 2, global_seed=9)
    assert len({tuple(order(seed, epoch)) for seed in (0, 1) for epoch in (0, 1, 2)}) == 6


def test_views_come_round_after_num_views_epochs(records: Records, load_epoch: Loaded) -> None:
    loader = train_on(records)

    def by_row(epoch: int) -> dict[int, Tensor]:
        batches = load_epoch(loader, epoch)
        return {int(r): image for b in batches for r, image in zip(b.rows, b.images, strict=True)}

    first, second, third = by_row(1), by_row(2), by_row(3)
    assert all(torch.equal(first[row], third[row]) for row in first)
    assert not all(torch.equal(first[row], second[row]) for row in first)


@pytest.mark.parametrize(
    ("num_rows", "batch_size", "expected"),
    [
        (10, 4, [4, 4, 2]),  # the rest is kept
        (9, 4, [4, 4]),  # a single picture is left out
        (8, 4, [4, 4]),
        (3, 1, [1, 1, 1]),  # asked for
        (1, 4, [1]),  # all there is
        (2, 4, [2]),
        (0, 4, []),
    ],
)
def test_last_batch_is_kept_unless_it_holds_a_single_picture(
    records: Records, num_rows: int, batch_size: int, expected: list[int]
) -> None:
    rows = list(range(num_rows))
    loader = training_loader(
        records, rows, CONFIG, batch_size=batch_size, seed=0, num_views=None, workers=0
    )
    assert [len(batch.rows) for batch in loader] == expected
    assert len(loader) == len(expected)
    everything = inference_loader(
        records, plain(rows), CONFIG, batch_size=batch_size, seed=0, workers=0
    )
    assert sum(len(batch.rows) for batch in everything) == num_rows


@pytest.mark.parametrize("workers", [0, 2])
def test_inference_keeps_the_order_and_shows_pictures_plain(records: Records, workers: int) -> None:
    rows = np.array([7, 2, 9, 0, 3])
    batches = list(
        inference_loader(records, plain(rows), CONFIG, batch_size=2, seed=0, workers=workers)
    )
    assert [batch.rows.tolist() for batch in batches] == [[7, 2], [9, 0], [3]]
    pixels = read_pixels(records.image_path(9), 8)
    np.testing.assert_array_equal(batches[1].images[0].permute(1, 2, 0), pixels)


def test_inference_on_a_view_gives_the_bytes_that_training_sees(
    records: Records, load_epoch: Loaded
) -> None:
    trained = {
        int(row): image
        for batch in load_epoch(train_on(records, workers=1), 3)
        for row, image in zip(batch.rows, batch.images, strict=True)
    }
    keys = [(row, 1) for row in range(1, NUM_IMAGES)]
    stored = inference_loader(records, keys, CONFIG, batch_size=3, seed=5, workers=2)
    for batch in stored:
        for row, image in zip(batch.rows, batch.images, strict=True):
            assert torch.equal(image, trained.pop(int(row)))
    assert not trained


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_unreadable_picture_arrives_as_a_short_data_error(records: Records, workers: int) -> None:
    records.image_path(6).write_bytes(b"no picture")
    loader = inference_loader(
        records, plain(range(NUM_IMAGES)), CONFIG, batch_size=3, seed=0, workers=workers
    )
    others = set(multiprocessing.active_children())
    batches = iter(loader)
    assert [next(batches).rows.tolist() for _ in range(2)] == [[0, 1, 2], [3, 4, 5]]
    with pytest.raises(DataError) as caught:
        next(batches)
    message = str(caught.value)
    assert message.startswith("labels.csv, row 8: ")
    assert "6.png" in message
    assert "Traceback" not in message
    assert "\n" not in message
    assert set(multiprocessing.active_children()) <= others
    Image.new("RGB", (9, 9)).save(records.image_path(6))
    assert sum(len(batch.rows) for batch in loader) == NUM_IMAGES  # mended, it goes on
    loader.close()


@pytest.mark.parametrize("workers", [0, 1])
def test_loading_moves_no_global_generator(records: Records, workers: int) -> None:
    loader = train_on(records, workers=workers)
    torch.manual_seed(1)
    before = torch.get_rng_state()
    for _ in range(2):
        assert len(list(loader)) == 3
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="counts open files as Linux does")
@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc keeps what is freed")
def test_workers_do_not_hold_what_was_freed_before_they_started(records: Records) -> None:
    with freed_memory_kept():
        np.ones(BLOCK, dtype=np.uint8)  # freed at once, and kept
        loader = train_on(records, workers=1)
        batches = iter(loader)
        next(batches)
        # Pages that a forked process shares are its own once its parent writes to them.
        np.ones(BLOCK, dtype=np.uint8)
        held = held_by_workers()
        loader.close()
    assert 0 < held < BLOCK // 2


@pytest.mark.parametrize("close", [True, False])
def test_workers_leave_no_process_and_no_shared_memory(records: Records, close: bool) -> None:
    def shared_memory() -> set[str]:
        folder = Path("/dev/shm")
        return {path.name for path in folder.glob(f"torch_{os.getpid()}_*")}

    def open_files() -> int:
        gc.collect()
        return len(list(Path("/proc/self/fd").iterdir()))

    others, memory = set(multiprocessing.active_children()), shared_memory()
    files = []
    for _ in range(4):
        loader = train_on(records, workers=2)
        assert len(list(loader)) == 3
        next(iter(loader))  # left half-way
        assert len(set(multiprocessing.active_children()) - others) == 2
        if close:
            loader.close()
        else:
            del loader
        assert set(multiprocessing.active_children()) <= others
        files.append(open_files())
    # Not compared with what was open before: other tests' pipes may close in between, and Python's
    # own helpers start with the first worker. A leak would grow each time.
    assert not files[0] < files[1] < files[2] < files[3]
    assert shared_memory() <= memory


def test_dataset_and_batch_survive_pickling(records: Records) -> None:
    dataset = pickle.loads(pickle.dumps(PictureDataset(records, CONFIG, seed=5)))
    batch = dataset.__getitems__([(2, 0), (3, 0)])
    again = pickle.loads(pickle.dumps(batch))
    assert isinstance(again, Batch)
    assert_same([batch], [again])


class Recorder(lightning.LightningModule):
    """Notes which pictures each epoch shows."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(()))
        self.seen: dict[int, list[int]] = {}
        self.images: dict[tuple[int, int], Tensor] = {}

    def training_step(self, batch: Batch, batch_index: int) -> Tensor:
        assert isinstance(batch, Batch)
        for row, image in zip(batch.rows.tolist(), batch.images, strict=True):
            self.seen.setdefault(self.current_epoch, []).append(row)
            self.images[self.current_epoch, row] = image.clone()
        return self.weight**2

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("workers", [0, 1])
def test_lightning_gives_each_epoch_its_order_and_view_also_after_resuming(
    records: Records, tmp_path: Path, workers: int
) -> None:
    def fit(epochs: int, resume: Path | None = None) -> tuple[Recorder, lightning.Trainer]:
        trainer = lightning.Trainer(
            max_epochs=epochs,
            accelerator="cpu",
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            default_root_dir=tmp_path,
        )
        recorder = Recorder()
        loader = train_on(records, workers=workers)
        trainer.fit(recorder, loader, ckpt_path=resume)
        return recorder, trainer

    whole, _ = fit(4)
    _, trainer = fit(2)
    trainer.save_checkpoint(tmp_path / "last.ckpt")
    resumed, _ = fit(4, tmp_path / "last.ckpt")
    sampler = EpochSampler(range(1, NUM_IMAGES), seed=5, num_views=2)
    assert sorted(whole.seen) == [0, 1, 2, 3]
    assert sorted(resumed.seen) == [2, 3]
    for epoch in range(4):
        sampler.set_epoch(epoch)
        expected = list(sampler)
        for recorder in (whole, resumed) if epoch >= 2 else (whole,):
            assert recorder.seen[epoch] == [row for row, _ in expected]
            for row, view_index in expected:
                pixels = read_pixels(records.image_path(row), 8)
                image = view(pixels, view_index, seed=5, image_index=row, config=CONFIG)
                shown = recorder.images[epoch, row].permute(1, 2, 0)
                np.testing.assert_array_equal(shown, image)
