"""Progress of a training: a bar with the time left in a terminal, a line an epoch elsewhere."""

import time
from typing import Any

import lightning
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from cpsd.training.task import TrainingTask


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
        scores = [
            100 * max(row.get("validation_raw", 0.0), row.get("validation_ema", 0.0))
            for row in (member.history[-1] for member in pl_module.members)
        ]
        mean = sum(scores) / len(scores)
        text = f"validation mAP {mean:.1f}"
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


def duration(seconds: float) -> str:
    """Return a length of time in the largest fitting unit.

    Example:
        >>> duration(42.4), duration(125), duration(7300)
        ('42 s', '2 min 05 s', '2 h 01 min')
    """
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
