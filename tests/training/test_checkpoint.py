import tempfile
import zipfile
from pathlib import Path

import lightning
import numpy as np
import pytest
import torch

import tiny
from cpsd.data.records import Records
from cpsd.errors import RunError
from cpsd.method import Place, distill, fit
from cpsd.training.checkpoint import LastCheckpoint, checkpoint_to_resume


@pytest.fixture(scope="module")
def checkpoint(records: Records, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The bytes of a real checkpoint."""
    folder = tmp_path_factory.mktemp("checkpoint")
    place = Place("baseline", folder, folder / "last.ckpt")
    fit(tiny.network(), records, tiny.settings(epochs=1, ema_decay=0.9), place=place)
    assert checkpoint_to_resume(place.checkpoint) == place.checkpoint
    assert list(folder.glob(".*")) == [], "no temporary file is left"
    return place.checkpoint.read_bytes()


def test_no_checkpoint_is_none(tmp_path: Path) -> None:
    assert checkpoint_to_resume(tmp_path / "last.ckpt") is None


@pytest.mark.parametrize("length", [0, 10, 0.5, 0.999])
def test_checkpoint_cut_short_is_refused(length: float, checkpoint: bytes, tmp_path: Path) -> None:
    path = tmp_path / "last.ckpt"
    path.write_bytes(checkpoint[: int(length * len(checkpoint)) if length < 1 else int(length)])
    with pytest.raises(RunError, match="is damaged") as caught:
        checkpoint_to_resume(path)
    assert str(path) in str(caught.value)
    assert "Remove this file" in str(caught.value)


def test_damaged_checkpoint_stops_the_training_by_name(
    checkpoint: bytes, records: Records, tmp_path: Path
) -> None:
    path = tmp_path / "last.ckpt"
    changed = bytearray(checkpoint)
    with zipfile.ZipFile(_written(path, checkpoint)) as archive:
        largest = max(archive.infolist(), key=lambda info: info.file_size)
    changed[largest.header_offset + largest.file_size // 2] ^= 0x10
    path.write_bytes(changed)
    place = Place("baseline", tmp_path, path)
    with pytest.raises(RunError, match="is damaged") as caught:
        fit(tiny.network(), records, tiny.settings(), place=place)
    assert str(path) in str(caught.value)
    assert path.read_bytes() == changed, "nothing is overwritten"


def test_changed_byte_is_refused_or_of_no_consequence(checkpoint: bytes, tmp_path: Path) -> None:
    # Some bytes are padding or dates; every other one is noticed.
    path = tmp_path / "last.ckpt"
    whole = _contents(_written(path, checkpoint))
    generator = np.random.default_rng(0)
    refused = 0
    for place in generator.choice(len(checkpoint), size=120, replace=False):
        changed = bytearray(checkpoint)
        changed[place] ^= 1 << generator.integers(8)
        path.write_bytes(changed)
        try:
            checkpoint_to_resume(path)
        except RunError:
            refused += 1
        else:
            assert _contents(path) == whole
    assert refused > 40


def test_failed_write_keeps_the_last_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = _written(tmp_path / "last.ckpt", b"the last epoch")
    trainer = lightning.Trainer(logger=False, barebones=True)

    def fill_the_disk(name: Path) -> None:
        name.write_bytes(b"half of")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(trainer, "save_checkpoint", fill_the_disk)
    with pytest.raises(RunError, match="disk is full"):
        LastCheckpoint(path).on_train_epoch_end(trainer, lightning.LightningModule())
    assert path.read_bytes() == b"the last epoch"
    assert list(tmp_path.iterdir()) == [path]


def test_checkpoint_needs_no_folder_for_temporary_files(
    records: Records, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # What is begun there stays there when the process is killed.
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "not there"))
    place = Place("baseline", tmp_path, tmp_path / "last.ckpt")
    fit(tiny.network(), records, tiny.settings(epochs=1), place=place)
    assert checkpoint_to_resume(place.checkpoint) == place.checkpoint


def test_checkpoint_of_a_student_holds_no_teacher(records: Records, tmp_path: Path) -> None:
    place = Place("student", tmp_path, tmp_path / "last.ckpt")
    student = tiny.network()
    config = tiny.settings(epochs=1, ema_decay=0.9)
    distill(student, tiny.teachers(), records, config, place=place)
    state = torch.load(place.checkpoint, weights_only=True)
    own = set(student.state_dict())
    expected = {f"networks.0.{key}" for key in own} | {f"averages.0.module.{key}" for key in own}
    assert set(state["state_dict"]) == expected
    (optimizer,) = state["optimizer_states"]
    parameters = [index for group in optimizer["param_groups"] for index in group["params"]]
    assert len(parameters) == len(list(student.parameters()))
    assert len(optimizer["state"]) == len(parameters)


def _written(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def _contents(path: Path) -> list[bytes]:
    state = torch.load(path, weights_only=True)
    tensors = [*state["state_dict"].values()]
    for slots in state["optimizer_states"][0]["state"].values():
        tensors += slots.values()
    rest = {
        key: state[key] for key in ("epoch", "global_step", "loops", "lr_schedulers", "members")
    }
    return [repr(rest).encode(), *(tensor.numpy().tobytes() for tensor in tensors)]
