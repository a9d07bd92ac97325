"""Batch norm folded into convolutions: the same logits, and a network left as it was."""

import logging
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
from cpsd.models.onednn import FusedConvolution
from cpsd.models.trunk import Trunk

CHANNELS_LAST = torch.channels_last
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
    return sum(isinstance(m, _BatchNorm) and "forward" in vars(m) for m in network.modules())


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


@pytest.mark.parametrize(
    ("backbone", "activations"),
    [
        ("resnet18", 9),  # the other eight follow a sum
        ("mobilenetv2_035", 35),  # the other norms have none
        ("mobilenetv3_small_050", 23),
    ],
)
def test_on_a_cpu_convolutions_compute_the_activations_too(backbone: str, activations: int) -> None:
    network = classifier(backbone)
    with folded(network) as quick, torch.inference_mode():
        quick(IMAGES)
        fused = [vars(m)["forward"] for m in network.modules() if "forward" in vars(m)]
        ones = [forward for forward in fused if isinstance(forward, FusedConvolution)]
        assert sum(one.activation is not None for one in ones) == activations


@pytest.mark.parametrize("activation", [nn.ReLU, nn.ReLU6, nn.SiLU, nn.Hardswish, nn.GELU])
@pytest.mark.parametrize("inplace", [False, True])
@pytest.mark.parametrize("grouped", [False, True])
def test_every_activation_is_what_torch_makes_of_it(
    activation: type[nn.Module], inplace: bool, grouped: bool
) -> None:
    torch.manual_seed(0)
    convolution = nn.Conv2d(6, 12, (3, 5), stride=(2, 1), padding=(1, 3), dilation=2)
    if grouped:
        convolution = nn.Conv2d(6, 12, 3, padding=1, groups=6, bias=False)
    last = activation() if activation is nn.GELU else activation(inplace=inplace)
    stem = nn.Conv2d(3, 6, 3)
    layers = nn.Sequential(stem, convolution, nn.BatchNorm2d(12), nn.Identity(), last)
    network = settled(nn.Sequential(layers, nn.AdaptiveAvgPool2d(2), nn.Flatten()))
    for parameter in network.parameters():
        parameter.data *= 4  # so that values come to all pieces of an activation
    assert_folded_is_eager(network, norms=1)
    assert_folded_is_eager(network, norms=1, images=IMAGES[:, :, :31, :47])


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
def test_autocast_is_left_to_torch(precision: torch.dtype) -> None:
    network = classifier("resnet18")
    autocast = torch.autocast("cpu", precision, enabled=precision != torch.float32)
    with folded(network) as quick, torch.inference_mode(), autocast:
        expected, found = network(IMAGES), quick(IMAGES)
        assert num_folded(network) == 20
        as_one = any(
            isinstance(vars(m).get("forward"), FusedConvolution) for m in network.modules()
        )
        assert as_one == (precision == torch.float32)
    assert found.dtype == expected.dtype == precision
    torch.testing.assert_close(found.float(), expected.float(), rtol=0.1, atol=0.1)


def test_other_input_than_expected_is_computed_as_well() -> None:
    torch.manual_seed(0)
    convolution, norm, last = nn.Conv2d(3, 4, 3), settled(nn.BatchNorm2d(4)), nn.SiLU()
    assert isinstance(norm, nn.BatchNorm2d)
    fused = FusedConvolution(convolution, norm, last, (8, 3, 64, 64))
    with torch.inference_mode():
        for images in (IMAGES, IMAGES[:1, :, 3:], IMAGES.contiguous(memory_format=CHANNELS_LAST)):
            expected = last(norm(convolution(images)))
            torch.testing.assert_close(fused(images), expected, rtol=1e-5, atol=1e-5)
        with torch.autocast("cpu", torch.bfloat16):
            assert torch.equal(fused(IMAGES), last(norm(convolution(IMAGES))))


class Own(nn.Module):
    """A user's network with one convolution and batch norm, used in a way of its own."""

    def __init__(self, way: Callable[["Own", Tensor], Tensor]) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.norm = nn.BatchNorm2d(4)
        self.activation = nn.ReLU()
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


def normed_is_used_twice(own: Own, images: Tensor) -> Tensor:
    """The activation is not the only one that takes what the norm gives."""
    normed = own.norm(own.conv(images))
    total: Tensor = own.activation(normed) + normed
    return total


def activated_twice(own: Own, images: Tensor) -> Tensor:
    total: Tensor = own.activation(own.activation(own.norm(own.conv(images))) - 0.1)
    return total


def written_into(own: Own, images: Tensor) -> Tensor:
    """What the activation takes is the same object, but not what the norm gave."""
    normed = own.norm(own.conv(images))
    normed += 0.3
    total: Tensor = own.activation(normed)
    return total


def activated_between(own: Own, images: Tensor) -> Tensor:
    normed: Tensor = own.norm(own.conv(images).relu())
    return normed


def by_its_values(own: Own, images: Tensor) -> Tensor:
    """What no tracer can follow."""
    features = own.conv(images) if float(images.mean()) > 0 else images
    normed: Tensor = own.norm(features)
    return normed


def killed_at_one(own: Own, images: Tensor) -> Tensor:
    if len(images) == 1:
        raise RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed. ")
    return in_order(own, images)


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
        (normed_is_used_twice, 1),
        (activated_twice, 1),
        (written_into, 1),
        (activated_between, 0),
    ],
)
def test_users_networks_are_folded_where_that_is_right(
    way: Callable[[Own, Tensor], Tensor], norms: int
) -> None:
    torch.manual_seed(0)
    assert_folded_is_eager(settled(Own(way)), norms=norms)


@pytest.mark.parametrize(
    ("way", "reason"),
    [
        (only_batches, "fails on a single picture (one picture is no batch)"),
        (used_twice, "would give other logits"),
    ],
)
def test_a_network_that_cannot_be_folded_is_left_alone_and_that_is_said(
    way: Callable[[Own, Tensor], Tensor], reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    network = settled(Own(way))
    with (
        caplog.at_level(logging.INFO, "cpsd"),
        folded(network) as quick,
        torch.inference_mode(),
    ):
        torch.testing.assert_close(quick(IMAGES), network(IMAGES))
        assert num_folded(network) == 0
    (said,) = caplog.messages
    assert reason in said


def test_a_loader_that_is_killed_meanwhile_is_no_fault_of_the_network() -> None:
    with (
        folded(settled(Own(killed_at_one))) as quick,
        torch.inference_mode(),
        pytest.raises(RuntimeError, match="DataLoader worker"),
    ):
        quick(IMAGES)


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
