"""Stored soft labels held against live ones, and stores that are damaged or of something else."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

import tiny
from cpsd.data.loading import EpochSampler, training_loader
from cpsd.data.picture_dataset import PictureDataset
from cpsd.data.records import TRAIN, Records
from cpsd.errors import DataError, RunError
from cpsd.labels import LabelSpace
from cpsd.method import distill
from cpsd.training.soft_labels import LiveSoftLabels, SoftLabelStore
from stored_soft_labels import CONFIG, NUM_VIEWS, damage, write


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_stored_soft_labels_are_the_live_ones(
    workers: int, records: Records, tmp_path: Path, store: Path
) -> None:
    write(tmp_path / "again", records, workers=workers)
    stored = SoftLabelStore(tmp_path / "again")
    live = LiveSoftLabels(tiny.teachers(), len(tiny.LABELS))
    assert stored.strategies == live.strategies == ("co-occurrence", "dis-occurrence")
    loader = training_loader(
        records,
        records.indices(TRAIN),
        CONFIG.image,
        batch_size=5,
        seed=CONFIG.seed,
        num_views=NUM_VIEWS,
        workers=workers,
    )
    seen = []
    for epoch in range(3):
        loader.sampler.set_epoch(epoch)  # type: ignore[attr-defined]
        view = epoch % NUM_VIEWS
        for batch in loader:
            images = batch.images.float() / 255
            expected = live(images, batch.rows, view_index=view)
            found = stored(images, batch.rows, view_index=view)
            assert found.shape == (len(images), 2, 4)
            assert found.dtype == torch.float32
            # float16 has 11 significant bits: half a unit in the last place is 2 ** -11.
            torch.testing.assert_close(found, expected, rtol=2**-11 * 1.01, atol=1e-6)
            other = stored(images, batch.rows, view_index=(view + 1) % NUM_VIEWS)
            assert not torch.allclose(other, expected, rtol=2**-8)
            seen.append(found)
    loader.close()
    assert len(seen) == 3 * 5
    # The same bytes whatever the number of workers.
    for chunk in store.glob("0*.npy"):
        assert (tmp_path / "again" / chunk.name).read_bytes() == chunk.read_bytes()


def test_they_are_in_mixed_precision_too(records: Records, tmp_path: Path, store: Path) -> None:
    write(tmp_path / "mixed", records, precision="bf16-mixed")
    exact, mixed = SoftLabelStore(store), SoftLabelStore(tmp_path / "mixed")
    live = LiveSoftLabels(tiny.teachers(), len(tiny.LABELS))
    rows = torch.from_numpy(records.indices(TRAIN))
    pictures = PictureDataset(records, CONFIG.image, seed=CONFIG.seed)
    images = torch.stack([pictures[row, 1][0] for row in rows.tolist()]).float() / 255
    with torch.autocast("cpu", torch.bfloat16):
        expected = live(images, rows, view_index=1)
    found = mixed(images, rows, view_index=1)
    # bfloat16 has 8 significant bits, and the pictures go through three layers.
    torch.testing.assert_close(found, expected, rtol=2**-6, atol=2**-6)
    assert not torch.equal(found, exact(images, rows, view_index=1))
    # Chunks of another arithmetic are not gone on with.
    assert write(tmp_path / "mixed", records) == tiny.NUM_TRAIN * NUM_VIEWS * 2


@pytest.mark.parametrize("workers", [0, 2])
def test_student_of_the_store_is_the_student_of_the_teachers(
    workers: int, records: Records, store: Path
) -> None:
    config = tiny.settings(epochs=NUM_VIEWS, workers=workers)
    replayed, live = tiny.network(), tiny.network()
    raw_replayed, raw_live = tiny.RawWeights(), tiny.RawWeights()
    distill(replayed, SoftLabelStore(store), records, config, callbacks=[raw_replayed])
    distill(live, tiny.teachers(), records, config, callbacks=[raw_live])
    initial = tiny.weights(tiny.network())["linear.weight"]
    last = raw_live.after_epoch[-1][0]
    assert (last["linear.weight"] - initial).abs().max() > 0.01
    tiny.assert_close(raw_replayed.after_epoch[-1][0], last, atol=1e-3)


def test_student_does_not_touch_its_teachers(records: Records) -> None:
    teachers = tiny.teachers()
    before = {name: tiny.weights(teacher) for name, teacher in teachers.items()}
    student, alone = tiny.network(), tiny.network()
    distill(student, teachers, records, tiny.settings(ema_decay=0.9))
    for name, teacher in teachers.items():
        tiny.assert_same(tiny.weights(teacher), before[name])  # batch statistics included
        assert not any(module.training for module in teacher.modules())
        assert all(not p.requires_grad and p.grad is None for p in teacher.parameters())
    assert set(student.state_dict()) == set(alone.state_dict())


def test_teachers_in_training_mode_answer_in_eval_mode() -> None:
    teachers = {"co-occurrence": tiny.ensemble(dropout=0.5).train()}
    images = torch.rand(4, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    live = LiveSoftLabels(teachers, len(tiny.LABELS))
    logits = live(images, torch.arange(4), view_index=0)
    assert not logits.requires_grad
    # Batch norm in training mode would make a picture's logits depend on the batch.
    single = live(images[:1], torch.arange(1), view_index=0)
    torch.testing.assert_close(logits[:1], single)


@pytest.mark.parametrize("name", ["00002.npy", "rows.npy"])
def test_store_without_a_file_is_refused_by_name(name: str, store: Path) -> None:
    (store / name).unlink()
    with pytest.raises(RunError, match="missing or damaged") as caught:
        SoftLabelStore(store)
    assert str(store / name) in str(caught.value)


def test_store_with_damaged_rows_is_refused_by_name(store: Path) -> None:
    damage(store / "rows.npy")
    with pytest.raises(RunError, match=r"rows\.npy are missing or damaged"):
        SoftLabelStore(store)


def test_no_student_is_trained_on_a_damaged_chunk(records: Records, store: Path) -> None:
    damage(store / "00002.npy")
    student, before = tiny.network(), tiny.weights(tiny.network())
    with pytest.raises(RunError, match=r"00002\.npy are missing or damaged"):
        distill(student, SoftLabelStore(store), records, CONFIG)
    tiny.assert_same(tiny.weights(student), before)


def test_a_damaged_chunk_is_not_read_and_whole_ones_are(records: Records, store: Path) -> None:
    rows = torch.from_numpy(records.indices(TRAIN))
    images = torch.zeros(1, 3, 8, 8)
    expected = SoftLabelStore(store)(images, rows[:14], view_index=1)
    damage(store / "00002.npy")
    stored = SoftLabelStore(store)
    assert torch.equal(stored(images, rows[:14], view_index=1), expected)
    for _ in range(2):
        with pytest.raises(RunError, match=r"00002\.npy are missing or damaged"):
            stored(images, rows[10:16], view_index=1)


def test_stored_rows_come_in_any_order_and_more_than_once(records: Records, store: Path) -> None:
    stored, images = SoftLabelStore(store), torch.zeros(1, 3, 8, 8)
    rows = torch.from_numpy(records.indices(TRAIN))
    chunks = [np.load(path)[1] for path in sorted(store.glob("0*.npy"))]
    expected = torch.from_numpy(np.concatenate(chunks)).float()
    order = torch.tensor([23, 0, 7, 6, 7, 21, 13])
    assert torch.equal(stored(images, rows[order], view_index=1), expected[order])


@pytest.mark.parametrize("row", [-1, 10**6])
def test_a_picture_without_soft_labels_has_none(row: int, records: Records, store: Path) -> None:
    known = int(records.indices(TRAIN)[0])
    with pytest.raises(DataError, match="has no soft labels"):
        SoftLabelStore(store)(torch.zeros(1), torch.tensor([known, row]), view_index=0)


def test_store_without_manifest_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"manifest\.json is missing"):
        SoftLabelStore(tmp_path)


@pytest.mark.parametrize("key", ["labels", "chunks", "rows", "seed", "image", "pictures"])
def test_a_manifest_without_a_key_is_refused(key: str, records: Records, store: Path) -> None:
    manifest = json.loads((store / "manifest.json").read_text())
    del manifest[key]
    nothing: list[str] = []
    for content in (manifest, nothing):
        (store / "manifest.json").write_text(json.dumps(content))
        with pytest.raises(RunError, match=r"manifest\.json is damaged: it has no '.*Remove the"):
            SoftLabelStore(store)
        with pytest.raises(RunError, match="is damaged"):
            write(store, records)


def test_soft_labels_of_other_labels_pictures_or_views_are_refused(
    records: Records, store: Path
) -> None:
    config = tiny.settings()
    soft_labels = SoftLabelStore(store)
    turned = replace(records, labels=LabelSpace(tuple(tiny.LABELS)[::-1]))
    with pytest.raises(DataError, match=r"those of red, green, .* data have bright, blue"):
        distill(tiny.network(), soft_labels, turned, config)
    more = records.with_splits(["train" if s == "test" else s for s in records.splits])
    missing = records.indices("test")
    first = f"{records.paths[missing[0]]} \\({records.origins[missing[0]]}\\)"
    with pytest.raises(DataError, match=rf"{len(missing)} of 30 pictures .* first {first}"):
        distill(tiny.network(), soft_labels, more, config)
    larger = replace(config, image=replace(config.image, size=config.image.size + 1))
    with pytest.raises(DataError, match=r"image\.size 8, but the student would see 9"):
        distill(tiny.network(), soft_labels, records, larger)
    # The same rows and labels, but the first two training pictures have changed places.
    first, second, *_ = records.indices(TRAIN)
    paths = list(records.paths)
    paths[first], paths[second] = paths[second], paths[first]
    with pytest.raises(DataError, match="of other pictures, or of the same in another order"):
        distill(tiny.network(), soft_labels, replace(records, paths=tuple(paths)), config)
    fewer = records.with_splits(["" if r < 5 else s for r, s in enumerate(records.splits)])
    distill(tiny.network(), soft_labels, fewer, tiny.settings(epochs=1))


@pytest.mark.parametrize("version", [None, 1])
def test_soft_labels_of_views_of_an_earlier_release_are_refused_and_made_anew(
    version: int | None, records: Records, store: Path
) -> None:
    manifest = json.loads((store / "manifest.json").read_text())
    del manifest["views_version"]
    if version is not None:
        manifest["views_version"] = version
    (store / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(DataError, match="as another release of cpsd makes them"):
        distill(tiny.network(), SoftLabelStore(store), records, tiny.settings())
    assert write(store, records) == NUM_VIEWS * tiny.NUM_TRAIN * 2
    distill(tiny.network(), SoftLabelStore(store), records, tiny.settings())


def test_a_student_of_another_seed_sees_the_views_that_were_stored(
    records: Records, store: Path
) -> None:
    student, seen = tiny.network(), []

    class Recorded(SoftLabelStore):
        def __call__(self, images: Tensor, rows: Tensor, *, view_index: int) -> Tensor:
            seen.append((images, rows, view_index))
            return super().__call__(images, rows, view_index=view_index)

    config = tiny.settings()
    distill(student, Recorded(store), records, replace(config, seed=CONFIG.seed + 1))
    views = PictureDataset(records, CONFIG.image, seed=CONFIG.seed)
    orders = []
    for images, rows, view_index in seen:
        expected = torch.stack([views[row, view_index][0] for row in rows.tolist()])
        torch.testing.assert_close(images, expected.float() / 255)
        orders.append(rows.tolist())
    own_order = EpochSampler(records.indices(TRAIN), seed=CONFIG.seed + 1, num_views=None)
    assert orders[0] == [row for row, _ in own_order][: len(orders[0])]
