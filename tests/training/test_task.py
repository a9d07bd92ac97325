"""One step after another, held against loops written without Lightning."""

import csv
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Literal

import lightning
import numpy as np
import pytest
import torch
from sklearn.metrics import average_precision_score
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits
from torch.optim.lr_scheduler import OneCycleLR

import tiny
from cpsd.config import LossConfig, RunConfig
from cpsd.data.loading import EpochSampler
from cpsd.data.picture_dataset import PictureDataset
from cpsd.data.records import TRAIN, VALIDATION, Records
from cpsd.data.views import PLAIN
from cpsd.method import Place, distill, fit

Reduction = Literal["sum", "mean"]


def with_bce(config: RunConfig, reduction: Reduction = "sum") -> RunConfig:
    return replace(config, loss=LossConfig(name="bce", reduction=reduction))


def batches(records: Records, config: RunConfig, size: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield pictures in [0, 1] and targets, batch by batch and epoch by epoch."""
    pictures = PictureDataset(records, config.image, seed=config.seed)
    sampler = EpochSampler(records.indices(TRAIN), seed=config.seed, num_views=None)
    for epoch in range(config.training.epochs):
        sampler.set_epoch(epoch)
        keys = list(sampler)
        for start in range(0, len(keys), size):
            chosen = keys[start : start + size]
            images = torch.stack([pictures[key][0] for key in chosen]).double() / 255
            targets = torch.tensor(records.targets[[row for row, _ in chosen]]).double()
            yield images, targets


def trained_by_hand(
    network: nn.Module, records: Records, config: RunConfig, *, batch_size: int
) -> dict[str, Tensor]:
    """Return the weights that plain torch comes to in float64."""
    training = config.training
    network = network.double().train()
    decayed = [network.get_parameter(name) for name in ("conv.weight", "linear.weight")]
    others = [p for p in network.parameters() if all(p is not d for d in decayed)]
    groups = [
        {"params": decayed, "weight_decay": training.weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]
    kind = torch.optim.AdamW if training.decay == "decoupled" else torch.optim.Adam
    optimizer = kind(groups, lr=training.learning_rate)
    all_batches = list(batches(records, config, batch_size))
    schedule = OneCycleLR(
        optimizer,
        max_lr=training.learning_rate,
        total_steps=len(all_batches),
        pct_start=training.warmup,
    )
    for images, targets in all_batches:
        optimizer.zero_grad()
        loss = binary_cross_entropy_with_logits(
            network(images), targets, reduction=config.loss.reduction
        )
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        schedule.step()
    return {
        key: v.float() if v.is_floating_point() else v for key, v in network.state_dict().items()
    }


def last_raw_weights(
    records: Records, config: RunConfig, *, batch_norm: bool = True
) -> dict[str, Tensor]:
    raw = tiny.RawWeights()
    fit(tiny.network(batch_norm=batch_norm), records, config, callbacks=[raw])
    return raw.after_epoch[-1][0]


@pytest.mark.parametrize("decay", ["decoupled", "coupled"])
def test_optimizer_and_schedule_are_those_of_torch(
    decay: Literal["decoupled", "coupled"], records: Records
) -> None:
    config = with_bce(tiny.settings(epochs=3))
    # A decay large enough to tell the two kinds, and what is decayed, apart.
    config = replace(config, training=replace(config.training, decay=decay, weight_decay=0.3))
    expected = trained_by_hand(tiny.network(), records, config, batch_size=8)
    tiny.assert_close(last_raw_weights(records, config), expected, atol=2e-5)


def test_kinds_of_weight_decay_differ(records: Records) -> None:
    # Guards the test above.
    config = with_bce(tiny.settings())
    decoupled, coupled = (
        trained_by_hand(
            tiny.network(),
            records,
            replace(config, training=replace(config.training, decay=decay, weight_decay=0.3)),
            batch_size=8,
        )
        for decay in ("decoupled", "coupled")
    )
    assert not torch.allclose(decoupled["linear.weight"], coupled["linear.weight"], atol=1e-3)


@pytest.mark.parametrize("reduction", ["sum", "mean"])
@pytest.mark.parametrize(
    ("batch_size", "accumulate"),
    [(6, 2), (4, 3), (12, 1), (3, 4)],
)
def test_accumulated_batches_are_one_large_batch(
    batch_size: int, accumulate: int, reduction: Reduction, records: Records
) -> None:
    config = tiny.settings(epochs=2, batch_size=batch_size, accumulate=accumulate)
    config = with_bce(config, reduction)
    network = tiny.network(batch_norm=False)
    expected = trained_by_hand(network, records, config, batch_size=12)
    tiny.assert_close(last_raw_weights(records, config, batch_norm=False), expected, atol=2e-5)


@pytest.mark.parametrize("reduction", ["sum", "mean"])
def test_incomplete_accumulation_at_the_end_of_an_epoch_counts_in_full(
    reduction: Reduction, records: Records
) -> None:
    # Three batches of 8, two a step: 16 pictures, then 8.
    config = with_bce(tiny.settings(epochs=2, batch_size=8, accumulate=2), reduction)
    network = tiny.network(batch_norm=False)
    expected = trained_by_hand(network, records, config, batch_size=16)
    tiny.assert_close(last_raw_weights(records, config, batch_norm=False), expected, atol=2e-5)


def test_average_is_the_recurrence_with_warm_up(records: Records) -> None:
    config = tiny.settings(epochs=4, batch_size=6, accumulate=2, ema_decay=0.6)
    raw = tiny.RawWeights()
    fit(tiny.network(), records, config, callbacks=[raw])
    assert len(raw.after_step) == 4 * 2
    for key, average in raw.averages[0].items():
        if not average.is_floating_point():
            continue
        expected = tiny.weights(tiny.network())[key].double()
        for step, (weights,) in enumerate(raw.after_step):  # timm: 1 - (1 + step) ** (-2 / 3)
            decay = min(1 - (1 + step) ** (-2 / 3), 0.6) if step > 0 else 0.0
            expected = decay * expected + (1 - decay) * weights[key].double()
        torch.testing.assert_close(average.double(), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("learning_rate", "ema_decay"), [(1e-2, 0.9), (0.3, 0.9), (1e-2, 0.0)])
def test_better_of_raw_and_averaged_weights_is_kept(
    learning_rate: float, ema_decay: float, records: Records, tmp_path: Path
) -> None:
    config = tiny.settings(epochs=4, learning_rate=learning_rate, ema_decay=ema_decay)
    kinds = ("raw", "ema") if ema_decay else ("raw",)
    averages: list[dict[str, Tensor]] = []

    class EachEpoch(tiny.RawWeights):
        def on_validation_end(
            self, trainer: lightning.Trainer, pl_module: lightning.LightningModule
        ) -> None:
            super().on_validation_end(trainer, pl_module)
            averages.append(self.averages[0] if self.averages else {})

    seen, network = EachEpoch(), tiny.network()
    place = Place("baseline", tmp_path, tmp_path / "last.ckpt")
    (best,) = fit(network, records, config, place=place, callbacks=[seen]).best
    rows = metrics(tmp_path)
    assert len(rows) == 4
    scores = {
        (epoch, kind): float(row[f"validation_{kind}"])
        for epoch, row in enumerate(rows)
        for kind in kinds
    }
    assert ("validation_ema" in rows[0]) == (ema_decay > 0)
    # The first of equals, raw before averaged: what max gives for this order.
    assert (best.epoch, best.weights) == max(scores, key=lambda choice: scores[choice])
    kept = averages[best.epoch] if best.weights == "ema" else seen.after_epoch[best.epoch][0]
    tiny.assert_same(tiny.weights(network), kept)


def test_both_choices_are_met(records: Records, tmp_path: Path) -> None:
    # Guards the test above: its settings keep averaged weights at least once, and raw ones.
    kept = {
        fit(
            tiny.network(),
            records,
            tiny.settings(epochs=4, learning_rate=rate, ema_decay=decay),
            place=Place(str(rate), tmp_path / str(rate), tmp_path / f"{rate}.ckpt"),
        )
        .best[0]
        .weights
        for rate, decay in ((1e-2, 0.9), (0.3, 0.9))
    }
    assert kept == {"raw", "ema"}


def test_validation_scores_are_those_of_scikit_learn(records: Records, tmp_path: Path) -> None:
    seen = tiny.RawWeights()
    place = Place("baseline", tmp_path, tmp_path / "last.ckpt")
    config = tiny.settings(ema_decay=0.5)
    fit(tiny.network(), records, config, place=place, callbacks=[seen])
    rows = records.indices(VALIDATION)
    pictures = PictureDataset(records, config.image, seed=config.seed)
    images = torch.stack([pictures[int(row), PLAIN][0] for row in rows]).float() / 255
    last = metrics(tmp_path)[-1]
    for kind, weights in (("raw", seen.after_epoch[-1][0]), ("ema", seen.averages[0])):
        network = tiny.network().eval()
        network.load_state_dict(weights)
        with torch.no_grad():
            logits = network(images).numpy()
        targets = records.targets[rows]
        scored = [c for c in range(4) if targets[:, c].any()]
        expected = np.mean([average_precision_score(targets[:, c], logits[:, c]) for c in scored])
        assert float(last[f"validation_{kind}"]) == pytest.approx(expected, abs=1e-6)


def test_metrics_hold_each_term_per_picture(records: Records, tmp_path: Path) -> None:
    place = Place("student", tmp_path, tmp_path / "last.ckpt")
    distill(tiny.network(), tiny.teachers(), records, tiny.settings(epochs=3), place=place)
    rows = metrics(tmp_path)
    assert [row["epoch"] for row in rows] == ["0", "1", "2"]
    for row in rows:
        terms = [float(row[key]) for key in ("classification", "co_occurrence", "dis_occurrence")]
        expected = 0.5 * terms[0] + 0.5 * (0.5 * terms[1] + 0.5 * terms[2])
        assert float(row["loss"]) == pytest.approx(expected, rel=1e-5)
        assert min(terms) > 0
    assert float(rows[-1]["loss"]) < float(rows[0]["loss"])
    assert list((tmp_path / "tensorboard").glob("events.*"))


def test_loss_in_the_metrics_is_the_mean_over_pictures(records: Records, tmp_path: Path) -> None:
    # With a learning rate of nearly nothing, all batches meet the initial network.
    config = with_bce(tiny.settings(epochs=1, learning_rate=1e-12))
    place = Place("baseline", tmp_path, tmp_path / "last.ckpt")
    fit(tiny.network(batch_norm=False), records, config, place=place)
    (row,) = metrics(tmp_path)
    (batch,) = batches(records, config, tiny.NUM_TRAIN)
    logits = tiny.network(batch_norm=False).double()(batch[0])
    total = binary_cross_entropy_with_logits(logits, batch[1], reduction="sum").item()
    assert float(row["loss"]) == pytest.approx(total / tiny.NUM_TRAIN, rel=1e-5)


def metrics(folder: Path) -> list[dict[str, str]]:
    with (folder / "metrics.csv").open() as stream:
        return list(csv.DictReader(stream))
