"""Soft labels as they are written: interrupted, in chunks apart, counted, and what is refused."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import tiny
from cpsd.data.records import Records
from cpsd.errors import ModelError, RunError
from cpsd.training.soft_label_writing import unwritten_chunks
from cpsd.training.soft_labels import SoftLabelStore
from stored_soft_labels import NUM_CHUNKS, NUM_VIEWS, damage, write


def test_interrupted_writing_goes_on_with_the_missing_chunks(records: Records, store: Path) -> None:
    contents = {path.name: path.read_bytes() for path in sorted(store.iterdir())}
    assert len(contents) == NUM_CHUNKS + 2
    assert write(store, records) == 0, "nothing is left to do"
    (store / "00001.npy").unlink()
    damage(store / "00003.npy")
    stamps = {name: (store / name).stat().st_mtime_ns for name in ("00000.npy", "00002.npy")}
    assert write(store, records) == (7 + 3) * NUM_VIEWS * 2
    assert {path.name: path.read_bytes() for path in sorted(store.iterdir())} == contents
    assert {name: (store / name).stat().st_mtime_ns for name in stamps} == stamps


def test_interrupted_writing_keeps_what_was_finished(records: Records, tmp_path: Path) -> None:
    class Interrupted(nn.Module):
        def __init__(self, calls: int) -> None:
            super().__init__()
            self.network = tiny.network()
            self.calls = calls

        def forward(self, images: Tensor) -> Tensor:
            self.calls -= 1
            if self.calls < 0:
                raise KeyboardInterrupt
            logits: Tensor = self.network(images)
            return logits

    # 14 pictures a chunk (7 in 2 views), 5 in a batch: the fifth batch is in the second chunk.
    # Two calls before the first see what can be folded.
    with pytest.raises(KeyboardInterrupt):
        write(tmp_path, records, {"co-occurrence": Interrupted(2 + 4)})
    with pytest.raises(RunError, match=r"00001\.npy"):
        SoftLabelStore(tmp_path)
    assert write(tmp_path, records, {"co-occurrence": Interrupted(99)}) == (24 - 7) * NUM_VIEWS
    assert len(list(tmp_path.glob("0*.npy"))) == NUM_CHUNKS
    assert SoftLabelStore(tmp_path).num_views == NUM_VIEWS


def test_chunks_of_other_settings_are_made_anew(records: Records, store: Path) -> None:
    before = (store / "00000.npy").read_bytes()
    assert write(store, records, seed=4) == tiny.NUM_TRAIN * NUM_VIEWS * 2
    assert (store / "00000.npy").read_bytes() != before


def test_chunks_written_apart_are_the_store_of_one_call(
    records: Records, tmp_path: Path, store: Path
) -> None:
    apart = tmp_path / "apart"
    counted: list[tuple[int, int]] = []
    for chunk in (2, 0):
        write(apart, records, chunk=chunk, progress=lambda *count: counted.append(count))
    assert counted[-1] == (14, 14)  # 7 pictures in two views
    assert unwritten_chunks(apart, tiny.NUM_TRAIN, chunk_size=7) == [1, 3]
    assert write(apart, records, chunk=2) == 0  # it is there
    with pytest.raises(RunError):
        SoftLabelStore(apart)  # not whole, and never taken for it
    assert write(apart, records) == (7 + 3) * NUM_VIEWS * 2
    assert unwritten_chunks(apart, tiny.NUM_TRAIN, chunk_size=7) == []
    names = sorted(path.name for path in store.iterdir())
    assert sorted(path.name for path in apart.iterdir()) == names
    for name in names:
        assert (apart / name).read_bytes() == (store / name).read_bytes()


def test_a_chunk_written_apart_and_damaged_is_written_again(
    records: Records, tmp_path: Path, store: Path
) -> None:
    apart = tmp_path / "apart"
    for chunk in range(NUM_CHUNKS):
        write(apart, records, chunk=chunk)
    content = bytearray((apart / "00001.npy").read_bytes())
    content[-3] ^= 1
    (apart / "00001.npy").write_bytes(content)
    assert write(apart, records) == 7 * NUM_VIEWS * 2
    assert (apart / "00001.npy").read_bytes() == (store / "00001.npy").read_bytes()


def test_progress_counts_every_picture_in_every_view(records: Records, tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    write(tmp_path, records, progress=lambda *done: told.append(done))
    total = tiny.NUM_TRAIN * NUM_VIEWS
    assert told[0] == (5, total)
    assert told[-1] == (total, total)
    assert told == sorted(set(told))
    (tmp_path / "00001.npy").unlink()
    told.clear()
    write(tmp_path, records, progress=lambda *done: told.append(done))
    assert told[0] == (7 * NUM_VIEWS + 5, total)  # what was finished before counts as done
    assert told[-1][0] == 2 * 7 * NUM_VIEWS


def test_manifest_says_what_is_stored(records: Records, store: Path) -> None:
    manifest = json.loads((store / "manifest.json").read_text())
    assert manifest["labels"] == list(tiny.LABELS)
    assert manifest["num_views"] == NUM_VIEWS
    assert sorted(manifest["chunks"]) == [f"{i:05d}.npy" for i in range(NUM_CHUNKS)]
    chunk = np.load(store / "00003.npy")
    assert chunk.dtype == np.float16
    assert chunk.shape == (NUM_VIEWS, 3, 2, 4)


@pytest.mark.parametrize("value", [7e4, -7e4, math.nan, math.inf])
def test_logits_beyond_float16_are_refused(value: float, records: Records, tmp_path: Path) -> None:
    network = tiny.network()
    with torch.no_grad():
        network.get_parameter("linear.bias")[2] = value
    with pytest.raises(ModelError, match="diverged"):
        write(tmp_path, records, {"co-occurrence": network})
    assert list(tmp_path.glob("0*.npy")) == []
