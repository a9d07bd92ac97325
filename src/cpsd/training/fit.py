"""Fit: the one place where anything is trained."""

import logging
import math
import signal
import threading
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import lightning
import torch
from lightning.fabric.utilities.warnings import PossibleUserWarning
from lightning.pytorch.loggers import TensorBoardLogger

from cpsd.config import TrainingConfig
from cpsd.cost import Cost
from cpsd.data.lost_processes import plain_loader_errors
from cpsd.data.picture_dataset import Batch
from cpsd.errors import TrainingError
from cpsd.files import plain_file_errors, refusal
from cpsd.losses.objective import Objective
from cpsd.machine_config import TrainerConfig
from cpsd.memory import is_out_of_memory
from cpsd.models.weights import DamagedWeightsError, read_own_weights
from cpsd.peak_memory import held_by_workers, peak_of_process
from cpsd.process_group import plain_process_errors
from cpsd.shares import WHOLE, Share
from cpsd.training.checkpoint import CheckpointInPlace, LastCheckpoint, checkpoint_to_resume
from cpsd.training.compiling import compiled
from cpsd.training.members import Member, Scorer, lay_channels_last
from cpsd.training.task import SoftLabels, TrainingTask

logger = logging.getLogger(__name__)


def fit(
    members: Sequence[Member],
    training_batches: Iterable[Batch],
    validation_batches: Iterable[Batch],
    *,
    objective: Objective,
    training: TrainingConfig,
    reduction: str,
    scorer: Scorer,
    seed: int,
    image_names: Sequence[str],
    folder: Path,
    checkpoint: Path,
    soft_labels: SoftLabels | None = None,
    accelerator: str = "auto",
    compile_networks: bool = False,
    callbacks: Sequence[lightning.Callback] = (),
    trainer_config: TrainerConfig | None = None,
    share: Share = WHOLE,
    num_pictures: int | None = None,
) -> Cost:
    """Train the members on the same batches; each ends with the weights of its best epoch.

    Goes on from ``checkpoint`` where there is one and the members' weights of their best epochs
    are there too; without these it starts over. The result does not depend on whether or where the
    training was interrupted.

    Args:
        members: the networks; their ``best`` says which epoch was kept.
        training_batches: a loader whose order and views depend on (seed, epoch).
        validation_batches: a loader of the pictures that choose the best epoch.
        objective: logits, targets and soft labels to named loss terms.
        training: optimizer, schedule, epochs, precision.
        reduction: of the objective, "sum" or "mean".
        scorer: logits and targets to a number, higher is better.
        seed: of the networks' random layers.
        image_names: by row, for messages.
        folder: for the TensorBoard log.
        checkpoint: the file to go on from, written anew after every epoch.
        soft_labels: the teachers' logits, for a student.
        accelerator: Lightning's.
        compile_networks: let them learn by compiled code; the same results to rounding.
        callbacks: progress bars and the like.
        trainer_config: the devices that train side by side, each in a process that calls this.
        share: of every batch that this process has.
        num_pictures: seen in an epoch, by all of them.

    Raises:
        TrainingError: a loss that is not finite, memory that ran out, or no compiler.
        RunError: a damaged checkpoint, a full disk.
        DataError: a picture that cannot be read.
    """
    networks = [member.network for member in members]
    for network in networks:
        if accelerator == "cuda":  # on a CPU it changes nothing: weights are laid out anew anyway
            lay_channels_last(network)
        network.train()  # Lightning leaves the mode as it is: eval after an evaluation.
    task = TrainingTask(
        members,
        objective,
        training,
        seed=seed,
        scorer=scorer,
        image_names=image_names,
        reduction=reduction,
        soft_labels=soft_labels,
        share=share,
        num_pictures=num_pictures,
    )
    devices = trainer_config or TrainerConfig()
    resume_from = _where_to_resume(checkpoint, members)
    workers = _WorkersMemory()
    with (
        _quiet_lightning(),
        _own_random_state(),
        plain_file_errors(folder),
        _quiet_writers(),
        plain_loader_errors(),
        _plain_batch_errors(training, len(members)),
        plain_process_errors() if share.of > 1 else nullcontext(),
        _interruptible(),
        compiled(networks) if compile_networks else nullcontext(),
    ):
        trainer = lightning.Trainer(
            accelerator=accelerator,
            devices=devices.devices,
            num_nodes=devices.num_nodes,
            # A network of one's own may leave parameters unused in a step, as on one device.
            strategy="auto" if share.of == 1 else "ddp_find_unused_parameters_true",
            use_distributed_sampler=False,  # the loaders hand out shares
            precision=training.precision,
            max_epochs=training.epochs,
            num_sanity_val_steps=0,
            logger=TensorBoardLogger(folder, name="", version="tensorboard"),
            callbacks=[*callbacks, workers, _OwnSigterm(), LastCheckpoint(checkpoint)],
            plugins=[CheckpointInPlace()],
            enable_checkpointing=True,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        trainer.fit(
            task,
            training_batches,
            validation_batches,
            ckpt_path=None if resume_from is None else str(resume_from),
            weights_only=True,
        )
    for member in members:
        best = member.load_best()
        logger.info(
            "%s: kept the %s weights of epoch %d, %s",
            member.name,
            "averaged" if best.weights == "ema" else best.weights,
            best.epoch + 1,
            "the last, for no label has a positive in validation"
            if math.isnan(best.score)
            else f"validation mAP {100 * best.score:.2f}",
        )
    return task.cost_so_far(peak_of_process() + workers.most)


class _OwnSigterm(lightning.Callback):
    """Leaves SIGTERM to whoever had it before Lightning.

    Lightning's handler first tells all devices of it, wherever they are: where one waits for the
    others meanwhile, to write a checkpoint, both wait for ever.
    """

    def __init__(self) -> None:
        self._handler = signal.getsignal(signal.SIGTERM)

    def on_train_start(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule
    ) -> None:
        """Put the handler back; Lightning has just put its own in place."""
        if threading.current_thread() is threading.main_thread() and self._handler is not None:
            signal.signal(signal.SIGTERM, self._handler)


class _WorkersMemory(lightning.Callback):
    """Looks in the middle of every epoch how much memory the processes hold that load pictures."""

    def __init__(self) -> None:
        self.most = 0

    def on_train_batch_end(
        self,
        trainer: lightning.Trainer,
        pl_module: lightning.LightningModule,
        outputs: Any,  # noqa: ANN401 - Lightning's own signature
        batch: Any,  # noqa: ANN401
        batch_idx: int,
    ) -> None:
        """Ask the system once an epoch; it takes milliseconds."""
        if batch_idx == int(trainer.num_training_batches) // 2:
            self.most = max(self.most, held_by_workers())


def _where_to_resume(checkpoint: Path, members: Sequence[Member]) -> Path | None:
    """Return the checkpoint to go on from, None to start over.

    A checkpoint without the weights of the best epochs so far is of no use. It is removed at once:
    beside the best weights of a new attempt it would later look whole.
    """
    found = checkpoint_to_resume(checkpoint)
    lost = [member.best_file for member in members if not _is_whole(member.best_file)]
    if found is None or not lost:
        return found
    logger.info("%s is missing or damaged, so this training starts over.", lost[0])
    checkpoint.unlink()
    return None


def _is_whole(weights: Path) -> bool:
    try:
        read_own_weights(weights)
    except DamagedWeightsError:
        return False
    return True


@contextmanager
def _quiet_lightning() -> Iterator[None]:
    """Keep Lightning's advice about workers and loggers to itself."""
    lightning_logger = logging.getLogger("lightning.pytorch")
    level = lightning_logger.level
    lightning_logger.setLevel(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", PossibleUserWarning)
            # Lightning 2.6 asks torch's pytree in a way that torch 2.14 deprecates.
            warnings.filterwarnings("ignore", message=".*LeafSpec.*")
            yield
    finally:
        lightning_logger.setLevel(level)


@contextmanager
def _quiet_writers() -> Iterator[None]:
    """Keep what the file system refuses to TensorBoard's thread from being shown as a traceback.

    The thread hands the error on: it is raised here by the next value that is logged.
    """
    shown = threading.excepthook

    def show(arguments: threading.ExceptHookArgs) -> None:
        error = arguments.exc_value
        if not isinstance(error, Exception) or refusal(error) is None:
            shown(arguments)

    threading.excepthook = show
    try:
        yield
    finally:
        threading.excepthook = shown


@contextmanager
def _own_random_state() -> Iterator[None]:
    """Leave the caller's generators as they were."""
    with torch.random.fork_rng(range(torch.cuda.device_count())):
        yield


@contextmanager
def _plain_batch_errors(training: TrainingConfig, num_members: int) -> Iterator[None]:
    """Say what would do when memory has run out or a batch is too small."""
    try:
        yield
    except (RuntimeError, ValueError) as error:
        text = str(error)
        if isinstance(error, RuntimeError) and is_out_of_memory(error):
            raise TrainingError(_what_would_fit(training, num_members)) from error
        if isinstance(error, ValueError) and "more than 1 value per channel" in text:
            raise TrainingError(
                "Batch norm cannot learn from a single value, as in a batch of one small picture: "
                "choose another training.batch_size, so that more pictures are left for the last "
                "batch, a larger image.size, or --model.freeze_batch_norm true."
            ) from error
        raise


def _what_would_fit(training: TrainingConfig, num_members: int) -> str:
    """Return what to try where memory has run out: the same recipe in smaller batches."""
    size = training.batch_size
    ran_out = f"Memory ran out with {size} picture{'s' if size > 1 else ''} in a batch."
    several = num_members > 1
    others = ", or --teachers.together false to train one teacher after another" if several else ""
    if size == 1:
        return f"{ran_out} Try a smaller --image.size or --model.backbone{others}."
    smaller = next(size // factor for factor in range(2, size + 1) if size % factor == 0)
    accumulate = training.accumulate * (size // smaller)
    return (
        f"{ran_out} Try --training.batch_size {smaller} --training.accumulate {accumulate}, which "
        f"keeps the recipe{others}."
    )


@contextmanager
def _interruptible() -> Iterator[None]:
    """Turn the exit that Lightning makes of Ctrl-C back into the interrupt it was."""
    in_main_thread = threading.current_thread() is threading.main_thread()
    handler = signal.getsignal(signal.SIGINT)
    try:
        yield
    except SystemExit as error:
        if isinstance(error.__context__, KeyboardInterrupt):
            raise error.__context__ from error
        raise KeyboardInterrupt from error
    finally:
        if in_main_thread:
            signal.signal(signal.SIGINT, handler)
