"""Performing one piece of a run in a worker process, from the run directory's own files."""

import os
import platform
import time
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import ray
import torch
from threadpoolctl import threadpool_limits

from cpsd.arguments import config_from_yaml
from cpsd.cluster.board import Reporter
from cpsd.cluster.demands import with_demands
from cpsd.config import DataConfig
from cpsd.data.bad_pictures import PictureCheck
from cpsd.data.records import Records
from cpsd.data.sources import load_records
from cpsd.errors import RunError, UserError
from cpsd.execution import needed
from cpsd.pipeline import Pipeline
from cpsd.run import RunDirectory, Stage, StageState

SECONDS_TO_REPORT = 5.0
SECONDS_TO_SEE_FILES = 90.0
"""How long a network file system may take to show what another machine has written: NFS keeps
directories for up to 60 seconds by default (nfs(5), acdirmax)."""


@dataclass(frozen=True)
class Piece:
    """What a worker is told.

    Args:
        title: how the driver calls it.
        run: the run directory.
        stage: the stage's name.
        part: the piece of it; None for the stage itself.
        fingerprint: the stage's, as the driver has it.
        config: the run's settings as YAML.
        split_seed: that splits are drawn with.
        looked_at: file that remembers which pictures are bad.
        folder: the driver's working directory, which relative paths count from.
        threads: that compute.
        picture_memory: share of the machine's memory for decoded pictures.
    """

    title: str
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


@dataclass(frozen=True)
class Refusal:
    """Why a piece failed, where the user can mend it; a value, so that nobody tries it again.

    Args:
        kind: name of the error's class in ``cpsd.errors``.
        message: of the error.
    """

    kind: str
    message: str


def perform(piece: Piece, board: Any) -> Refusal | None:  # noqa: ANN401 - Ray's handles have no type
    """Perform a piece, unless an earlier worker has got it done.

    Args:
        piece: what to do.
        board: the handle of the board, which is told how far it is.
    """
    board.started.remote(piece.title, platform.node())
    reporter = Reporter(board, piece.title)
    try:
        _enter(piece.folder)
        torch.set_num_threads(piece.threads)
        with reporter.listening(), threadpool_limits(piece.threads):
            _perform(piece, reporter)
    except UserError as error:
        return Refusal(type(error).__name__, str(error))
    if reporter.sent is not None:  # or the end of the piece would overtake its last report
        ray.wait([reporter.sent], timeout=SECONDS_TO_REPORT)
    return None


def _perform(piece: Piece, reporter: Reporter) -> None:
    config = config_from_yaml(piece.config)
    records = _records(config.data, piece.split_seed, piece.looked_at)
    config = with_demands(config, threads=piece.threads, picture_memory=piece.picture_memory)
    directory = RunDirectory(Path(piece.run))
    pipeline = Pipeline(
        config,
        records,
        directory.path,
        callbacks=reporter.callbacks,
        counting=reporter.counting,
    )
    stages = pipeline.stages()
    stage = next(stage for stage in stages if stage.name == piece.stage)
    if stage.fingerprint != piece.fingerprint:
        raise RunError(
            f"On the machine {platform.node()}, '{piece.stage}' depends on other data, files or "
            "another release of cpsd than where the run was started. All machines need the same "
            "release, and the same files at the same paths."
        )
    _wait_for_files(directory, needed(stages, stage.name)[:-1])
    if piece.part is not None:
        directory.perform_piece(stage, piece.part)
    elif directory.state(stage) is not StageState.DONE:
        directory.perform(stage)


def _enter(folder: str) -> None:
    try:
        os.chdir(folder)
    except OSError as error:
        raise RunError(
            f"The machine {platform.node()} has no folder {folder} ({error.strerror}). The run "
            "directory, the data and the folder that the command is started in must lie at the "
            "same paths on all machines, on a disk that they share."
        ) from error


@lru_cache(maxsize=1)
def _records(data: DataConfig, seed: int, looked_at: str) -> Records:
    """Return the pictures; a worker performs many pieces on the same."""
    return load_records(data, seed=seed, check=PictureCheck(memory=Path(looked_at)))[0]


def _wait_for_files(directory: RunDirectory, stages: list[Stage]) -> None:
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
