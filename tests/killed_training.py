"""Trainings that are killed: run as ``killed_training.py FOLDER`` by ``training/test_resume.py``.

Every scenario is trained in a process of its own that kills itself with SIGKILL on the way.
"""

import os
import signal
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning
from torch import Tensor, nn

import tiny
from cpsd.data.records import Records
from cpsd.method import Fitted, Place, distill, fit


@dataclass(eq=False)
class Kill(lightning.Callback):
    """Ends the process at a moment of an epoch, as kill -9 does.

    Args:
        epoch: counted from 0.
        batch: after this batch; None: at ``moment``.
        moment: "start" of the epoch, or "validated", before the checkpoint is written.
    """

    epoch: int
    batch: int | None = None
    moment: str | None = None

    def on_train_epoch_start(self, trainer: lightning.Trainer, *_: Any) -> None:
        self._kill(trainer, self.moment == "start")

    def on_train_batch_end(
        self, trainer: lightning.Trainer, task: Any, outputs: Any, batch: Any, index: int
    ) -> None:
        self._kill(trainer, index == self.batch)

    def on_validation_end(self, trainer: lightning.Trainer, *_: Any) -> None:
        self._kill(trainer, self.moment == "validated")

    def _kill(self, trainer: lightning.Trainer, now: bool) -> None:
        if now and trainer.current_epoch == self.epoch:
            os.kill(os.getpid(), signal.SIGKILL)


KILLS = {
    # A network with batch norm and dropout, between epochs and before the epoch's checkpoint.
    "between epochs": Kill(epoch=2, moment="start"),
    "before the checkpoint": Kill(epoch=1, moment="validated"),
    "in the first epoch": Kill(epoch=0, batch=1),
    # Two teachers with averages, clipping and two batches a step; killed inside such a pair.
    "ensemble": Kill(epoch=1, batch=2),
    # A student with dropout, pictures from two loader processes, inside the last epoch.
    "student": Kill(epoch=2, batch=0),
}


def train(
    scenario: str, records: Records, folder: Path, callbacks: Sequence[lightning.Callback] = ()
) -> tuple[Fitted, dict[str, Tensor]]:
    """Train what ``scenario`` names in ``folder``, or go on there; return result and weights."""
    place = Place(scenario, folder, folder / "last.ckpt")
    predictor: nn.Module
    if scenario == "ensemble":
        predictor = tiny.ensemble()
        config = tiny.settings(epochs=3, batch_size=6, accumulate=2, ema_decay=0.9, clip_norm=1.0)
        fitted = fit(predictor, records, config, place=place, callbacks=callbacks)
    elif scenario == "student":
        predictor = tiny.network(dropout=0.3)
        config = tiny.settings(epochs=3, ema_decay=0.9, workers=2)
        fitted = distill(
            predictor, tiny.teachers(), records, config, place=place, callbacks=callbacks
        )
    else:
        predictor = tiny.network(dropout=0.3)
        fitted = fit(predictor, records, tiny.settings(epochs=3), place=place, callbacks=callbacks)
    return fitted, tiny.weights(predictor)


def main(folder: Path) -> None:
    """Train and kill every scenario, and print how its process ended."""
    records = tiny.write_pictures(folder)
    for scenario, kill in KILLS.items():
        # Forked before anything is computed: the imports are paid for once.
        process = os.fork()
        if process == 0:
            train(scenario, records, folder / scenario, [kill])
            os._exit(0)
        _, status = os.waitpid(process, 0)
        sys.stdout.write(f"{scenario}: {os.waitstatus_to_exitcode(status)}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
