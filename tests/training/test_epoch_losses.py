"""Losses that are looked at once in many steps: their sums, and which batch went wrong."""

import contextlib
import functools
import math
from typing import Any

import lightning
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

import tiny
from cpsd.data.records import Records
from cpsd.errors import TrainingError
from cpsd.losses.objective import LossTerms
from cpsd.method import Place, distill, fit
from cpsd.training import task
from cpsd.training.epoch_losses import EpochLosses

WAITING = ("_local_scalar_dense", "nonzero", "masked_select", "is_nonzero", "equal", "unique")
"""Operations that give the host a value, or a shape that depends on one: on a GPU they wait."""


def losses_of(total: float, term: float) -> LossTerms:
    return LossTerms(torch.tensor(float(total), requires_grad=True), {"term": torch.tensor(term)})


def epoch_losses(every: int) -> EpochLosses:
    names = [f"{row}.png" for row in range(10)]
    return EpochLosses(["a", "b"], names, epoch=4, steps_between_looks=every)


@pytest.mark.parametrize("every", [1, 2, 3, 100])
def test_sums_are_those_of_the_steps(every: int) -> None:
    losses = epoch_losses(every)
    for step in range(5):
        losses.add(step, torch.tensor([step]), [losses_of(step, 1), losses_of(0.1, step)])
    losses.look()
    assert losses.sums(0) == pytest.approx({"loss": 10, "term": 5})
    assert losses.sums(1) == pytest.approx({"loss": 0.5, "term": 10})
    losses.look()
    assert losses.sums(0) == pytest.approx({"loss": 10, "term": 5}), "each step counts once"


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("every", [1, 3, 100])
def test_the_first_failure_is_named_however_late_it_is_seen(every: int, value: float) -> None:
    losses = epoch_losses(every)

    def train() -> None:
        for step in range(6):
            # The other member fails as well, one step later.
            totals = (value if step >= 3 else 1.0, value if step >= 2 else 1.0)
            rows = torch.tensor([step, step + 1])
            losses.add(step, rows, [losses_of(total, 1) for total in totals])
        losses.look()

    with pytest.raises(TrainingError) as caught:
        train()
    message = str(caught.value)
    assert f"The loss of b is {value} in epoch 5, batch 3;" in message
    assert message.endswith("The pictures of this batch: 2.png, 3.png")


def test_a_term_that_is_not_finite_stops_nothing_where_the_loss_is() -> None:
    losses = epoch_losses(1)
    losses.add(0, torch.tensor([0]), [losses_of(1, math.inf), losses_of(1, 1)])
    assert losses.sums(0) == {"loss": 1, "term": math.inf}


def test_no_epoch_is_kept_after_a_failure_that_is_seen_at_its_end(
    records: Records, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    look_late(monkeypatch)
    network = tiny.network()

    class Spoil(lightning.Callback):
        def on_train_batch_start(self, trainer: lightning.Trainer, *_: Any) -> None:
            if trainer.current_epoch == 1:
                network.get_parameter("linear.bias").data.fill_(math.nan)

    place = Place("baseline", tmp_path, tmp_path / "last.ckpt")
    with pytest.raises(TrainingError, match="nan in epoch 2, batch 1;"):
        fit(network, records, tiny.settings(epochs=3), place=place, callbacks=[Spoil()])
    assert len((tmp_path / "metrics.csv").read_text().splitlines()) == 2, "epoch 1 alone"
    assert torch.load(tmp_path / "last.ckpt", weights_only=True)["epoch"] == 0
    kept = tiny.network()
    again = fit(kept, records, tiny.settings(epochs=3), place=place)
    assert again.best[0].epoch >= 0
    assert all(value.isfinite().all() for value in tiny.weights(kept).values())


@pytest.mark.parametrize("taught", [False, True])
def test_nothing_in_a_step_waits_for_the_device(
    taught: bool, records: Records, monkeypatch: pytest.MonkeyPatch
) -> None:
    look_late(monkeypatch)
    watch = WatchedSteps()
    config = tiny.settings(epochs=1, ema_decay=0.9, clip_norm=0.5)
    if taught:
        distill(tiny.network(dropout=0.1), tiny.teachers(), records, config, callbacks=[watch])
    else:
        fit(tiny.ensemble(dropout=0.1), records, config, callbacks=[watch])
    assert watch.steps == 3
    whole = {"convolution", "convolution_backward", "_foreach_norm", "_fused_adamw_"}
    assert whole <= watch.seen, "all of a step was watched"
    assert not watch.seen & set(WAITING)


def look_late(monkeypatch: pytest.MonkeyPatch) -> None:
    """Look at the losses as rarely as on a GPU."""

    def late(*arguments: Any, steps_between_looks: int, **keywords: Any) -> EpochLosses:
        return EpochLosses(*arguments, steps_between_looks=100, **keywords)

    monkeypatch.setattr(task, "EpochLosses", functools.wraps(EpochLosses)(late))


class Operations(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Adds the names of all operations to ``seen``."""

    def __init__(self, seen: set[str]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.seen = seen

    def __torch_dispatch__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> object:
        self.seen.add(function.overloadpacket.__name__)
        return function(*args, **(kwargs or {}))


class WatchedSteps(lightning.Callback):
    """The names of all operations from the batch's start to the optimizer's step."""

    def __init__(self) -> None:
        self.steps = 0
        self.seen: set[str] = set()
        self._watching = contextlib.ExitStack()

    def on_train_batch_start(self, *_: Any) -> None:
        self._watching.enter_context(Operations(self.seen))

    def on_train_batch_end(self, *_: Any) -> None:
        self._watching.close()
        self.steps += 1
