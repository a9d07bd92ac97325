"""Trainings on two devices: started by torchrun as ``several_devices.py FOLDER``.

``training/test_several_devices.py`` trains the same on one.
"""

import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

import tiny
from cpsd.config import LossConfig, RunConfig
from cpsd.data.records import TRAIN, VALIDATION, Records
from cpsd.machine_config import TrainerConfig
from cpsd.method import Fitted, Place, distill, fit
from cpsd.process_group import gathered, joined

TWO = TrainerConfig(devices=2)
SCENARIOS = ("sum", "mean", "ensemble", "student", "resumed")


def fewer(records: Records) -> Records:
    """Return 23 pictures to train on and 9 to validate on, which two devices share unevenly."""
    left_out = {int(records.indices(split)[0]) for split in (TRAIN, VALIDATION)}
    return records.select([row for row in range(len(records)) if row not in left_out])


def train(
    scenario: str, records: Records, folder: Path, checkpoint: Path, trainer: TrainerConfig
) -> tuple[Fitted, dict[str, Tensor]]:
    """Train what ``scenario`` names; return the result and the weights."""
    place = Place(scenario, folder, checkpoint)
    plain = tiny.settings(epochs=3, ema_decay=0.9, clip_norm=1.0)
    config: RunConfig = replace(plain, trainer=trainer)
    network = partial(tiny.network, batch_norm=False)
    if scenario == "ensemble":
        together = tiny.ensemble(batch_norm=False)
        two_batches = replace(config, training=replace(config.training, batch_size=4, accumulate=2))
        return fit(together, records, two_batches, place=place), tiny.weights(together)
    predictor = network()
    if scenario == "mean":
        config = replace(config, loss=LossConfig(name="bce", reduction="mean"))
    if scenario == "student":
        fitted = distill(predictor, tiny.teachers(), records, config, place=place)
        return fitted, tiny.weights(predictor)
    if scenario == "resumed":
        try:
            fit(network(), records, config, place=place, callbacks=[tiny.StopIn(epoch=1)])
        except tiny.StopError:
            gathered(None)  # the first process may still be writing the checkpoint's name
    return fit(predictor, records, config, place=place), tiny.weights(predictor)


def main(folder: Path) -> None:
    """Train every scenario; each process leaves what it has come to."""
    with joined(TWO, on_cpu=True) as group:
        rank = group.share.index
        records = fewer(tiny.write_pictures(_own(folder, rank)))
        for scenario in SCENARIOS:
            own = folder / scenario / str(rank)
            fitted, weights = train(scenario, records, own, folder / scenario / "last.ckpt", TWO)
            torch.save(weights, own / "weights.pt")
            torch.save(
                [(best.epoch, best.weights, best.score) for best in fitted.best], own / "best.pt"
            )
            torch.save(fitted.cost.to_json(), own / "cost.pt")


def _own(folder: Path, rank: int) -> Path:
    own = folder / f"pictures-{rank}"
    own.mkdir()
    return own


if __name__ == "__main__":
    main(Path(sys.argv[1]))
