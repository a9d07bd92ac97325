"""Batch norm folded into convolutions: the same logits, and a network left as it was."""

from collections.abc import Callable
from contextlib import ExitStack

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

import tiny
import tiny_heads
from cpsd.data.records import TEST, Records
from cpsd.labels import LabelSpace
from cpsd.method import predict
from cpsd.model_config import ModelConfig
from cpsd.models.classifier import build_classifier, make_seeded
from cpsd.models.ensemble import TeacherEnsemble
from cpsd.models.folding import WORTH_IT, folded
from cpsd.models.trunk import Trunk

LABELS = LabelSpace(("a", "b", "c", "d"))
IMAGES = torch.rand(WORTH_IT, 3, 64, 64, generator=torch.Generator().manual_seed(0))


def settled(network: nn.Module) -> nn.Module:
    """Return ``network`` in evaluation mode, its batch norm as if it had learned."""
    generator = torch.Generator().manual_seed(1)
    for module in network.modules():
        if isinstance(module, _BatchNorm):
            values = [module.running_mean, module.running_var, module.weight, module.bias]
            for value, low in zip(values, (-0.1, 0.5, 0.5, -0.1), strict=True):
                if value is not None:
                    value.data.uniform_(low, low + 1 if low > 0 else -low, generator=generator)
    return network.eval()


def classifier(backbone: str, seed: int = 0) -> nn.Module:
    config = ModelConfig(backbone=backbone, weights="none")
    return settled(make_seeded(lambda labels: build_classifier(labels, config), LABELS, seed=seed))


def num_folded(network: nn.Module) -> int:
    return sum("forward" in vars(module) for module in network.modules())


def assert_folded_is_eager(network: nn.Module, *, norms: int, images: Tensor = IMAGES) -> None:
    """Hold logits to the network's own, and what was folded to the number expected."""
    state = {key: (value.data_ptr(), value.clone()) for key, value in network.state_dict().items()}
    objects = [id(parameter) for parameter in network.parameters()]
    with torch.inference_mode():
        expected = network(images)
        with folded(network) as quick:
            found = quick(images)
            assert num_folded(network) == norms
            torch.testing.assert_close(quick(images[:1]), expected[:1], rtol=1e-4, atol=1e-4)
        again = network(images)
    assert expected.std() > 1e-3
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5 * max(1, expected.abs().max()))
    assert torch.equal(again, expected)
    assert [id(parameter) for parameter in network.parameters()] == objects
    for key, value in network.state_dict().items():
        assert value.data_ptr() == state[key][0]
        assert torch.equal(value, state[key][1])
    assert num_folded(network) == 0


@pytest.mark.parametrize(
    ("backbone", "norms"),
    [
        ("resnet18", 20),
        ("mobilenetv2_035", 52),
        ("tf_mobilenetv3_small_minimal_100", 34),  # convolutions that pad unevenly
        ("repvgg_a0", 44),  # some of its norms have no convolution before them
        ("convnext_atto", 0),
    ],
)
def test_logits_are_those_of_the_network(backbone: str, norms: int) -> None:
    assert_folded_is_eager(classifier(backbone), norms=norms)


@pytest.mark.parametrize("head", tiny_heads.HEADS)
def test_so_they_are_with_any_head(head: str) -> None:
    network = settled(tiny_heads.classifier(head))
    norms = sum(isinstance(module, _BatchNorm) for module in network.modules())
    assert norms > 5
    assert_folded_is_eager(network, norms=norms)


def test_teachers_on_one_trunk_are_folded_together() -> None:
    teachers = [classifier("resnet18", seed=seed) for seed in (0, 1)]
    halves = [LABELS.select(part) for part in tiny.PARTITION.parts]
    for teacher, half in zip(teachers, halves, strict=True):
        teacher.head.linear = nn.Linear(512, len(half))  # type: ignore[union-attr]
    trunk = Trunk(teachers[0], num_stages=3)
    trunk.put_under(teachers[1])
    ensemble = TeacherEnsemble(tiny.PARTITION, teachers)
    # Two stages of four convolutions and one of five, in the trunk once, in the rest for each.
    norms = sum(isinstance(module, _BatchNorm) for module in ensemble.modules())
    assert_folded_is_eager(ensemble, norms=norms - 1)  # the stem's is a shared module itself
    with ExitStack() as stack, torch.inference_mode():
        expected = ensemble(IMAGES)
        first, second = (stack.enter_context(folded(ensemble)) for _ in range(2))
        for quick in (first, second):
            torch.testing.assert_close(quick(IMAGES), expected, rtol=0, atol=1e-5)
    assert num_folded(ensemble) == 0


class Own(nn.Module):
    """A user's network with one convolution and batch norm, used in a way of its own."""

    def __init__(self, way: Callable[["Own", Tensor], Tensor]) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.norm = nn.BatchNorm2d(4)
        self.way = way

    def forward(self, images: Tensor) -> Tensor:
        return self.way(self, images).mean(dim=(2, 3))


def in_order(own: Own, images: Tensor) -> Tensor:
    normed: Tensor = own.norm(own.conv(images))
    return normed


def used_twice(own: Own, images: Tensor) -> Tensor:
    features = own.conv(images)
    normed: Tensor = own.norm(features) + features
    return normed


def called_twice(own: Own, images: Tensor) -> Tensor:
    normed: Tensor = own.norm(own.conv(images)) + own.norm(own.conv(images.flip(-1)))
    return normed


def activated_between(own: Own, images: Tensor) -> Tensor:
    normed: Tensor = own.norm(own.conv(images).relu())
    return normed


def by_its_values(own: Own, images: Tensor) -> Tensor:
    """What no tracer can follow."""
    features = own.conv(images) if float(images.mean()) > 0 else images
    normed: Tensor = own.norm(features)
    return normed


def only_batches(own: Own, images: Tensor) -> Tensor:
    if len(images) == 1:
        raise ValueError("one picture is no batch")
    return in_order(own, images)


@pytest.mark.parametrize(
    ("way", "norms"),
    [
        (in_order, 1),
        (by_its_values, 1),
        (used_twice, 0),
        (called_twice, 0),
        (activated_between, 0),
    ],
)
def test_users_networks_are_folded_where_that_is_right(
    way: Callable[[Own, Tensor], Tensor], norms: int
) -> None:
    torch.manual_seed(0)
    assert_folded_is_eager(settled(Own(way)), norms=norms)


def test_a_network_that_fails_on_one_picture_is_left_alone() -> None:
    network = settled(Own(only_batches))
    with folded(network) as quick, torch.inference_mode():
        torch.testing.assert_close(quick(IMAGES), network(IMAGES))
        assert num_folded(network) == 0


def test_weights_made_of_others_are_left_alone() -> None:
    network = Own(in_order)
    nn.utils.parametrizations.weight_norm(network.conv)
    assert_folded_is_eager(settled(network), norms=0)


def test_few_pictures_are_not_worth_it() -> None:
    network = settled(Own(in_order))
    with folded(network) as quick, torch.inference_mode():
        for batch in IMAGES[: WORTH_IT - 1]:
            quick(batch[None])
        assert num_folded(network) == 0
        quick(IMAGES[:1])
        assert num_folded(network) == 1


def test_a_network_is_as_before_where_prediction_fails() -> None:
    network = settled(Own(in_order))

    def fail() -> None:
        with folded(network) as quick, torch.inference_mode():
            quick(IMAGES)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert num_folded(network) == 0
    assert network.conv.weight.requires_grad  # type: ignore[union-attr]


def test_predict_gives_the_networks_own_logits(records: Records) -> None:
    network = settled(tiny.network())
    rows = np.concatenate([records.indices(split) for split in (TEST, "train")])
    found = predict(network, records, rows, tiny.settings())
    few = np.concatenate(
        [predict(network, records, rows[i : i + 5], tiny.settings()) for i in range(0, 30, 5)]
    )
    np.testing.assert_allclose(found, few, rtol=1e-4, atol=1e-5)
    assert num_folded(network) == 0
