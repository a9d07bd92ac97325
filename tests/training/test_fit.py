"""Ensembles against single teachers, what is random and what is not."""

import functools
import multiprocessing
import random
import signal
import weakref
from collections.abc import Callable
from dataclasses import replace
from types import FrameType
from typing import Any

import lightning
import numpy as np
import pytest
import torch
from torch import Tensor, nn

import tiny
from cpsd.data.picture_dataset import Batch
from cpsd.data.records import TRAIN, Records
from cpsd.labels import UNKNOWN
from cpsd.method import Fitted, distill, fit
from cpsd.models.classifier import Classifier, Normalization


@pytest.mark.parametrize("dropout", [0.0, 0.4])
def test_teachers_trained_together_equal_teachers_trained_one_by_one(
    dropout: float, records: Records
) -> None:
    # A norm that clips at every step, so that a norm taken over all teachers would show.
    config = tiny.settings(epochs=3, ema_decay=0.9, clip_norm=0.05, accumulate=2, batch_size=6)
    together = tiny.ensemble(dropout=dropout)
    fitted = fit(together, records, config)
    alone = tiny.ensemble(dropout=dropout)
    for index, part in enumerate(tiny.PARTITION.parts):
        single = fit(alone.teachers[index], records, config, part=part)
        assert single.best[0].epoch == fitted.best[index].epoch
        assert single.best[0].weights == fitted.best[index].weights
        assert single.best[0].score == fitted.best[index].score
    tiny.assert_same(tiny.weights(together), tiny.weights(alone))


def test_activations_of_one_teacher_are_held_at_a_time(records: Records) -> None:
    ensemble, held = tiny.ensemble(), SavedForBackward()
    before: list[int] = []
    for teacher in ensemble.teachers:
        teacher.register_forward_pre_hook(lambda *_: before.append(len(held.tensors)))
    fit(ensemble, records, tiny.settings(epochs=2), callbacks=[held])
    assert held.most > 3
    assert before == [0] * 2 * (3 + 2) * len(ensemble.teachers)  # validation is of two batches


def test_so_they_are_in_mixed_precision(records: Records) -> None:
    config = tiny.settings(epochs=2, clip_norm=0.05)
    config = replace(config, training=replace(config.training, precision="bf16-mixed"))
    together, alone = tiny.ensemble(), tiny.ensemble()
    fit(together, records, config)
    for index, part in enumerate(tiny.PARTITION.parts):
        fit(alone.teachers[index], records, config, part=part)
    tiny.assert_close(tiny.weights(together), tiny.weights(alone))
    exact = tiny.ensemble()
    fit(exact, records, tiny.settings(epochs=2, clip_norm=0.05))
    assert not torch.equal(weight(exact.teachers[0]), weight(together.teachers[0]))


def test_clipping_changes_the_result(records: Records) -> None:
    # Guards the test above: were the norm too large to clip, it would hold nothing.
    clipped, free = tiny.network(), tiny.network()
    norms = GradientNorms()
    fit(clipped, records, tiny.settings(clip_norm=0.05), callbacks=[norms])
    fit(free, records, tiny.settings())
    assert max(norms.seen) <= 0.05 * (1 + 1e-4)
    assert not torch.allclose(weight(clipped), weight(free), atol=1e-4)


def test_teachers_do_not_see_each_others_targets(records: Records) -> None:
    config = tiny.settings(clip_norm=0.5, ema_decay=0.9)
    targets = records.targets.copy()
    targets[:, list(tiny.PARTITION.parts[1])] ^= 1
    first, second = tiny.ensemble(), tiny.ensemble()
    fit(first, records, config)
    fit(second, replace(records, targets=targets), config)
    tiny.assert_same(tiny.weights(first.teachers[0]), tiny.weights(second.teachers[0]))
    assert not torch.equal(weight(first.teachers[1]), weight(second.teachers[1]))


def test_order_and_views_depend_on_seed_and_epoch_alone(records: Records) -> None:
    def seen(train: Callable[[lightning.Callback], Fitted]) -> list[tuple[int, bytes]]:
        batches = BatchesSeen()
        train(batches)
        return batches.seen

    config = tiny.settings()
    reference = seen(lambda see: fit(tiny.network(), records, config, callbacks=[see]))
    assert len(reference) == 2 * tiny.NUM_TRAIN
    others = [
        lambda see: fit(tiny.network(seed=4), records, tiny.settings(workers=2), callbacks=[see]),
        lambda see: fit(tiny.ensemble(dropout=0.5), records, config, callbacks=[see]),
        lambda see: distill(tiny.network(), tiny.teachers(), records, config, callbacks=[see]),
    ]
    for train in others:
        assert seen(train) == reference
    reseeded = replace(config, seed=4)
    assert seen(lambda see: fit(tiny.network(), records, reseeded, callbacks=[see])) != reference
    half = len(reference) // 2
    first, second = dict(reference[:half]), dict(reference[half:])
    assert first.keys() == second.keys()
    assert first != second, "each epoch has views of its own"


def test_training_leaves_the_callers_generators_alone(records: Records) -> None:
    torch.manual_seed(1)
    before = (torch.get_rng_state(), numpy_state(), random.getstate())
    fit(tiny.network(dropout=0.5), records, tiny.settings(workers=1))
    distill(tiny.network(dropout=0.5), tiny.teachers(), records, tiny.settings())
    assert torch.equal(torch.get_rng_state(), before[0])
    assert np.array_equal(numpy_state(), before[1])
    assert random.getstate() == before[2]


def test_random_layers_depend_on_the_seed_and_not_on_the_caller(records: Records) -> None:
    first, second, other = (tiny.network(dropout=0.5) for _ in range(3))
    torch.manual_seed(1)
    fit(first, records, tiny.settings())
    torch.manual_seed(2)
    fit(second, records, tiny.settings())
    fit(other, records, replace(tiny.settings(), seed=4))
    tiny.assert_same(tiny.weights(first), tiny.weights(second))
    assert not torch.equal(weight(first), weight(other))


class Handlers(lightning.Callback):
    """Notes who has SIGTERM at every step."""

    def __init__(self) -> None:
        self.found: list[Any] = []

    def on_train_batch_end(self, *about: Any) -> None:
        self.found.append(signal.getsignal(signal.SIGTERM))


def test_sigterm_stays_with_whoever_had_it(records: Records) -> None:
    # Lightning's own handler waits for the other devices, which may wait for this one.
    def end(number: int, frame: FrameType | None) -> None:
        raise SystemExit

    before, handlers = signal.signal(signal.SIGTERM, end), Handlers()
    try:
        fit(tiny.network(), records, tiny.settings(epochs=1), callbacks=[handlers])
        assert signal.getsignal(signal.SIGTERM) is end
    finally:
        signal.signal(signal.SIGTERM, before)
    assert {*handlers.found} == {end}


def test_network_in_eval_mode_is_trained_in_training_mode(records: Records) -> None:
    evaluated, fresh = tiny.network().eval(), tiny.network()
    fit(evaluated, records, tiny.settings())
    fit(fresh, records, tiny.settings())
    tiny.assert_same(tiny.weights(evaluated), tiny.weights(fresh))


def test_channels_last_network_can_be_kept(records: Records) -> None:
    network = tiny.network().to(memory_format=torch.channels_last)
    reference = tiny.network()
    fit(network, records, tiny.settings(epochs=1))
    fit(reference, records, tiny.settings(epochs=1))
    tiny.assert_close(tiny.weights(network), tiny.weights(reference), atol=1e-5)


@pytest.mark.parametrize("epochs", [1, 2, 10])
def test_any_number_of_steps_can_be_scheduled(epochs: int, records: Records) -> None:
    # One step an epoch: a rise of 0.1 x 10 steps is where torch's schedule divides by zero.
    config = tiny.settings(epochs=epochs, batch_size=tiny.NUM_TRAIN)
    config = replace(config, training=replace(config.training, warmup=0.1))
    steps = tiny.RawWeights()
    fit(tiny.network(), records, config, callbacks=[steps])
    assert len(steps.after_step) == epochs


def test_unlabelled_pictures_are_left_out_of_a_fit(records: Records) -> None:
    targets = records.targets.copy()
    unlabelled = records.indices(TRAIN)[::3]
    targets[unlabelled] = UNKNOWN
    seen = BatchesSeen()
    fit(tiny.network(), replace(records, targets=targets), tiny.settings(), callbacks=[seen])
    rows = {row for row, _ in seen.seen}
    assert rows == set(records.indices(TRAIN).tolist()) - set(unlabelled.tolist())


def test_frozen_batch_norm_stays_as_it_is(records: Records) -> None:
    backbone = nn.Sequential(nn.Conv2d(3, 8, 3, stride=2), nn.BatchNorm2d(8), nn.ReLU())
    head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4))
    # Numbers that float32 has only roughly: an average of equal values must not move them.
    normalization = Normalization((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    network = Classifier(backbone, head, normalization=normalization, frozen_batch_norm=True)
    before = tiny.weights(network)
    raw = tiny.RawWeights()
    fit(network, records, tiny.settings(epochs=3, ema_decay=0.7), callbacks=[raw])
    constant = {
        key for key in before if key.startswith("backbone.1.") or key.startswith("normalization.")
    }
    assert len(constant) == 7
    for weights in (tiny.weights(network), raw.after_epoch[-1][0], raw.averages[0]):
        assert all(torch.equal(weights[key], before[key]) for key in constant)
        assert not torch.equal(weights["backbone.0.weight"], before["backbone.0.weight"])


def test_loader_processes_end_with_the_training(records: Records) -> None:
    fit(tiny.network(), records, tiny.settings(workers=2))
    assert multiprocessing.active_children() == []
    with pytest.raises(tiny.StopError):
        fit(tiny.network(), records, tiny.settings(workers=2), callbacks=[tiny.StopIn(epoch=1)])
    assert multiprocessing.active_children() == []


def numpy_state() -> Any:
    """Return the words of the legacy generator, which nothing here may move."""
    return np.random.get_state()[1]  # type: ignore[index]


def weight(network: nn.Module) -> Tensor:
    return network.get_parameter("linear.weight").detach().clone()


class BatchesSeen(lightning.Callback):
    """The row and the pixels of every picture, in the order they were trained on."""

    def __init__(self) -> None:
        self.seen: list[tuple[int, bytes]] = []

    def on_train_batch_start(self, trainer: Any, task: Any, batch: Batch, index: int) -> None:
        for row, image in zip(batch.rows.tolist(), batch.images, strict=True):
            self.seen.append((row, image.numpy().tobytes()))


class SavedForBackward(lightning.Callback):
    """The tensors that steps hold for their backward passes."""

    def __init__(self) -> None:
        self.tensors: weakref.WeakSet[Any] = weakref.WeakSet()
        self.most = 0
        self._watching = torch.autograd.graph.saved_tensors_hooks(self._hold, self._give)

    def _hold(self, tensor: Tensor) -> Callable[[], Tensor]:
        held = functools.partial(tensor.detach)  # an object of its own that lives as long
        self.tensors.add(held)
        self.most = max(self.most, len(self.tensors))
        return held

    def _give(self, held: Callable[[], Tensor]) -> Tensor:
        return held()

    def on_train_batch_start(self, *_: Any) -> None:
        self._watching.__enter__()

    def on_train_batch_end(self, *_: Any) -> None:
        self._watching.__exit__()


class GradientNorms(lightning.Callback):
    """The gradient's norm as the optimizer sees it."""

    def __init__(self) -> None:
        self.seen: list[float] = []

    def on_train_start(self, trainer: lightning.Trainer, *_: Any) -> None:
        (optimizer,) = trainer.optimizers
        optimizer.register_step_post_hook(self.look)

    def look(self, optimizer: torch.optim.Optimizer, *_: Any) -> None:
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        gradients = [p.grad for p in parameters if p.grad is not None]
        if gradients:
            norms = torch.stack([gradient.norm() for gradient in gradients])
            self.seen.append(float(norms.norm()))
