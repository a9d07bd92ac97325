"""Performing one piece of a run in a worker process, from the run's own files."""

import os
import platform
import time
import uuid
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
from cpsd.cluster.piece_copies import Made, PieceCopy, folder_of_piece
from cpsd.config import DataConfig
from cpsd.data.bad_pictures import PictureCheck
from cpsd.data.records import Records
from cpsd.data.sources import load_records
from cpsd.errors import RunError, UserError
from cpsd.execution import needed
from cpsd.pipeline import Pipeline
from cpsd.run import RunDirectory
from cpsd.sending import sending
from cpsd.stage import Stage, StageState

SECONDS_TO_REPORT = 5.0
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


@dataclass(frozen=True)
class Refusal:
    """Why a piece failed, where the user can mend it; a value, so that nobody tries it again.

    Args:
        kind: name of the error's class in ``cpsd.errors``.
        message: of the error.
    """

    kind: str
    message: str


def perform(piece: Piece, board: Any) -> Made | Refusal | None:  # noqa: ANN401 - Ray has no types
    """Perform a piece, unless an earlier worker has got it done.

    Args:
        piece: what to do.
        board: the handle of the board, which is told how far it is.

    Returns:
        What was made of a run at an address; nothing of a run in a folder, where it lies.
    """
    worker = uuid.uuid4().hex
    board.started.remote(piece.title, platform.node(), worker)
    reporter = Reporter(board, piece.title)
    made = None
    try:
        _enter(piece)
        torch.set_num_threads(piece.threads)
        with reporter.listening(), threadpool_limits(piece.threads):
            if piece.home is None:
                _perform_in_folder(piece, reporter)
            else:
                made = _perform_at_address(piece, piece.home, worker, reporter)
    except UserError as error:
        kinds = [
            kind.__name__ for kind in type(error).__mro__ if kind.__module__ == UserError.__module__
        ]
        return Refusal(kinds[0], str(error))
    if reporter.sent is not None:  # or the end of the piece would overtake its last report
        ray.wait([reporter.sent], timeout=SECONDS_TO_REPORT)
    return made


def _perform_in_folder(piece: Piece, reporter: Reporter) -> None:
    """Perform a piece in a run directory that all machines share."""
    directory = RunDirectory(Path(piece.run))
    stage, needs = _stage(piece, directory.path, Path(piece.looked_at), reporter)
    _wait_for_files(directory, needs)
    if piece.part is not None:
        directory.perform_piece(stage, piece.part)
    elif directory.state(stage) is not StageState.DONE:
        directory.perform(stage)


def _perform_at_address(piece: Piece, home: str, worker: str, reporter: Reporter) -> Made:
    """Perform a piece of a run at an address in a folder of its own; return what it has made."""

    def tell(made: Made) -> None:
        ray.wait([reporter.made(made)], timeout=SECONDS_TO_REPORT)

    with folder_of_piece(worker) as folder:
        copy = PieceCopy(home, piece.run, worker, folder, tell)
        try:
            looked_at = copy.fetch_beside(piece.looked_at)
            stage, needs = _stage(piece, copy.results, looked_at, reporter)
            copy.fetch_results({name for need in needs for name in (*need.outputs, need.mark)})
            _require_done(RunDirectory(copy.results), needs)
            copy.fetch_begun(stage, piece.part)
            begun = RunDirectory(copy.begun)

            def told(error: Exception) -> str:
                return (
                    f"'{piece.title}' could not send to {home} what it has made: {error} What was "
                    "sent is kept; start the same command again."
                )

            with sending(folder, copy.send, told):
                if piece.part is not None:
                    begun.perform_piece(stage, piece.part)
                else:
                    begun.work(stage)
            if not copy.send():
                raise RunError(told(RunError("files have changed meanwhile.")))
        except UserError as error:
            error.args = (copy.told(str(error)),)
            raise
        return copy.made


def _stage(
    piece: Piece, run: Path, looked_at: Path, reporter: Reporter
) -> tuple[Stage, list[Stage]]:
    """Return the piece's stage, which reads what it needs in ``run``, and all that it needs.

    Raises:
        RunError: this machine has other data, files or software than the driver's.
    """
    config = config_from_yaml(piece.config)
    records = _records(config.data, piece.split_seed, looked_at)
    config = with_demands(config, threads=piece.threads, picture_memory=piece.picture_memory)
    pipeline = Pipeline(
        config, records, run, callbacks=reporter.callbacks, counting=reporter.counting
    )
    stages = pipeline.stages()
    stage = next(stage for stage in stages if stage.name == piece.stage)
    if stage.fingerprint != piece.fingerprint:
        raise RunError(
            f"On the machine {platform.node()}, '{piece.stage}' depends on other data, files or "
            "another release of cpsd than where the run was started. All machines need the same "
            "release, and the same files at the same paths."
        )
    return stage, needed(stages, stage.name)[:-1]


def _enter(piece: Piece) -> None:
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


def _require_done(directory: RunDirectory, stages: list[Stage]) -> None:
    """Make sure that what was fetched are the results of ``stages``.

    Raises:
        RunError: they are not.
    """
    for stage in stages:
        if directory.state(stage) is not StageState.DONE:
            raise RunError(
                f"The results of '{stage.name}' are not whole in {directory.path}; start the same "
                "command again."
            )
