"""The stage of a piece on a worker's machine, with all that it reads there."""

import platform
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import lightning

from cpsd.arguments import config_from_yaml
from cpsd.cluster.demands import with_demands
from cpsd.cluster.piece import Piece
from cpsd.cluster.piece_copies import PieceCopy
from cpsd.config import DataConfig
from cpsd.data.bad_pictures import PictureCheck
from cpsd.data.records import Records
from cpsd.data.sources import load_records
from cpsd.errors import RunError
from cpsd.execution import needed
from cpsd.machine_config import TrainerConfig
from cpsd.pipeline import Pipeline
from cpsd.run import RunDirectory
from cpsd.stage import Stage, StageState
from cpsd.training.soft_label_writing import Progress, uncounted

SECONDS_TO_SEE_FILES = 90.0
"""How long a network file system may take to show what another machine has written: NFS keeps
directories for up to 60 seconds by default (nfs(5), acdirmax)."""
Callbacks = Callable[[str], Sequence[lightning.Callback]]
Counting = Callable[[str], AbstractContextManager[Progress]]


def no_callbacks(stage: str) -> Sequence[lightning.Callback]:
    """Return what shows the progress of a training that nobody looks at."""
    return ()


def stage_in_folder(
    piece: Piece, *, callbacks: Callbacks = no_callbacks, counting: Counting = uncounted
) -> tuple[Stage, RunDirectory]:
    """Return the piece's stage and its run directory, which all machines share.

    Raises:
        RunError: this machine has other data, files or software than the driver's, or does not
            see what the stage needs.
    """
    directory = RunDirectory(Path(piece.run))
    stage, needs = _stage(piece, directory.path, Path(piece.looked_at), callbacks, counting)
    _wait_for_files(directory, needs)
    return stage, directory


def stage_at_address(
    piece: Piece,
    copy: PieceCopy,
    *,
    callbacks: Callbacks = no_callbacks,
    counting: Counting = uncounted,
) -> Stage:
    """Fetch what the stage of a piece needs, and return the stage, which reads it here.

    Raises:
        RunError: as ``stage_in_folder``.
    """
    looked_at = copy.fetch_beside(piece.looked_at)
    stage, needs = _stage(piece, copy.results, looked_at, callbacks, counting)
    copy.fetch_results({name for need in needs for name in (*need.outputs, need.mark)})
    _require_done(RunDirectory(copy.results), needs)
    return stage


def _stage(
    piece: Piece, run: Path, looked_at: Path, callbacks: Callbacks, counting: Counting
) -> tuple[Stage, list[Stage]]:
    """Return the piece's stage, which reads what it needs in ``run``, and all that it needs."""
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


@lru_cache(maxsize=1)
def _records(data: DataConfig, seed: int, looked_at: Path) -> Records:
    """Return the pictures; a worker performs many pieces on the same."""
    return load_records(data, seed=seed, check=PictureCheck(memory=looked_at))[0]


def _wait_for_files(directory: RunDirectory, stages: list[Stage]) -> None:
    """Wait until results that other machines have written are seen on this one."""
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


def _require_done(directory: RunDirectory, stages: list[Stage]) -> None:
    """Make sure that what was fetched are the results of ``stages``."""
    for stage in stages:
        if directory.state(stage) is not StageState.DONE:
            raise RunError(
                f"The results of '{stage.name}' are not whole in {directory.path}; start the same "
                "command again."
            )
