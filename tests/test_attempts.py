import json
import os
import time
from pathlib import Path

import pytest

from cpsd.attempts import ATTEMPTS_FILE, attempt


def fails_with(error: type[BaseException]) -> None:
    time.sleep(0.02)
    raise error


def test_every_attempt_is_counted_however_it_ends(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), attempt(tmp_path) as first:
        fails_with(KeyboardInterrupt)
    with pytest.raises(ZeroDivisionError), attempt(tmp_path) as second:
        fails_with(ZeroDivisionError)
    with attempt(tmp_path) as third:
        time.sleep(0.02)
    assert first.seconds >= 0.02
    assert first.seconds + 0.02 <= second.seconds
    assert second.seconds + 0.02 <= third.seconds
    assert third.begun is None


def test_a_killed_attempt_counts_until_it_last_wrote(tmp_path: Path) -> None:
    now = time.time()
    # What stands there when a process ends without a word.
    (tmp_path / ATTEMPTS_FILE).write_text(
        json.dumps(
            {"seconds": 100.0, "peak_memory": 2**50, "peak_gpu_memory": None, "begun": now - 50}
        )
    )
    os.utime(tmp_path / ATTEMPTS_FILE, (now - 50, now - 50))
    (tmp_path / "student").mkdir()
    checkpoint = tmp_path / "student" / "last.ckpt"
    checkpoint.touch()
    os.utime(checkpoint, (now - 20, now - 20))
    with attempt(tmp_path) as attempts:
        pass
    assert attempts.seconds == pytest.approx(130, abs=1)
    assert attempts.peak_memory == 2**50


@pytest.mark.parametrize("content", ["{", "[]", '{"hours": 3}', "[[1]]", "3"])
def test_what_cannot_be_read_of_earlier_attempts_stops_nobody(tmp_path: Path, content: str) -> None:
    (tmp_path / ATTEMPTS_FILE).write_text(content)
    with attempt(tmp_path) as attempts:
        pass
    assert 0 <= attempts.seconds < 10
