"""A training that was interrupted anywhere ends as one that was not."""

import logging
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import lightning
import pytest
import torch

import killed_training
import tiny
from cpsd.cost import OLD
from cpsd.data.records import Records
from cpsd.method import Place, fit


class EpochsSeen(lightning.Callback):
    def __init__(self) -> None:
        self.seen: list[int] = []

    def on_train_epoch_start(self, trainer: lightning.Trainer, *_: Any) -> None:
        self.seen.append(trainer.current_epoch)


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    """Folders of trainings that were killed on the way, and how their processes ended."""
    folder = tmp_path_factory.mktemp("killed")
    # Output to files: loader processes outlive their killed parent by seconds and hold a pipe open.
    with (folder / "out").open("w") as out, (folder / "err").open("w") as err:
        subprocess.run(
            [sys.executable, killed_training.__file__, str(folder)],
            stdout=out,
            stderr=err,
            check=False,
            timeout=120,
        )
    lines = (folder / "out").read_text().splitlines()
    assert lines, (folder / "err").read_text()
    return folder, dict(line.split(": ") for line in lines)


@pytest.mark.parametrize("scenario", killed_training.KILLS)
def test_killed_and_resumed_training_ends_as_an_uninterrupted_one(
    scenario: str, killed: tuple[Path, dict[str, str]], tmp_path: Path, records: Records
) -> None:
    folder, exits = killed
    assert exits[scenario] == str(-signal.SIGKILL)
    # Epochs finished before the kill are not repeated.
    epochs = EpochsSeen()
    resumed, weights = killed_training.train(scenario, records, folder / scenario, [epochs])
    whole, expected = killed_training.train(scenario, records, tmp_path)
    kill = killed_training.KILLS[scenario]
    assert epochs.seen == list(range(kill.epoch, 3))
    tiny.assert_same(weights, expected)
    assert resumed.best == whole.best
    tables = sorted(path.relative_to(tmp_path) for path in tmp_path.rglob("metrics.csv"))
    assert len(tables) == len(whole.best)
    for table in tables:
        assert (folder / scenario / table).read_text() == (tmp_path / table).read_text()


def test_resumed_training_counts_the_pictures_of_all_attempts(
    records: Records, tmp_path: Path
) -> None:
    place = Place("baseline", tmp_path, tmp_path / "last.ckpt")
    with pytest.raises(tiny.StopError):
        fit(tiny.network(), records, tiny.settings(), place=place, callbacks=[tiny.StopIn(epoch=1)])
    resumed = fit(tiny.network(), records, tiny.settings(), place=place)
    whole = fit(tiny.network(), records, tiny.settings())
    assert resumed.cost.flops == whole.cost.flops
    assert whole.cost.flops_forward == _forward_flops(2 * (tiny.NUM_TRAIN + tiny.NUM_VALIDATION))
    assert resumed.cost.images_backward == 2 * tiny.NUM_TRAIN
    assert resumed.cost.images_forward == 2 * (tiny.NUM_TRAIN + tiny.NUM_VALIDATION)


def _forward_flops(num_images: int) -> int:
    """Return the operations of the tiny network: 3 x 3 places, and a linear layer."""
    return num_images * 2 * (3 * 3 * 3 * 3 * 3 * 8 + 8 * 4)


def test_a_checkpoint_of_before_operations_were_counted_is_gone_on_from(
    records: Records, tmp_path: Path
) -> None:
    place = Place("baseline", tmp_path, tmp_path / "last.ckpt")
    with pytest.raises(tiny.StopError):
        fit(tiny.network(), records, tiny.settings(), place=place, callbacks=[tiny.StopIn(epoch=1)])
    checkpoint = torch.load(place.checkpoint, weights_only=True)
    checkpoint["cost"] = [5.0, tiny.NUM_TRAIN + tiny.NUM_VALIDATION, tiny.NUM_TRAIN]
    torch.save(checkpoint, place.checkpoint)
    cost = fit(tiny.network(), records, tiny.settings(), place=place).cost
    assert cost.images_backward == 2 * tiny.NUM_TRAIN
    assert cost.seconds > 5
    assert (cost.flops, cost.not_counted) == (None, OLD)


@pytest.mark.parametrize("damage", ["removed", "cut short", "a flipped bit"])
def test_without_its_best_weights_a_training_starts_over(
    damage: str, records: Records, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config = tiny.settings(epochs=3)
    whole = tiny.network()
    expected = fit(
        whole,
        records,
        config,
        place=Place("baseline", tmp_path / "a", tmp_path / "a" / "last.ckpt"),
    )
    folder = tmp_path / "b"
    place = Place("baseline", folder, folder / "last.ckpt")
    with pytest.raises(tiny.StopError):
        fit(tiny.network(), records, config, place=place, callbacks=[tiny.StopIn(epoch=2)])
    best = folder / "model.safetensors"
    content = best.read_bytes()
    best.unlink()
    if damage == "cut short":
        best.write_bytes(content[: len(content) // 2])
    elif damage == "a flipped bit":
        best.write_bytes(content[:-1] + bytes([content[-1] ^ 64]))
    # Interrupted again, after new best weights but before the epoch's checkpoint: the old
    # checkpoint must not be taken for theirs.
    with pytest.raises(tiny.StopError), caplog.at_level(logging.INFO, "cpsd"):
        fit(tiny.network(), records, config, place=place, callbacks=[StopAfterValidation()])
    assert f"{best} is missing or damaged, so this training starts over." in caplog.text
    assert best.is_file()
    resumed, seen = tiny.network(), EpochsSeen()
    assert fit(resumed, records, config, place=place, callbacks=[seen]).best == expected.best
    assert seen.seen == [0, 1, 2]
    tiny.assert_same(tiny.weights(resumed), tiny.weights(whole))


class StopAfterValidation(lightning.Callback):
    def on_validation_end(self, *_: Any) -> None:
        raise tiny.StopError


def test_finished_training_is_not_repeated(records: Records, tmp_path: Path) -> None:
    place = Place("baseline", tmp_path, tmp_path / "last.ckpt")
    first = tiny.network()
    fitted = fit(first, records, tiny.settings(), place=place)
    again, seen = tiny.network(seed=9), EpochsSeen()
    repeated = fit(again, records, tiny.settings(), place=place, callbacks=[seen])
    assert repeated.best == fitted.best
    assert repeated.cost == replace(fitted.cost, peak_memory=repeated.cost.peak_memory)
    assert seen.seen == []
    tiny.assert_same(tiny.weights(again), tiny.weights(first))
