import logging
import math
from collections.abc import Callable
from io import StringIO
from pathlib import Path

import pytest
import torch
from rich.console import Console
from torch import nn
from torch.utils.data import DataLoader, Dataset

from cpsd.config import LossConfig, TrainingConfig
from cpsd.data.picture_dataset import Batch
from cpsd.losses.objective import build_objective
from cpsd.report.training_progress import TrainingProgress
from cpsd.training.fit import fit
from cpsd.training.members import Member


class Batches(Dataset[Batch]):
    def __init__(self, batches: list[Batch]) -> None:
        self.batches = batches

    def __len__(self) -> int:
        return len(self.batches)

    def __getitem__(self, index: int) -> Batch:
        return self.batches[index]


def train(
    folder: Path, console: Console, *, epochs: int = 3, score: Callable[[], float] = lambda: 0.25
) -> None:
    """Train two networks of one layer for some epochs on six pictures of 2 x 2 pixels."""
    generator = torch.Generator().manual_seed(0)
    batches = [
        Batch(
            torch.randint(0, 256, (3, 3, 2, 2), generator=generator, dtype=torch.uint8),
            torch.tensor([[1, 0], [0, 1], [1, 1]], dtype=torch.int8),
            torch.arange(first, first + 3),
        )
        for first in (0, 3)
    ]
    members = [
        Member(nn.Sequential(nn.Flatten(), nn.Linear(12, 1)), (c,), f"m{c}", folder / f"m{c}")
        for c in (0, 1)
    ]
    fit(
        members,
        DataLoader(Batches(batches), batch_size=None),
        DataLoader(Batches(batches[:1]), batch_size=None),
        objective=build_objective(LossConfig()),
        training=TrainingConfig(epochs=epochs),
        reduction="sum",
        scorer=lambda logits, targets: score(),
        seed=0,
        image_names=[f"{i}.png" for i in range(6)],
        folder=folder,
        checkpoint=folder / "last.ckpt",
        accelerator="cpu",
        callbacks=[TrainingProgress(console, "teachers/random")],
    )


def test_a_log_has_a_line_an_epoch(tmp_path: Path) -> None:
    console = Console(file=StringIO(), width=100)
    with console.capture() as capture:
        train(tmp_path, console)
    lines = capture.get().splitlines()
    assert [line.rpartition(",")[0] for line in lines] == [
        f"  teachers/random: epoch {epoch}/3, validation mAP 25.0" for epoch in (1, 2, 3)
    ]
    assert all(line.endswith(" left") for line in lines)
    assert lines[-1].endswith(", 0 s left")


def test_the_score_is_the_mean_over_members_of_the_better_weights(tmp_path: Path) -> None:
    scores = iter([0.2, 0.4, 0.9, 0.1])  # raw and averaged, member by member
    console = Console(file=StringIO(), width=100)
    with console.capture() as capture:
        train(tmp_path, console, epochs=1, score=lambda: next(scores))
    assert "validation mAP 65.0" in capture.get()


@pytest.mark.parametrize(
    ("scores", "words"),
    [
        ([math.nan] * 4, "no validation mAP (no label has a positive)"),
        ([math.nan, math.nan, 0.9, 0.1], "validation mAP 90.0 (1 of 2 without a positive)"),
    ],
)
def test_a_score_that_cannot_be_given_is_said_in_words(
    scores: list[float], words: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    given = iter(scores)
    console = Console(file=StringIO(), width=100)
    with console.capture() as capture, caplog.at_level(logging.INFO, "cpsd"):
        train(tmp_path, console, epochs=1, score=lambda: next(given))
    assert f"epoch 1/1, {words}, " in capture.get()
    assert "m0: kept the averaged weights of epoch 1, the last, for no label" in caplog.text
    assert "nan" not in capture.get() + caplog.text


def test_a_terminal_gets_a_bar_that_goes_away(tmp_path: Path) -> None:
    console = Console(file=StringIO(), force_terminal=True, width=100, legacy_windows=False)
    with console.capture() as capture:
        train(tmp_path, console)
    text = capture.get()
    assert "teachers/random" in text
    assert "epoch 3/3" in text
    assert "left" not in text
    assert text.endswith("\x1b[2K")  # the bar's line is wiped


def test_the_bar_is_closed_before_an_error_is_told(tmp_path: Path) -> None:
    console = Console(file=StringIO(), force_terminal=True, width=100, legacy_windows=False)

    def fail() -> float:
        raise ZeroDivisionError

    with console.capture() as capture, pytest.raises(ZeroDivisionError):
        train(tmp_path, console, score=fail)
    text = capture.get()
    assert text.rfind("\x1b[?25h") > text.rfind("\x1b[?25l") >= 0  # the cursor is shown again
