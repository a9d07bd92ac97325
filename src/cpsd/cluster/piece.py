"""What a piece of a run is, and what a worker makes of what it is told."""

import os
import platform
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Self

import lightning

from cpsd import errors
from cpsd.arguments import config_from_yaml
from cpsd.cluster.demands import Gang, with_demands
from cpsd.config import DataConfig
from cpsd.data.bad_pictures import PictureCheck
from cpsd.data.records import Records
from cpsd.data.sources import load_records
from cpsd.errors import RunError, UserError
from cpsd.execution import needed
from cpsd.machine_config import TrainerConfig
from cpsd.pipeline import Pipeline
from cpsd.run import RunDirectory
from cpsd.stage import Stage, StageState
from cpsd.training.soft_label_writing import Progress, uncounted

SECONDS_TO_SEE_FILES = 90.0
"""How long a network file system may take to show what another machine has written: NFS keeps
directories for up to 60 seconds by default (nfs(5), acdirmax)."""


@dataclass(frozen=True)
class Piece:
    """What a worker is told.

    Args:
        title: how the driver calls it.
        home: address of the run, or of the comparison that it belongs to; None where the run is in
            a folder, which all machines share.
        run: the run directory; of a run at an address, relative to that.
        stage: the stage's name.
        part: the piece of it; None for the stage itself.
        fingerprint: the stage's, as the driver has it.
        config: the run's settings as YAML.
        split_seed: that splits are drawn with.
        looked_at: file that remembers which pictures are bad; of a run at an address, relative to
            that.
        folder: the driver's working directory, which relative paths count from.
        threads: that compute.
        picture_memory: share of the machine's memory for decoded pictures.
        gang: the devices that its training is spread over; None for one.
    """

    title: str
    home: str | None
    run: str
    stage: str
    part: str | None
    fingerprint: str
    config: str
    split_seed: int
    looked_at: str
    folder: str
    threads: int
    picture_memory: float
    gang: Gang | None


@dataclass(frozen=True)
class Refusal:
    """Why a piece failed, where the user can mend it; a value, so that nobody tries it again.

    Args:
        kind: name of the error's class in ``cpsd.errors``.
        message: of the error.
    """

    kind: str
    message: str

    @classmethod
    def of(cls, error: UserError) -> Self:
        """Return what is told of an error."""
        module = UserError.__module__
        kinds = [kind.__name__ for kind in type(error).__mro__ if kind.__module__ == module]
        return cls(kinds[0], str(error))

    def error(self) -> UserError:
        """Return the error again."""
        found: UserError = getattr(errors, self.kind)(self.message)
        return found


def stage_of(
    piece: Piece,
    run: Path,
    looked_at: Path,
    *,
    callbacks: Callable[[str], Sequence[lightning.Callback]] = lambda stage: (),
    counting: Callable[[str], AbstractContextManager[Progress]] = uncounted,
) -> tuple[Stage, list[Stage]]:
    """Return the piece's stage, which reads what it needs in ``run``, and all that it needs.

    Raises:
        RunError: this machine has other data, files or software than the driver's.
    """
    config = config_from_yaml(piece.config)
    records = _records(config.data, piece.split_seed, looked_at)
    config = with_demands(config, threads=piece.threads, picture_memory=piece.picture_memory)
    # Ray gives each of a gang a device, and to each that is the only one it sees.
    trainer = TrainerConfig(num_nodes=1 if piece.gang is None else piece.gang.size)
    config = replace(config, trainer=trainer)
    stages = Pipeline(config, records, run, callbacks=callbacks, counting=counting).stages()
    stage = next(stage for stage in stages if stage.name == piece.stage)
    if stage.fingerprint != piece.fingerprint:
        raise RunError(
            f"On the machine {platform.node()}, '{piece.stage}' depends on other data, files or "
            "another release of cpsd than where the run was started. All machines need the same "
            "release, and the same files at the same paths."
        )
    return stage, needed(stages, stage.name)[:-1]


def enter(piece: Piece) -> None:
    """Go to the folder that relative paths count from; of a run at an address there may be none."""
    try:
        os.chdir(piece.folder)
    except OSError as error:
        if piece.home is not None:
            return
        raise RunError(
            f"The machine {platform.node()} has no folder {piece.folder} ({error.strerror}). The "
            "run directory, the data and the folder that the command is started in must lie at the "
            "same paths on all machines, on a disk that they share."
        ) from error


@lru_cache(maxsize=1)
def _records(data: DataConfig, seed: int, looked_at: Path) -> Records:
    """Return the pictures; a worker performs many pieces on the same."""
    return load_records(data, seed=seed, check=PictureCheck(memory=looked_at))[0]


def wait_for_files(directory: RunDirectory, stages: list[Stage]) -> None:
    """Wait until results that other machines have written are seen on this one.

    Raises:
        RunError: they are not.
    """
    deadline = time.monotonic() + SECONDS_TO_SEE_FILES
    for stage in stages:
        while directory.state(stage) is not StageState.DONE:
            if time.monotonic() > deadline:
                raise RunError(
                    f"The machine {platform.node()} does not see the results of '{stage.name}' in "
                    f"{directory.path}. The run directory must lie on a disk that all machines "
                    "share."
                )
            time.sleep(0.2)
