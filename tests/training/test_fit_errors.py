"""What stops a training, and what is said of it."""

import math
import re
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

import tiny
from cpsd.data.loading import EpochSampler
from cpsd.data.records import TRAIN, Records
from cpsd.errors import ConfigError, TrainingError
from cpsd.method import fit


def test_half_precision_on_a_cpu_is_refused(records: Records) -> None:
    config = tiny.settings()
    config = replace(
        config,
        training=replace(config.training, precision="16-mixed"),
        machine=replace(config.machine, accelerator="cpu"),
    )
    with pytest.raises(ConfigError, match="16-mixed', which needs a GPU"):
        fit(tiny.network(), records, config)


class Spoiled(nn.Module):
    """A network that goes wrong at one of its training steps."""

    def __init__(self, network: nn.Module, step: int, error: Exception | None = None) -> None:
        super().__init__()
        self.network = network
        self.step = step
        self.error = error

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.network(images)
        if not self.training:
            return logits
        self.step -= 1
        if self.step >= 0:
            return logits
        if self.error is not None:
            raise self.error
        return logits * math.nan


def test_loss_that_is_not_finite_names_member_epoch_batch_and_pictures(records: Records) -> None:
    ensemble = tiny.ensemble()
    ensemble.teachers[1] = Spoiled(ensemble.teachers[1], step=4)  # 3 batches an epoch
    with pytest.raises(TrainingError) as caught:
        fit(ensemble, records, tiny.settings())
    message = str(caught.value)
    assert re.search(r"loss of predictor/1 is nan in epoch 2, batch 2\b", message)
    assert "training.learning_rate" in message
    sampler = EpochSampler(records.indices(TRAIN), seed=3, num_views=None)
    sampler.set_epoch(1)
    expected = [records.paths[row] for row, _ in sampler][8:16]
    assert message.endswith(": " + ", ".join(expected))


def test_out_of_memory_says_what_would_fit(records: Records) -> None:
    error = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20 GiB")
    network = Spoiled(tiny.network(), step=1, error=error)
    with pytest.raises(TrainingError) as caught:
        fit(network, records, tiny.settings(batch_size=8, accumulate=2))
    assert "8 pictures in a batch" in str(caught.value)
    assert "--training.batch_size 4 --training.accumulate 4" in str(caught.value)
    assert caught.value.__cause__ is error


@pytest.mark.parametrize(
    ("size", "accumulate", "advice"),
    [
        (15, 1, "--training.batch_size 5 --training.accumulate 3,"),
        (9, 2, "--training.batch_size 3 --training.accumulate 6,"),
        (7, 3, "--training.batch_size 1 --training.accumulate 21,"),
        (1, 4, "--image.size"),
    ],
)
def test_the_advice_keeps_the_pictures_of_a_step(
    size: int, accumulate: int, advice: str, records: Records
) -> None:
    error = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20 GiB")
    network = Spoiled(tiny.network(), step=1, error=error)
    with pytest.raises(TrainingError) as caught:
        fit(network, records, tiny.settings(batch_size=size, accumulate=accumulate))
    assert advice in str(caught.value)
    assert f"{size} picture{'' if size == 1 else 's'} in a batch" in str(caught.value)


def test_other_errors_of_a_network_come_through(records: Records) -> None:
    error = RuntimeError("a mistake in the network")
    with pytest.raises(RuntimeError, match="a mistake in the network") as caught:
        fit(Spoiled(tiny.network(), step=1, error=error), records, tiny.settings())
    assert caught.value is error
