"""Packs: the very pixels of decoding, resumable, and refused where pictures have changed."""

import json
import os
import pickle
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from cpsd.config import DataConfig, ImageConfig
from cpsd.data import pack_writing
from cpsd.data.loading import inference_loader
from cpsd.data.pack import open_pack
from cpsd.data.pack_writing import bytes_needed, write_pack
from cpsd.data.picture_dataset import PictureDataset
from cpsd.data.pixels import read_pixels
from cpsd.data.records import Records
from cpsd.data.sources import load_records, with_pack
from cpsd.data.views import PLAIN
from cpsd.errors import DataError, RunError
from cpsd.labels import LabelSpace

SIZE = 8
NUM_IMAGES = 7
CONFIG = ImageConfig(size=SIZE, horizontal_flip=True)


def save_picture(path: Path, seed: int) -> None:
    pixels = np.random.default_rng(seed).integers(0, 256, size=(10, 9, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)


@pytest.fixture
def records(tmp_path: Path) -> Records:
    names = [f"{i}.png" for i in range(NUM_IMAGES - 1)] + ["no UTF-8 \udcff.png"]
    (tmp_path / "data").mkdir()
    for seed, name in enumerate(names):
        save_picture(tmp_path / "data" / name, seed)
    return Records(
        paths=(*names, names[2]),
        targets=np.zeros((NUM_IMAGES + 1, 1), dtype=np.int8),
        labels=LabelSpace(("a",)),
        splits=("train",) * (NUM_IMAGES + 1),
        root=tmp_path / "data",
        origins=tuple(f"labels.csv, row {i + 2}" for i in range(NUM_IMAGES + 1)),
    )


@pytest.fixture
def folder(records: Records, tmp_path: Path) -> Path:
    assert write_pack(tmp_path / "pack", records, SIZE) == NUM_IMAGES
    return tmp_path / "pack"


def remove_pictures(records: Records) -> None:
    for path in set(records.paths):
        (records.root / path).unlink()


@pytest.mark.parametrize("workers", [0, 1])
def test_views_are_the_bytes_that_decoding_gives(
    records: Records, folder: Path, workers: int
) -> None:
    keys = [(row, view) for view in (PLAIN, 0, 3) for row in range(len(records))]
    decoded = inference_loader(records, keys, CONFIG, batch_size=5, seed=2, workers=0)
    expected = torch.cat([batch.images for batch in decoded])
    packed = with_pack(records, str(folder))
    remove_pictures(records)
    loader = inference_loader(packed, keys, CONFIG, batch_size=5, seed=2, workers=workers)
    batches = list(loader)
    loader.close()
    assert torch.equal(torch.cat([batch.images for batch in batches]), expected)
    assert torch.cat([batch.rows for batch in batches]).tolist() == [row for row, _ in keys]


def test_a_selection_and_a_pickled_copy_have_their_pictures(records: Records, folder: Path) -> None:
    packed = with_pack(records, str(folder)).select([5, 2, 0])
    assert packed.packed is not None
    for pixels in (packed.packed, pickle.loads(pickle.dumps(packed.packed))):
        for row, original in enumerate((5, 2, 0)):
            expected = read_pixels(records.image_path(original), SIZE)
            np.testing.assert_array_equal(pixels(row), expected)
    assert len(pickle.dumps(packed.packed)) < 2000


def test_a_subset_of_the_pictures_is_found_in_the_pack(records: Records, folder: Path) -> None:
    fewer = with_pack(records.select([6, 1]), str(folder))
    assert fewer.packed is not None
    np.testing.assert_array_equal(fewer.packed(0), read_pixels(records.image_path(6), SIZE))


def test_another_size_is_refused(records: Records, folder: Path) -> None:
    packed = with_pack(records, str(folder))
    with pytest.raises(DataError, match=r"holds pictures at 8 pixels, and image\.size is 9\. Pack"):
        PictureDataset(packed, replace(CONFIG, size=9), seed=0)
    with pytest.raises(RunError, match="holds a pack at 8 pixels; name another folder"):
        write_pack(folder, records, 9)
    assert open_pack(folder, records).size == SIZE


def test_changed_pictures_are_refused_by_name_and_made_anew(records: Records, folder: Path) -> None:
    for row in (3, 5):
        save_picture(records.image_path(row), seed=20 + row)
    message = r"labels\.csv, row 5: the picture 3\.png has changed .* \(2 of 8 have\)\. Start 'cpsd"
    with pytest.raises(DataError, match=message):
        open_pack(folder, records)
    assert write_pack(folder, records, SIZE) == 2
    pixels = open_pack(folder, records)
    for row in range(len(records)):
        np.testing.assert_array_equal(pixels(row), read_pixels(records.image_path(row), SIZE))


def test_a_picture_of_the_same_length_that_was_rewritten_is_read(
    records: Records, folder: Path
) -> None:
    path = records.image_path(1)
    content = bytearray(path.read_bytes())
    os.utime(path, ns=(1, 1))
    open_pack(folder, records)  # the same bytes at another time, as after copying
    content[-20] ^= 1
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"1\.png has changed"):
        open_pack(folder, records)


def test_pictures_that_are_not_packed_are_named(records: Records, folder: Path) -> None:
    save_picture(records.root / "new.png", 9)
    more = replace(records, paths=("new.png", *records.paths[1:]))
    with pytest.raises(DataError, match=r"new\.png is not in the pack .* \(1 of 8 are not\)"):
        open_pack(folder, more)
    assert write_pack(folder, more, SIZE) == NUM_IMAGES
    open_pack(folder, more)


def test_an_interrupted_pack_is_none_and_is_gone_on_with(
    records: Records, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pack_writing, "_CHUNK", 3)

    def interrupt(done: int, total: int) -> None:
        if done == 6:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_pack(tmp_path / "pack", records, SIZE, progress=interrupt)
    with pytest.raises(DataError, match=r"pack is not finished\. Start 'cpsd data pack'"):
        open_pack(tmp_path / "pack", records)
    seen: list[tuple[int, int]] = []
    done = write_pack(
        tmp_path / "pack", records, SIZE, progress=lambda done, total: seen.append((done, total))
    )
    assert done == 1
    assert seen == [(3, 7), (6, 7), (7, 7)]
    pixels = open_pack(tmp_path / "pack", records)
    for row in range(len(records)):
        np.testing.assert_array_equal(pixels(row), read_pixels(records.image_path(row), SIZE))


def test_a_whole_pack_costs_nothing_and_a_damaged_row_is_mended(
    records: Records, folder: Path
) -> None:
    assert write_pack(folder, records, SIZE) == 0
    before = (folder / "pixels.npy").read_bytes()
    damaged = bytearray(before)
    damaged[-5] ^= 1
    (folder / "pixels.npy").write_bytes(damaged)
    assert write_pack(folder, records, SIZE) == 1
    assert (folder / "pixels.npy").read_bytes() == before


def shorten(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-50])


@pytest.mark.parametrize(
    "damage",
    [
        lambda folder: shorten(folder / "pixels.npy"),
        lambda folder: shorten(folder / "files.npy"),
        lambda folder: (folder / "pictures.txt").write_text("a"),
        lambda folder: (folder / "files.npy").unlink(),
    ],
)
def test_a_damaged_pack_is_refused(
    damage: Callable[[Path], object], records: Records, folder: Path
) -> None:
    damage(folder)
    with pytest.raises(DataError, match="is damaged: remove it, and make it again"):
        open_pack(folder, records)


def test_a_pack_of_another_release_is_refused_and_made_anew(records: Records, folder: Path) -> None:
    manifest = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps({**manifest, "pixels_version": 0}))
    with pytest.raises(DataError, match="as another release of cpsd makes them"):
        open_pack(folder, records)
    assert write_pack(folder, records, SIZE) == NUM_IMAGES
    open_pack(folder, records)


def test_a_missing_pack_and_a_folder_of_other_things_are_refused(
    records: Records, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match=r"no pack .*none; 'cpsd data pack' makes one"):
        open_pack(tmp_path / "none", records)
    with pytest.raises(RunError, match=r"data holds other files, such as 0\.png"):
        write_pack(records.root, records, SIZE)


def test_too_small_a_disk_is_told_before_pixels_are_written(
    records: Records, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert bytes_needed(NUM_IMAGES, 300) > 1.8 * 10**6
    usage = type("Usage", (), {"free": 10**6})
    monkeypatch.setattr("shutil.disk_usage", lambda path: usage)
    with pytest.raises(RunError, match=r"Cannot write .*pack: the pack takes 0\.002 GB and only"):
        write_pack(tmp_path / "pack", records, 300)
    assert not (tmp_path / "pack" / "pixels.npy").exists()


def test_a_picture_that_cannot_be_read_is_named(records: Records, tmp_path: Path) -> None:
    records.image_path(4).write_bytes(b"no picture")
    with pytest.raises(DataError, match=r"labels\.csv, row 6: .*4\.png is no picture"):
        write_pack(tmp_path / "pack", records, SIZE)


def test_records_are_loaded_with_the_pack_that_the_settings_name(
    records: Records, tmp_path: Path
) -> None:
    table = records.root / "labels.csv"
    names = [f"{i}.png" for i in range(NUM_IMAGES - 1)]
    splits = ["train", "train", "train", "train", "validation", "test"]
    lines = [f"{name},a,{split}" for name, split in zip(names, splits, strict=True)]
    table.write_text("image,labels,split\n" + "\n".join(lines) + "\n")
    config = DataConfig(table=str(table))
    plain, _ = load_records(config, seed=0)
    write_pack(tmp_path / "pack", plain, SIZE)
    packed, _ = load_records(replace(config, pack=str(tmp_path / "pack")), seed=0)
    assert packed.packed is not None
    assert packed.fingerprint() == plain.fingerprint()
    np.testing.assert_array_equal(packed.packed(2), read_pixels(plain.image_path(2), SIZE))
