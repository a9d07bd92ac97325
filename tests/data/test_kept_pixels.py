"""Kept pixels: the same bytes, decoded once, for all processes that load."""

import gc
import pickle
import weakref
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

import tiny
from cpsd.config import ImageConfig
from cpsd.data import kept_pixels as module
from cpsd.data.kept_pixels import KeptPixels, kept_pixels, machine_memory
from cpsd.data.loading import PictureLoader, inference_loader, plain, training_loader
from cpsd.data.picture_dataset import Batch, PictureDataset
from cpsd.data.pixels import read_pixels
from cpsd.data.records import Records
from cpsd.data.views import PLAIN
from cpsd.errors import DataError

NUM_IMAGES = 10
CONFIG = ImageConfig(size=8, horizontal_flip=True)
ENOUGH = 0.5


@pytest.fixture
def records(tmp_path: Path) -> Records:
    return tiny.noisy_records(tmp_path, NUM_IMAGES)


def remove_pictures(records: Records) -> None:
    """From now on, whoever decodes fails."""
    for row in range(len(records)):
        records.image_path(row).unlink()


def loader(records: Records, *, workers: int, memory_share: float = ENOUGH) -> PictureLoader:
    return training_loader(
        records,
        range(NUM_IMAGES),
        CONFIG,
        batch_size=4,
        seed=5,
        num_views=None,
        workers=workers,
        memory_share=memory_share,
    )


def epochs(loader: PictureLoader, num_epochs: int) -> Iterator[Batch]:
    for epoch in range(num_epochs):
        loader.sampler.set_epoch(epoch)  # type: ignore[attr-defined]
        yield from loader
    loader.close()


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_batches_are_the_same_with_and_without(records: Records, workers: int) -> None:
    decoded = list(epochs(loader(records, workers=0, memory_share=0), 3))
    kept = list(epochs(loader(records, workers=workers), 3))
    assert len(kept) == len(decoded) == 9
    for mine, other in zip(kept, decoded, strict=True):
        assert torch.equal(mine.images, other.images)
        assert torch.equal(mine.rows, other.rows)


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_later_epochs_and_loaders_decode_nothing(records: Records, workers: int) -> None:
    expected = [read_pixels(records.image_path(row), 8) for row in range(NUM_IMAGES)]
    first = loader(records, workers=workers)
    list(epochs(first, 1))
    remove_pictures(records)
    assert len(list(epochs(first, 2))) == 6
    others = inference_loader(
        records,
        plain(range(NUM_IMAGES)),
        CONFIG,
        batch_size=NUM_IMAGES,
        seed=0,
        workers=workers,
        memory_share=ENOUGH,
    )
    (batch,) = others
    others.close()
    np.testing.assert_array_equal(batch.images.permute(0, 2, 3, 1), np.stack(expected))


def test_every_size_is_kept_on_its_own_and_other_records_share_nothing(records: Records) -> None:
    first = kept_pixels(records, 8, memory_share=ENOUGH)
    assert first is not None
    assert kept_pixels(records, 8, memory_share=ENOUGH) is first
    assert kept_pixels(records, 9, memory_share=ENOUGH) is not first
    assert kept_pixels(records.select(range(NUM_IMAGES)), 8, memory_share=ENOUGH) is not first


def test_nothing_is_kept_where_not_all_would_fit(
    records: Records, monkeypatch: pytest.MonkeyPatch
) -> None:
    needed = NUM_IMAGES * 8 * 8 * 3
    monkeypatch.setattr(module, "machine_memory", lambda: 2 * needed - 2)
    assert kept_pixels(records, 8, memory_share=0.5) is None
    monkeypatch.setattr(module, "machine_memory", lambda: 2 * needed)
    assert kept_pixels(records, 8, memory_share=0.5) is not None
    assert kept_pixels(records, 7, memory_share=0.0) is None


def test_records_that_nobody_has_free_their_memory(records: Records) -> None:
    copy = records.select(range(NUM_IMAGES))
    kept = kept_pixels(copy, 8, memory_share=ENOUGH)
    assert kept is not None
    memory = weakref.ref(kept)
    del kept, copy
    gc.collect()
    assert memory() is None


def test_a_picture_that_cannot_be_read_is_told_each_time(records: Records) -> None:
    records.image_path(3).write_bytes(b"no picture")
    dataset = PictureDataset(records, CONFIG, seed=5, memory_share=ENOUGH)
    for _ in range(2):
        with pytest.raises(DataError, match=r"labels\.csv, row 5: .*3\.png is no picture"):
            dataset[3, PLAIN]


def test_a_pickled_data_set_decodes_for_itself(records: Records) -> None:
    dataset = PictureDataset(records, CONFIG, seed=5, memory_share=ENOUGH)
    copy = pickle.loads(pickle.dumps(dataset))
    assert torch.equal(copy[2, 1][0], dataset[2, 1][0])


def test_pixels_are_what_was_kept() -> None:
    kept = KeptPixels(3, 2)
    pixels = np.arange(12, dtype=np.uint8).reshape(2, 2, 3)
    kept.keep(1, pixels)
    assert kept.get(0) is None
    np.testing.assert_array_equal(kept.get(1), pixels)


def test_memory_of_the_machine_is_that_of_its_control_group_at_most(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_CONTROL_GROUP_LIMITS", ())
    whole = machine_memory()
    assert whole > 2**28
    for text, expected in (("max\n", whole), ("1000000\n", 10**6), (f"{whole * 9}", whole)):
        (tmp_path / "memory.max").write_text(text)
        limits = (tmp_path / "memory.max", tmp_path / "none")
        monkeypatch.setattr(module, "_CONTROL_GROUP_LIMITS", limits)
        assert machine_memory() == expected
