from io import StringIO

import pytest
from rich.console import Console

from cpsd.report.progress import counting, duration


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0, "0 s"),
        (59.4, "59 s"),
        (59.6, "1 min 00 s"),
        (3599.6, "1 h 00 min"),
        (3725, "1 h 02 min"),
        (90000, "25 h 00 min"),
    ],
)
def test_duration(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_counting_shows_a_bar_in_a_terminal_and_nothing_elsewhere() -> None:
    terminal = Console(file=StringIO(), force_terminal=True, width=80, legacy_windows=False)
    with terminal.capture() as capture, counting(terminal, "soft-labels") as told:
        for done in range(1001):
            told(done, 1000)
    text = capture.get()
    assert "soft-labels" in text
    assert "1,000/1,000 pictures" in text
    assert "0:00:00" in text
    assert text.endswith("\x1b[2K")  # the bar's line is wiped
    piped = Console(file=StringIO(), width=80)
    with piped.capture() as capture, counting(piped, "soft-labels") as told:
        told(5, 10)
    assert capture.get() == ""
