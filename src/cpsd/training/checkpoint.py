"""The checkpoint that an interrupted training goes on from: whole, checked, and nothing more."""

import io
import zipfile
from pathlib import Path
from typing import Any

import lightning
import torch
from lightning.fabric.plugins import TorchCheckpointIO
from lightning.pytorch.callbacks import Checkpoint

from cpsd.errors import RunError
from cpsd.files import written_whole


class LastCheckpoint(Checkpoint):
    """Writes ``last.ckpt`` at the end of every epoch, after its validation.

    Args:
        path: the file; the previous epoch's is replaced only by a whole new one.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def on_train_epoch_end(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule
    ) -> None:
        """Save the epoch. Lightning calls checkpoint callbacks after all others."""
        if not trainer.is_global_zero:
            trainer.save_checkpoint(self.path)  # takes part in it, and writes nothing
            return
        with written_whole(self.path) as temporary:
            trainer.save_checkpoint(temporary)


class CheckpointInPlace(TorchCheckpointIO):
    """Writes a checkpoint to where it is told to, and to nowhere else.

    Lightning's own begins in the system's folder for temporary files, where a kill leaves it, and
    moves it from there: a copy, where that is another file system.
    """

    def save_checkpoint(
        self,
        checkpoint: dict[str, Any],
        path: str | Path,
        storage_options: Any | None = None,  # noqa: ANN401 - Lightning's own signature
    ) -> None:
        """Save it, first to memory: torch keeps to itself why a file could not be written."""
        content = io.BytesIO()
        torch.save(checkpoint, content)
        Path(path).write_bytes(content.getbuffer())


def checkpoint_to_resume(path: Path) -> Path | None:
    """Return ``path`` if there is a checkpoint, None if there is none.

    Raises:
        RunError: the file is damaged: cut short, or bytes in it have changed.
    """
    if not path.exists():
        return None
    damaged = _damage(path)
    if damaged is not None:
        raise RunError(
            f"The checkpoint {path} is damaged ({damaged}). Remove this file to train this stage "
            "again from its start; finished stages are kept."
        )
    return path


def _damage(path: Path) -> str | None:
    """Return what is wrong with the file, None if it is as it was written."""
    try:
        with zipfile.ZipFile(path) as archive:
            damaged_member = archive.testzip()
        # The checksums say nothing of members that a damaged list of contents leaves out. Mapped,
        # not read: this finds every member but costs no memory.
        torch.load(path, weights_only=True, mmap=True, map_location="cpu")
    # Whatever changed bytes make the two readers stumble on; their errors have no common root.
    except Exception as error:
        return str(error).split("\n")[0] or type(error).__name__
    return damaged_member
