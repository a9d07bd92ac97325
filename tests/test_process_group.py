"""How processes that train together meet."""

import socket
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest

from cpsd import process_group
from cpsd.errors import TrainingError
from cpsd.process_group import met

HERE = "127.0.0.1"


@pytest.fixture
def port() -> int:
    with socket.socket() as found:
        found.bind((HERE, 0))
        number: int = found.getsockname()[1]
        return number


def test_processes_that_have_met_know_of_each_other(port: int) -> None:
    with ThreadPoolExecutor(2) as threads:
        one, other = threads.map(lambda rank: met(rank, 2, HERE, port), range(2))
    one.set("said", "by the first")
    assert other.get("said") == b"by the first"


@pytest.mark.parametrize("rank", [0, 1])
def test_who_is_left_alone_says_where_it_has_waited(
    rank: int, port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process_group, "TIME_TO_MEET", timedelta(seconds=1))
    with pytest.raises(TrainingError, match=f"{HERE}:{port} in 1 s"):
        met(rank, 2, HERE, port)
