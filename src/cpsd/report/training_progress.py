"""The progress of a training: a bar with the time left in a terminal, elsewhere a line an epoch."""

import math
import time
from collections.abc import Callable, Sequence
from typing import Any

import lightning
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from cpsd.report.progress import duration
from cpsd.training.task import TrainingTask

SCORES = ("validation_raw", "validation_ema")
"""What a member's history calls the scores of its two sets of weights."""


class TrainingProgress(lightning.Callback):
    """Shows how far a training is, what its last validation said, and how long it will take.

    Args:
        console: where to.
        title: of the training.
    """

    def __init__(self, console: Console, title: str) -> None:
        self.console = console
        self.title = title
        self._progress: Progress | None = None
        self._bar: TaskID | None = None
        self._begun = time.monotonic()
        self._first_epoch = 0

    def on_train_start(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule
    ) -> None:
        """Open the bar, at the place where a resumed training goes on."""
        self._begun = time.monotonic()
        self._first_epoch = trainer.current_epoch
        if not self.console.is_terminal:
            return
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("epoch {task.fields[epoch]}/{task.fields[epochs]}"),
            TextColumn("{task.fields[score]}"),
            TimeRemainingColumn(),
            console=self.console,
            transient=True,
        )
        self._progress.start()
        batches = int(trainer.num_training_batches)
        epochs = trainer.max_epochs or 1
        self._bar = self._progress.add_task(
            self.title,
            total=batches * epochs,
            completed=batches * trainer.current_epoch,
            epoch=trainer.current_epoch + 1,
            epochs=epochs,
            score="",
        )

    def on_train_batch_end(
        self,
        trainer: lightning.Trainer,
        pl_module: lightning.LightningModule,
        outputs: Any,  # noqa: ANN401 - Lightning's own signature
        batch: Any,  # noqa: ANN401
        batch_idx: int,
    ) -> None:
        """Move the bar."""
        if self._progress is not None and self._bar is not None:
            self._progress.update(self._bar, advance=1, epoch=trainer.current_epoch + 1)

    def on_train_epoch_end(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule
    ) -> None:
        """Show the last validation."""
        assert isinstance(pl_module, TrainingTask), "this progress shows the training task"
        text = _last_validation(pl_module)
        if self._progress is not None and self._bar is not None:
            self._progress.update(self._bar, score=text)
            return
        done = trainer.current_epoch + 1
        epochs = trainer.max_epochs or done
        seconds = (time.monotonic() - self._begun) / (done - self._first_epoch) * (epochs - done)
        self.console.print(
            f"  {self.title}: epoch {done}/{epochs}, {text}, {duration(seconds)} left",
            highlight=False,
        )

    def on_train_end(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule
    ) -> None:
        """Close the bar."""
        self._close()

    def on_exception(
        self,
        trainer: lightning.Trainer,
        pl_module: lightning.LightningModule,
        exception: BaseException,
    ) -> None:
        """Close the bar before the message."""
        self._close()

    def _close(self) -> None:
        if self._progress is not None:
            self._progress.stop()
            self._progress = None


class TrainingReport(lightning.Callback):
    """Tells how far a training is, in steps, and what its last validation said.

    Args:
        put: told steps done, steps in all, and the text.
    """

    def __init__(self, put: Callable[[int, int, str], None]) -> None:
        self._put = put
        self._text = ""

    def on_train_start(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule
    ) -> None:
        """Tell where a training begins, or goes on."""
        self._tell(trainer, trainer.current_epoch, 0)

    def on_train_batch_end(
        self,
        trainer: lightning.Trainer,
        pl_module: lightning.LightningModule,
        outputs: Any,  # noqa: ANN401 - Lightning's own signature
        batch: Any,  # noqa: ANN401
        batch_idx: int,
    ) -> None:
        """Tell the step."""
        self._tell(trainer, trainer.current_epoch, batch_idx + 1)

    def on_train_epoch_end(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule
    ) -> None:
        """Tell the last validation."""
        assert isinstance(pl_module, TrainingTask), "this report is of the training task"
        done, epochs = trainer.current_epoch + 1, trainer.max_epochs
        self._text = f"epoch {done}/{epochs}, {_last_validation(pl_module)}"
        self._tell(trainer, done, 0)

    def _tell(self, trainer: lightning.Trainer, epochs: int, steps: int) -> None:
        batches = int(trainer.num_training_batches)
        self._put(batches * epochs + steps, batches * (trainer.max_epochs or 1), self._text)


def _last_validation(task: TrainingTask) -> str:
    rows = [member.history[-1] for member in task.members]
    return _validation([max(row[key] for key in SCORES if key in row) for row in rows])


def _validation(scores: Sequence[float]) -> str:
    """Return the mean of the members' mAPs in words; those that have none are counted."""
    given = [score for score in scores if not math.isnan(score)]
    if not given:
        return "no validation mAP (no label has a positive)"
    text = f"validation mAP {100 * sum(given) / len(given):.1f}"
    left = len(scores) - len(given)
    return f"{text} ({left} of {len(scores)} without a positive)" if left else text
