"""Performing one piece of a run in a worker process, from the run's own files."""

import platform
import uuid
from typing import Any

import ray
import torch
from threadpoolctl import threadpool_limits

from cpsd.cluster.board import Reporter
from cpsd.cluster.gang import spread
from cpsd.cluster.piece import Piece, Refusal, enter
from cpsd.cluster.piece_copies import Made, PieceCopy, folder_of_piece
from cpsd.cluster.piece_stage import stage_at_address, stage_in_folder
from cpsd.errors import RunError, UserError
from cpsd.run import RunDirectory
from cpsd.sending import sending
from cpsd.stage import StageState

SECONDS_TO_REPORT = 5.0


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
        enter(piece)
        torch.set_num_threads(piece.threads)
        with reporter.listening(), threadpool_limits(piece.threads):
            if piece.home is None:
                _perform_in_folder(piece, reporter)
            else:
                made = _perform_at_address(piece, piece.home, worker, reporter)
    except UserError as error:
        return Refusal.of(error)
    if reporter.sent is not None:  # or the end of the piece would overtake its last report
        ray.wait([reporter.sent], timeout=SECONDS_TO_REPORT)
    return made


def _perform_in_folder(piece: Piece, reporter: Reporter) -> None:
    """Perform a piece in a run directory that all machines share."""
    stage, directory = stage_in_folder(
        piece, callbacks=reporter.callbacks, counting=reporter.counting
    )
    if piece.part is not None:
        directory.perform_piece(stage, piece.part)
    elif directory.state(stage) is not StageState.DONE:
        with spread(piece, stage) as together:
            directory.perform(together)


def _perform_at_address(piece: Piece, home: str, worker: str, reporter: Reporter) -> Made:
    """Perform a piece of a run at an address in a folder of its own; return what it has made."""

    def tell(made: Made) -> None:
        ray.wait([reporter.made(made)], timeout=SECONDS_TO_REPORT)

    def told(error: Exception) -> str:
        return (
            f"'{piece.title}' could not send to {home} what it has made: {error} What was sent is "
            "kept; start the same command again."
        )

    with folder_of_piece(worker) as folder:
        copy = PieceCopy(home, piece.run, worker, folder, tell)
        with copy.telling_addresses():
            stage = stage_at_address(
                piece, copy, callbacks=reporter.callbacks, counting=reporter.counting
            )
            copy.fetch_begun(stage, piece.part)
            begun = RunDirectory(copy.begun)
            with spread(piece, stage) as together, sending(folder, copy.send, told):
                if piece.part is not None:
                    begun.perform_piece(stage, piece.part)
                else:
                    begun.work(together)
            if not copy.send():
                raise RunError(told(RunError("files have changed meanwhile.")))
        return copy.made
