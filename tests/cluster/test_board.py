"""What workers put up and the driver takes."""

import logging
from typing import Any

from cpsd.cluster.board import Board, Reporter, Standing, Taken
from cpsd.cluster.piece_copies import Made


class Calls:
    """Stands where Ray's handle would: calls the board at once."""

    def __init__(self, board: Board) -> None:
        self._board = board

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._board, name)
        return type("Remote", (), {"remote": staticmethod(method)})


def test_the_last_standing_and_every_sentence_are_taken_once() -> None:
    board = Board()
    board.started("student", "one", "a")
    board.put("student", Standing(1, 4))
    board.put("student", Standing(2, 4, "epoch 1/2"))
    board.say("student", "kept the raw weights")
    assert board.take() == Taken(
        {"student": Standing(2, 4, "epoch 1/2")},
        [("student", "kept the raw weights")],
        {},
    )
    assert board.take() == Taken({}, [], {})


def test_a_piece_that_starts_again_is_said_to_have_lost_its_worker() -> None:
    board = Board()
    board.started("baseline", "one", "a")
    assert board.take().said == []
    board.started("baseline", "two", "b")
    assert board.take().said == [
        ("baseline", "its worker on one was lost; it goes on from what it had on two")
    ]


def test_a_reporter_sends_the_end_always_and_what_the_package_logs() -> None:
    board = Board()
    reporter = Reporter(Calls(board), "baseline")
    with reporter.counting("soft-labels") as progress:
        for done in range(1, 4):
            progress(done, 3)
    with reporter.listening():
        logging.getLogger("cpsd.training.fit").info("kept the %s weights", "raw")
    logging.getLogger("cpsd.training.fit").info("nobody hears this")
    assert board.take() == Taken(
        {"baseline": Standing(3, 3)},
        [("baseline", "kept the raw weights")],
        {},
    )


def test_what_a_worker_has_made_counts_until_another_has_begun() -> None:
    board = Board()
    board.started("student", "one", "a")
    for gone in ("first", "second"):
        board.made("student", Made("a", gone=(gone,)))
    assert board.take().made == {"student": Made("a", gone=("second",))}
    assert board.take().made == {}
    board.started("student", "two", "b")
    Reporter(Calls(board), "student").made(Made("a", gone=("third",)))
    assert board.take().made == {}
