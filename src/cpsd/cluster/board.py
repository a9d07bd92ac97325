"""What pieces say while they are performed elsewhere: workers put it up, the driver takes it."""

import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import lightning

from cpsd.cluster.piece_copies import Made
from cpsd.report.training_progress import TrainingReport
from cpsd.training.soft_label_writing import Progress

SECONDS_BETWEEN_POSTS = 0.5


@dataclass(frozen=True)
class Standing:
    """How far a piece is.

    Args:
        done: steps or pictures.
        total: of how many.
        text: what there is to say, such as the last validation.
    """

    done: int
    total: int
    text: str = ""


@dataclass(frozen=True)
class Taken:
    """What was put up since the last time.

    Args:
        standings: by piece.
        said: pieces and sentences, in their order.
        made: by piece, of runs at an address.
    """

    standings: Mapping[str, Standing]
    said: Sequence[tuple[str, str]]
    made: Mapping[str, Made]


class Board:
    """Keeps the last standing of every piece, and sentences until they are taken."""

    def __init__(self) -> None:
        self._standings: dict[str, Standing] = {}
        self._said: list[tuple[str, str]] = []
        self._places: dict[str, str] = {}
        self._workers: dict[str, str] = {}
        self._made: dict[str, Made] = {}

    def started(self, piece: str, place: str, worker: str) -> None:
        """Note that a worker at ``place`` performs the piece; not the first one, perhaps."""
        self._workers[piece] = worker
        if piece in self._places:
            lost = self._places[piece]
            self._said.append(
                (piece, f"its worker on {lost} was lost; it goes on from what it had on {place}")
            )
        self._places[piece] = place
        self._standings[piece] = Standing(0, 0)

    def put(self, piece: str, standing: Standing) -> None:
        """Note how far a piece is."""
        self._standings[piece] = standing

    def say(self, piece: str, sentence: str) -> None:
        """Keep a sentence about a piece until it is taken."""
        self._said.append((piece, sentence))

    def made(self, piece: str, made: Made) -> None:
        """Note what a piece has, unless another worker performs it by now."""
        if made.worker == self._workers.get(piece):
            self._made[piece] = made

    def take(self) -> Taken:
        """Return what is new since the last time."""
        taken = Taken(self._standings, self._said, self._made)
        self._standings, self._said, self._made = {}, [], {}
        return taken


class Reporter(logging.Handler):
    """Reports of one piece, in the worker that performs it; what cannot be sent is dropped.

    Args:
        board: the handle of the actor that a ``Board`` became.
        piece: how the driver calls it.
    """

    def __init__(self, board: Any, piece: str) -> None:  # noqa: ANN401 - Ray's handles have no type
        super().__init__(logging.INFO)
        self._board = board
        self._piece = piece
        self._last = 0.0
        self.sent: Any = None
        """What the last report was answered by; once it is there, all were received."""

    def emit(self, record: logging.LogRecord) -> None:
        """Send what the package logs."""
        self.sent = self._board.say.remote(self._piece, record.getMessage())

    def put(self, done: int, total: int, text: str = "") -> None:
        """Send how far it is, a few times a second at most; the end in any case."""
        now = time.monotonic()
        if done >= total or now - self._last >= SECONDS_BETWEEN_POSTS:
            self._last = now
            self.sent = self._board.put.remote(self._piece, Standing(done, total, text))

    def made(self, made: Made) -> Any:  # noqa: ANN401
        """Tell what the piece has so far, which lies at the run's address; return the answer."""
        return self._board.made.remote(self._piece, made)

    def callbacks(self, title: str) -> Sequence[lightning.Callback]:
        """Return what reports a training."""
        return [TrainingReport(self.put)]

    @contextmanager
    def counting(self, title: str) -> Iterator[Progress]:
        """Yield what reports a count of pictures."""
        yield lambda done, total: self.put(done, total)

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Send what the package logs meanwhile."""
        logger = logging.getLogger("cpsd")
        level = logger.level
        logger.addHandler(self)
        logger.setLevel(logging.INFO)
        try:
            yield
        finally:
            logger.removeHandler(self)
            logger.setLevel(level)
