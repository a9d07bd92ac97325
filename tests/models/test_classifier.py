"""The classifier, frozen batch norm, and the factories."""

import copy
import pickle
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from cpsd.errors import ModelError
from cpsd.labels import LabelSpace
from cpsd.model_config import ModelConfig
from cpsd.models import backbones
from cpsd.models.classifier import (
    Classifier,
    Normalization,
    build_classifier,
    freeze_batch_norm,
    make_seeded,
    model_factory,
)

Normalizing = Literal["backbone", "symmetric", "none"]
LABELS = LabelSpace(("cat", "dog", "bird"))
RESNET = ModelConfig(backbone="test_resnet", weights="none")


def pictures() -> Tensor:
    return torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(1))


def state_of(module: nn.Module) -> dict[str, Tensor]:
    return {key: value.clone() for key, value in module.state_dict().items()}


def train_a_step(model: nn.Module) -> None:
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
    model(pictures()).square().sum().backward()
    optimizer.step()


@pytest.mark.parametrize("backbone", ["test_resnet", "test_vit", "test_mambaout"])
def test_a_classifier_maps_pictures_to_a_logit_a_label(backbone: str) -> None:
    model = build_classifier(LABELS, replace(RESNET, backbone=backbone)).eval()
    with torch.no_grad():
        assert model(pictures()).shape == (4, 3)


def test_normalization_is_per_channel() -> None:
    mean, std = (0.1, 0.2, 0.3), (0.5, 1.0, 2.0)
    found = Normalization(mean, std)(pictures()).numpy()
    for channel in range(3):
        expected = (pictures()[:, channel].double().numpy() - mean[channel]) / std[channel]
        assert np.allclose(found[:, channel], expected, atol=1e-6)


@pytest.mark.parametrize(
    ("normalization", "low", "high"),
    [("backbone", -0.485 / 0.229, 0.515 / 0.229), ("symmetric", -1.0, 1.0), ("none", 0.0, 1.0)],
)
def test_normalization_is_the_configured_one(
    normalization: Normalizing, low: float, high: float
) -> None:
    config = ModelConfig(backbone="resnet10t", weights="none", normalization=normalization)
    model = build_classifier(LABELS, config)
    black_and_white = torch.stack([torch.zeros(3, 1, 1), torch.ones(3, 1, 1)])
    found = model.normalization(black_and_white)[:, 0].flatten()
    torch.testing.assert_close(found, torch.tensor([low, high]))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"head": "linaer"}, r"no head 'linaer'\. Did you mean 'linear'\?"),
        ({"normalization": "symetric"}, r"Did you mean 'symmetric'\?"),
    ],
)
def test_unknown_choices_are_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        build_classifier(LABELS, replace(RESNET, **change))


@pytest.mark.parametrize("backbone", ["test_resnet", "test_efficientnet"])
def test_frozen_batch_norm_stays_as_it_is_in_training(backbone: str) -> None:
    config = replace(RESNET, backbone=backbone, freeze_batch_norm=True)
    model = copy.deepcopy(build_classifier(LABELS, config))  # as weight averaging copies it
    norms = {
        name: layer
        for name, layer in model.named_modules()
        if isinstance(layer, nn.modules.batchnorm._BatchNorm)
    }
    assert norms
    before = state_of(model)
    nn.ModuleList([model]).train()
    assert model.training
    assert not any(layer.training for layer in norms.values())
    train_a_step(model)
    after = state_of(model)
    for name, layer in norms.items():
        assert all(not p.requires_grad for p in layer.parameters())
        for key in layer.state_dict():
            assert torch.equal(before[f"{name}.{key}"], after[f"{name}.{key}"]), (name, key)
    assert not torch.equal(before["head.linear.weight"], after["head.linear.weight"])


def test_batch_norm_that_is_not_frozen_learns() -> None:
    model = build_classifier(LABELS, RESNET).train()
    before = state_of(model)
    train_a_step(model)
    after = state_of(model)
    for key in ("bn1.running_mean", "bn1.weight", "bn1.num_batches_tracked"):
        key = f"backbone.network.{key}"
        assert not torch.equal(before[key], after[key]), key


def test_weights_with_folded_batch_norm_that_is_to_learn_are_told_of_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    network = timm.create_model("test_resnet", num_classes=0)  # its means 0, its variances 1
    folded, whole = tmp_path / "folded.safetensors", tmp_path / "whole.safetensors"
    save_file(network.state_dict(), folded)
    build_classifier(LABELS, replace(RESNET, weights=str(folded), freeze_batch_norm=True))
    save_file(
        {k: v + 0.5 if "bn1.running_mean" in k else v for k, v in network.state_dict().items()},
        whole,
    )
    build_classifier(LABELS, replace(RESNET, weights=str(whole)))
    build_classifier(LABELS, RESNET)
    assert not caplog.messages
    for _ in range(2):
        build_classifier(LABELS, replace(RESNET, weights=str(folded)))
    [message] = caplog.messages
    assert message.startswith(f"{folded} has no statistics of batch norm")
    assert "--model.freeze_batch_norm true" in message


def test_any_module_can_have_its_batch_norm_frozen() -> None:
    network = nn.Sequential(nn.Conv1d(1, 2, 1), nn.BatchNorm1d(2), nn.GroupNorm(1, 2), nn.Dropout())
    freeze_batch_norm(network)
    assert [layer.training for layer in network] == [True, False, True, True]
    assert [p.requires_grad for p in network.parameters()] == [True, True, False, False, True, True]


@pytest.mark.parametrize("backbone", ["test_resnet", "test_vit"])
def test_seeded_weights_depend_on_the_seed_alone(backbone: str) -> None:
    make_model = model_factory(replace(RESNET, backbone=backbone))
    backbones._takes_any_size.cache_clear()  # what the first call finds out must draw nothing
    before = torch.random.get_rng_state()
    first = make_seeded(make_model, LABELS, seed=5).state_dict()
    assert torch.equal(torch.random.get_rng_state(), before)
    torch.rand(7)
    again = make_seeded(make_model, LABELS, seed=5).state_dict()
    other = make_seeded(make_model, LABELS, seed=2**63 - 1).state_dict()
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert not torch.equal(first["head.linear.weight"], other["head.linear.weight"])
    stem = {"test_resnet": "conv1.0.weight", "test_vit": "patch_embed.proj.weight"}[backbone]
    stem = f"backbone.network.{stem}"
    assert not torch.equal(first[stem], other[stem])


def test_what_is_no_module_is_refused() -> None:
    with pytest.raises(ModelError, match="make_model returned int"):
        make_seeded(lambda labels: cast(nn.Module, len(labels)), LABELS, seed=0)


@pytest.fixture
def own_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Name of an importable module with a user's factories."""
    (tmp_path / "photographers_models.py").write_text(
        "from torch import nn\n"
        "def make_model(labels):\n"
        "    return nn.Sequential(nn.Flatten(), nn.LazyLinear(len(labels)))\n"
        "def make_nothing(labels):\n"
        "    return None\n"
        "def fail(labels):\n"
        "    return 1 / 0\n"
        "number = 3\n"
    )
    (tmp_path / "photographers_broken_models.py").write_text("import not_installed_anywhere\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "photographers_models", raising=False)
    return "photographers_models"


def test_the_users_factory_is_called(own_package: str) -> None:
    make_model = model_factory(ModelConfig(factory=f"{own_package}:make_model"))
    assert make_model(LABELS)(pictures()).shape == (4, 3)
    again = pickle.loads(pickle.dumps(make_model))
    assert isinstance(again(LABELS), nn.Sequential)


@pytest.mark.parametrize(
    ("factory", "message"),
    [
        ("photographers_models", r"must be 'package\.module:function'"),
        (".relative:make_model", r"must be 'package\.module:function'"),
        (":make_model", r"must be 'package\.module:function'"),
        ("not_there_at_all:make", "cannot be imported .No module named 'not_there_at_all'"),
        ("photographers_broken_models:make", "No module named 'not_installed_anywhere'"),
        ("photographers_models:make_modle", r"no function 'make_modle'\. Did you mean 'make_model"),
        ("photographers_models:number", "no function 'number'"),
    ],
)
@pytest.mark.usefixtures("own_package")
def test_a_factory_that_cannot_be_had_is_refused(factory: str, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        model_factory(ModelConfig(factory=factory))


def test_a_factory_that_fails_is_named_with_what_it_said(own_package: str) -> None:
    make_model = model_factory(ModelConfig(factory=f"{own_package}:fail"))
    expected = r"'photographers_models:fail' failed for 3 labels \(ZeroDivisionError: division by z"
    with pytest.raises(ModelError, match=expected):
        make_model(LABELS)


def test_a_factory_that_makes_no_module_is_refused(own_package: str) -> None:
    make_model = model_factory(ModelConfig(factory=f"{own_package}:make_nothing"))
    with pytest.raises(ModelError, match="'photographers_models:make_nothing' returned NoneType"):
        make_model(LABELS)


@pytest.mark.dataset
def test_the_shared_imagenet_weights_make_a_classifier(shared: Path) -> None:
    path = shared / "data" / "weights" / "mobilenetv2_100.safetensors"
    config = ModelConfig(
        backbone="mobilenetv2_100",
        weights=str(path),
        normalization="symmetric",
        freeze_batch_norm=True,
    )
    model = build_classifier(LABELS, config).train()
    assert isinstance(model, Classifier)
    logits = model(pictures())
    assert logits.shape == (4, 3)
    assert logits.isfinite().all()
