"""Processes that load pictures are killed, as by a system without memory: a sentence says so."""

import errno
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import tiny
from cpsd import method
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
