"""What only a GPU shows: a CPU's results to rounding, in every arithmetic, and no step waits."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import lightning
import numpy as np
import pytest
import torch

import tiny
from cpsd.config import RunConfig
from cpsd.data.records import TEST, TRAIN, Records
from cpsd.errors import TrainingError
from cpsd.method import Fitted, Place, distill, fit, predict
from cpsd.training.soft_label_writing import write_soft_labels
from cpsd.training.soft_labels import SoftLabelStore

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no CUDA device"),
]
Precision = Literal["32", "bf16-mixed", "16-mixed"]


@pytest.fixture(autouse=True)
def _exact() -> Iterator[None]:
    """Convolve in float32, not in TF32, so that only the order of sums differs."""
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    yield
    torch.backends.cudnn.allow_tf32 = before


def on(device: Literal["cpu", "cuda"], config: RunConfig) -> RunConfig:
    return replace(config, machine=replace(config.machine, accelerator=device))


def in_precision(precision: Precision, config: RunConfig) -> RunConfig:
    return replace(config, training=replace(config.training, precision=precision))


def test_training_is_that_of_a_cpu_to_rounding(records: Records) -> None:
    config = tiny.settings(epochs=3, ema_decay=0.9, clip_norm=0.5, accumulate=2, batch_size=6)
    there, here = tiny.ensemble(), tiny.ensemble()
    on_gpu = fit(there, records, on("cuda", config))
    on_cpu = fit(here, records, on("cpu", config))
    tiny.assert_close(tiny.weights(there.cpu()), tiny.weights(here), atol=1e-3)
    assert on_gpu.cost.images_backward == on_cpu.cost.images_backward


def test_training_repeats_itself(records: Records) -> None:
    first, second = tiny.network(dropout=0.5), tiny.network(dropout=0.5)
    for network in (first, second):
        fit(network, records, on("cuda", tiny.settings(ema_decay=0.9)))
    tiny.assert_close(tiny.weights(first.cpu()), tiny.weights(second.cpu()), atol=1e-5)


@pytest.mark.parametrize("precision", ["bf16-mixed", "16-mixed"])
@pytest.mark.parametrize("clip_norm", [None, 0.5])
def test_mixed_precision_learns_nearly_the_same(
    precision: Precision, clip_norm: float | None, records: Records
) -> None:
    config = on("cuda", tiny.settings(epochs=4, clip_norm=clip_norm))
    mixed, exact = tiny.network(), tiny.network()
    fit(mixed, records, in_precision(precision, config))
    fit(exact, records, config)
    before = tiny.weights(tiny.network())["linear.weight"]
    moved = (tiny.weights(exact.cpu())["linear.weight"] - before).abs().max()
    apart = tiny.weights(mixed.cpu())["linear.weight"] - tiny.weights(exact)["linear.weight"]
    assert 0 < apart.abs().max() < 0.5 * moved


def test_an_interrupted_training_ends_as_a_whole_one(records: Records, tmp_path: Path) -> None:
    config = on("cuda", tiny.settings(epochs=3, ema_decay=0.5))
    place = Place("baseline", tmp_path, tmp_path / "last.ckpt")
    resumed, whole = tiny.network(dropout=0.5), tiny.network(dropout=0.5)
    with pytest.raises(tiny.StopError):
        fit(resumed, records, config, place=place, callbacks=[tiny.StopIn(epoch=1)])
    fit(resumed, records, config, place=place)
    fit(whole, records, config)
    tiny.assert_close(tiny.weights(resumed.cpu()), tiny.weights(whole.cpu()), atol=1e-5)


@pytest.mark.parametrize("taught", ["not", "stored", "live"])
def test_no_step_waits_for_the_gpu(taught: str, records: Records, tmp_path: Path) -> None:
    config = on("cuda", tiny.settings(epochs=2, ema_decay=0.9, clip_norm=0.5))
    watch: list[lightning.Callback] = [RefusedWaits()]
    if taught == "not":
        fit(tiny.ensemble(dropout=0.1), records, config, callbacks=watch)
    elif taught == "live":
        distill(tiny.network(), tiny.teachers(), records, config, callbacks=watch)
    else:
        distill(tiny.network(), store(tmp_path, records, config), records, config, callbacks=watch)


def test_a_loss_that_is_not_finite_is_named(records: Records) -> None:
    config = tiny.settings(learning_rate=1e30, epochs=3)
    with pytest.raises(TrainingError, match=r"The loss of predictor is .* in epoch \d, batch \d"):
        fit(tiny.network(batch_norm=False), records, on("cuda", config))


def test_stored_soft_labels_are_those_of_a_cpu(records: Records, tmp_path: Path) -> None:
    rows = torch.from_numpy(records.indices(TRAIN))
    there = store(tmp_path / "gpu", records, on("cuda", tiny.settings()))
    here = store(tmp_path / "cpu", records, on("cpu", tiny.settings()))
    found = there(torch.zeros(1, device="cuda"), rows, view_index=1)
    assert found.is_cuda
    torch.testing.assert_close(
        found.cpu(), here(torch.zeros(1), rows, view_index=1), rtol=2e-3, atol=2e-3
    )


def test_a_student_of_the_store_is_that_of_the_teachers(records: Records, tmp_path: Path) -> None:
    config = on("cuda", tiny.settings(epochs=2))
    replayed, live = tiny.network(), tiny.network()
    first = distill(replayed, store(tmp_path, records, config), records, config)
    second: Fitted = distill(live, tiny.teachers(), records, config)
    assert first.best[0].epoch == second.best[0].epoch
    tiny.assert_close(tiny.weights(replayed.cpu()), tiny.weights(live.cpu()), atol=1e-3)


def test_predictions_are_those_of_a_cpu(records: Records) -> None:
    rows = np.concatenate([records.indices(TRAIN), records.indices(TEST)])
    there = predict(tiny.network(), records, rows, on("cuda", tiny.settings()))
    here = predict(tiny.network(), records, rows, on("cpu", tiny.settings()))
    np.testing.assert_allclose(there, here, rtol=1e-3, atol=1e-4)


def store(folder: Path, records: Records, config: RunConfig) -> SoftLabelStore:
    write_soft_labels(
        folder,
        tiny.teachers(),
        records,
        records.indices(TRAIN).tolist(),
        image=config.image,
        num_views=2,
        seed=config.seed,
        machine=config.machine,
        device=torch.device(config.machine.accelerator),
    )
    return SoftLabelStore(folder)


class RefusedWaits(lightning.Callback):
    """Makes torch raise where the host would wait for the GPU within a step.

    From the second step on: the first sets up what later ones use.
    """

    def on_train_batch_start(self, trainer: Any, task: Any, batch: Any, index: int) -> None:
        if index > 0:
            torch.cuda.set_sync_debug_mode("error")

    def on_train_batch_end(self, *_: Any) -> None:
        torch.cuda.set_sync_debug_mode("default")

    def on_exception(self, *_: Any) -> None:
        torch.cuda.set_sync_debug_mode("default")
