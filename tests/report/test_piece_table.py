"""Progress of pieces, on a terminal and in a file."""

import io

from rich.console import Console

from cpsd.report.piece_table import WAITING, PieceTable


def test_a_file_has_a_line_for_each_new_text_and_each_sentence() -> None:
    console = Console(file=io.StringIO(), width=200)
    with PieceTable(console) as table:
        table.begin("baseline")
        table.show("baseline", 1, 8, "")
        table.show("baseline", 4, 8, "epoch 1/2")
        table.show("baseline", 5, 8, "epoch 1/2")
        table.show("baseline", 8, 8, "epoch 2/2")
        table.say("baseline", "baseline: kept the raw weights")
        table.end("baseline")
        table.show("baseline", 8, 8, "of a piece that is over already")
        table.say("student", "its worker was lost")
    assert isinstance(console.file, io.StringIO)
    assert console.file.getvalue().splitlines() == [
        "  baseline: epoch 1/2",
        "  baseline: epoch 2/2",
        "  baseline: kept the raw weights",
        "  student: its worker was lost",
    ]


def test_a_terminal_shows_all_pieces_at_once() -> None:
    console = Console(file=io.StringIO(), width=120, force_terminal=True)
    with PieceTable(console) as table:
        table.begin("baseline")
        table.begin("teachers/co-occurrence/1")
        table.show("baseline", 4, 8, "epoch 1/2, validation mAP 71.0")
        table._progress.refresh()
        assert isinstance(console.file, io.StringIO)
        frame = console.file.getvalue()
    last = frame[frame.rindex("baseline") :]
    assert "epoch 1/2, validation mAP 71.0" in last
    assert "teachers/co-occurrence/1" in last
    assert WAITING in last
