"""Processes that load pictures are lost, or who they load for: a sentence says so, or nothing."""

import errno
import gc
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data._utils.worker import ManagerWatchdog
from torch.utils.data.dataloader import _MultiProcessingDataLoaderIter

import tiny
from cpsd import method
from cpsd.data.loading import inference_loader, plain
from cpsd.data.lost_processes import end_with_parent
from cpsd.data.records import TRAIN, Records
from cpsd.errors import TrainingError
from cpsd.training.fit import _quiet_writers
from cpsd.training.soft_label_writing import write_soft_labels


class KillsLoaders(nn.Module):
    """Kills whoever loads its pictures."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(len(tiny.LABELS)))

    def forward(self, images: Tensor) -> Tensor:
        for loader in multiprocessing.active_children():
            assert loader.pid is not None
            os.kill(loader.pid, signal.SIGKILL)
            loader.join()  # torch may raise here, wherever its process is
        return images.mean(dim=(1, 2, 3))[:, None] + self.weight


@pytest.mark.parametrize("what", ["fit", "predict", "soft labels"])
def test_killed_loaders_are_said_in_a_sentence(what: str, records: Records, tmp_path: Path) -> None:
    config, network = tiny.settings(workers=1), KillsLoaders()
    rows = records.indices(TRAIN)
    deeds: dict[str, Callable[[], object]] = {
        "fit": partial(method.fit, network, records, config),
        "predict": partial(method.predict, network, records, rows, config),
        "soft labels": partial(
            write_soft_labels, tmp_path / "soft_labels", {"whole": network}, records,
            rows.tolist(), image=config.image, num_views=1, seed=0, machine=config.machine,
            device=torch.device("cpu"),
        ),
    }  # fmt: skip
    with pytest.raises(TrainingError, match="A process that loads pictures was killed") as raised:
        deeds[what]()
    assert "start the same command again" in str(raised.value)


@pytest.mark.parametrize(
    "seen",
    [
        ConnectionResetError(errno.ECONNRESET, "Connection reset by peer"),
        FileNotFoundError(errno.ENOENT, "No such file or directory"),
        EOFError(),
        RuntimeError("received 0 items of ancillary data"),
    ],
)
def test_a_loader_may_be_killed_while_its_batch_is_taken_over(
    seen: Exception, records: Records, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unanswered(*_: object) -> None:
        raise seen

    monkeypatch.setattr(
        "multiprocessing.resource_sharer._ResourceSharer.get_connection", unanswered
    )
    rows = records.indices(TRAIN)
    with pytest.raises(TrainingError, match="A process that loads pictures was killed"):
        method.predict(KillsNobody(), records, rows, tiny.settings(workers=1))


def test_a_connection_of_the_users_own_that_breaks_is_not_taken_for_that(records: Records) -> None:
    network = KillsNobody()
    network.register_forward_pre_hook(_broken_connection)
    with pytest.raises(ConnectionResetError):
        method.predict(network, records, records.indices(TRAIN), tiny.settings(workers=1))


def test_a_library_may_have_made_another_error_of_it(records: Records) -> None:
    # As TensorBoard's writer does with whatever is raised while it writes.
    network = KillsNobody()
    network.register_forward_pre_hook(_another_error)
    with pytest.raises(TrainingError, match="A process that loads pictures was killed"):
        method.predict(network, records, records.indices(TRAIN), tiny.settings(workers=1))


@pytest.mark.parametrize(
    ("error", "is_said"),
    [(ConnectionResetError(), False), (EOFError(), False), (ValueError("of another kind"), True)],
)
def test_loaders_say_nothing_of_whom_they_have_lost(
    error: Exception, is_said: bool, capfd: pytest.CaptureFixture[str]
) -> None:
    def load() -> None:
        end_with_parent(0)
        sys.excepthook(type(error), error, None)

    process = multiprocessing.get_context("fork").Process(target=load)
    process.start()
    process.join()
    assert process.exitcode == 0
    assert ("of another kind" in capfd.readouterr().err) == is_said


@pytest.mark.skipif(not Path("/proc/self/stat").is_file(), reason="looks for processes as on Linux")
def test_loaders_end_with_a_process_that_was_killed_before_they_looked_for_it(
    records: Records,
) -> None:
    here, there = multiprocessing.Pipe()
    process = multiprocessing.get_context("fork").Process(
        target=_load_and_die, args=(records, there)
    )
    process.start()
    loaders = here.recv()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    assert len(loaders) == 2
    given_up = time.monotonic() + 20
    while any(_lives(loader) for loader in loaders) and time.monotonic() < given_up:
        time.sleep(0.02)
    assert not any(_lives(loader) for loader in loaders)


@pytest.mark.parametrize("step", ["Queue", "Event", "Process", "_reset"])
def test_who_is_asked_to_end_while_loaders_start_says_nothing_more(
    step: str, records: Records, monkeypatch: pytest.MonkeyPatch
) -> None:
    def asked_to_end(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    is_torchs = hasattr(_MultiProcessingDataLoaderIter, step)
    owner: Any = (
        _MultiProcessingDataLoaderIter if is_torchs else multiprocessing.get_context("fork")
    )
    shown: list[object] = []
    monkeypatch.setattr(sys, "unraisablehook", shown.append)
    others = {*multiprocessing.active_children()}
    loader = inference_loader(
        records, plain(records.indices(TRAIN)), tiny.settings().image,
        batch_size=2, seed=0, workers=1,
    )  # fmt: skip
    with monkeypatch.context() as patch:
        patch.setattr(owner, step, asked_to_end)
        with pytest.raises(KeyboardInterrupt):
            iter(loader).__next__()
    gc.collect()
    assert shown == []
    assert {*multiprocessing.active_children()} <= others


class KillsNobody(KillsLoaders):
    """A network that leaves its loaders alone."""

    def forward(self, images: Tensor) -> Tensor:
        return images.mean(dim=(1, 2, 3))[:, None] + self.weight


def _broken_connection(*_: object) -> None:
    raise ConnectionResetError(errno.ECONNRESET, "Connection reset by peer")


def _another_error(*_: object) -> None:
    try:
        raise RuntimeError("DataLoader worker (pid 1) is killed by signal: Killed. ")
    except RuntimeError as error:
        raise ValueError("you tried to log 0.4 which is currently not supported") from error


def _load_and_die(records: Records, told: Connection) -> None:
    """Start loaders that torch does not look after, tell who they are, and be killed."""
    ManagerWatchdog.is_alive = lambda self: True  # type: ignore[method-assign]
    loader = inference_loader(
        records, plain(records.indices(TRAIN)), tiny.settings().image,
        batch_size=2, seed=0, workers=2,
    )  # fmt: skip
    next(iter(loader))
    told.send([process.pid for process in multiprocessing.active_children()])
    os.kill(os.getpid(), signal.SIGKILL)


def _lives(process: int) -> bool:
    try:
        state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


@pytest.mark.parametrize(
    ("fault", "is_shown"),
    [(OSError(errno.EROFS, "Read-only file system"), False), (ValueError("of another kind"), True)],
)
def test_what_a_writing_thread_is_refused_is_no_traceback(
    monkeypatch: pytest.MonkeyPatch, fault: Exception, is_shown: bool
) -> None:
    shown: list[BaseException | None] = []
    monkeypatch.setattr(threading, "excepthook", lambda told: shown.append(told.exc_value))

    def fail() -> None:
        raise fault

    with _quiet_writers():
        thread = threading.Thread(target=fail)
        thread.start()
        thread.join()
    assert shown == [fault] * is_shown
