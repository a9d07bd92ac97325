"""Backbones: one feature map whatever the network, weights by file, and plain refusals."""

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import huggingface_hub.constants
import pytest
import timm
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from cpsd.errors import ModelError
from cpsd.labels import LabelSpace
from cpsd.model_config import ModelConfig
from cpsd.models.backbones import build_backbone
from cpsd.models.classifier import build_classifier


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A hub at a port where nobody listens, and an empty cache; return its folder."""
    cache = tmp_path / "hub"
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(cache))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    return cache


def pictures(height: int, width: int) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.rand(2, 3, height, width, generator=generator)


def raw_features(backbone: nn.Module, images: Tensor) -> Tensor:
    return cast(Tensor, cast(Any, backbone).network.forward_features(images))


@pytest.mark.parametrize(
    ("name", "height", "width", "shape"),
    [
        ("test_resnet", 64, 96, (96, 2, 3)),
        ("test_efficientnet", 64, 96, (256, 2, 3)),
        ("test_convnext", 64, 96, (64, 2, 3)),
        # channels last
        ("test_mambaout", 64, 96, (64, 2, 3)),
        ("swin_tiny_patch4_window7_224", 64, 96, (768, 2, 3)),
        # tokens, with and without prefix tokens, at the size of the weights and at another
        ("test_vit", 160, 160, (64, 10, 10)),
        ("test_vit.r160_in1k", 64, 96, (64, 4, 6)),
        ("test_vit_relpos", 160, 160, (96, 10, 10)),
        ("deit_tiny_distilled_patch16_224", 32, 64, (192, 2, 4)),
    ],
)
def test_features_are_a_map(
    name: str, height: int, width: int, shape: tuple[int, int, int]
) -> None:
    backbone = build_backbone(name, weights="none").eval()
    with torch.no_grad():
        features = backbone(pictures(height, width))
    assert features.shape == (2, *shape)
    assert backbone.num_features == shape[0]


def test_channels_last_maps_are_permuted() -> None:
    backbone = build_backbone("test_mambaout", weights="none").eval()
    with torch.no_grad():
        features, raw = backbone(pictures(64, 96)), raw_features(backbone, pictures(64, 96))
    for row in range(2):
        for column in range(3):
            assert torch.equal(features[:, :, row, column], raw[:, row, column])


@pytest.mark.parametrize(("name", "num_prefix"), [("test_vit", 1), ("test_vit4", 1)])
def test_tokens_are_laid_out_on_their_grid(name: str, num_prefix: int) -> None:
    backbone = build_backbone(name, weights="none").eval()
    with torch.no_grad():
        features, raw = backbone(pictures(32, 48)), raw_features(backbone, pictures(32, 48))
    for row in range(2):
        for column in range(3):
            token = num_prefix + row * 3 + column
            assert torch.equal(features[:, :, row, column], raw[:, token])


def test_no_parameter_is_left_unused() -> None:
    for name in ("test_resnet", "test_convnext", "test_mambaout", "test_vit"):
        backbone = build_backbone(name, weights="none")
        backbone(pictures(64, 64)).sum().backward()
        assert [key for key, p in backbone.named_parameters() if p.grad is None] == [], name


def test_mean_and_std_are_those_of_the_weights() -> None:
    assert build_backbone("test_vit", weights="none").mean == (0.5, 0.5, 0.5)
    resnet = build_backbone("resnet10t", weights="none")
    assert resnet.mean == (0.485, 0.456, 0.406)
    assert resnet.std == (0.229, 0.224, 0.225)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("resnt50", r"no model 'resnt50'\. Did you mean 'resnet50'\?"),
        ("ResNet50", r"Did you mean 'resnet50'\?"),
        ("test_vit.r160_in1", r"Did you mean 'test_vit\.r160_in1k'\?"),
        ("hf-hub:timm/test_vit.r160_in1k", "timm has no model"),
        ("local-dir:somewhere", "timm has no model"),
        ("", "timm has no model ''"),
    ],
)
def test_unknown_names_are_refused(name: str, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        build_backbone(name, weights="none")


def test_pictures_of_a_size_the_network_does_not_take_are_refused() -> None:
    fixed = build_backbone("test_maxvit", weights="none")
    with pytest.raises(ModelError, match="'test_maxvit' takes pictures of 160 x 160 pixels only"):
        fixed(pictures(96, 96))
    patches = build_backbone("test_vit", weights="none")
    with pytest.raises(ModelError, match=r"'test_vit' does not take pictures of 100 x 96 pixels"):
        patches(pictures(100, 96))


def test_a_network_without_a_feature_map_is_refused() -> None:
    backbone = build_backbone("pit_ti_224", weights="none").eval()
    with pytest.raises(ModelError, match="'pit_ti_224' gives no feature map"), torch.no_grad():
        backbone(pictures(224, 224))


@pytest.mark.parametrize("name", ["test_resnet", "test_convnext", "test_vit"])
@pytest.mark.parametrize("form", ["safetensors", "half safetensors", "pth"])
def test_weights_come_from_a_local_file(tmp_path: Path, name: str, form: str) -> None:
    source = timm.create_model(name, num_classes=7)  # its own classifier is in the file too
    path = tmp_path / f"weights.{form.split()[-1]}"
    state = source.state_dict()
    if form == "pth":
        torch.save({"state_dict": {f"module.{k}": v for k, v in state.items()}}, path)
    elif form == "half safetensors":
        source = source.half().float()
        half = {k: v.half() if v.is_floating_point() else v for k, v in state.items()}
        save_file({k: v.contiguous() for k, v in half.items()}, path)
    else:
        save_file(state, path)
    backbone = build_backbone(name, weights=str(path)).eval()
    images = pictures(160, 160)
    with torch.no_grad():
        expected = cast(Tensor, cast(Any, source.eval()).forward_features(images))
        found = raw_features(backbone, images)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, expected)


def test_a_file_of_another_model_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    save_file(timm.create_model("test_resnet").state_dict(), path)
    with pytest.raises(
        ModelError, match=r"weights\.safetensors as weights of 'test_vit': no weigh"
    ):
        build_backbone("test_vit", weights=str(path))


def test_a_key_that_fits_nowhere_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    torch.save({**timm.create_model("test_resnet").state_dict(), "neck.bias": torch.ones(1)}, path)
    with pytest.raises(ModelError, match=r"no place for 'neck\.bias'"):
        build_backbone("test_resnet", weights=str(path))


def test_weights_that_are_neither_word_nor_file_are_refused() -> None:
    with pytest.raises(ModelError, match=r"model\.weights is 'imagenet'; it must be 'timm'"):
        build_backbone("test_resnet", weights="imagenet")


@pytest.mark.parametrize("asked_for", [False, True])
def test_no_network_names_the_local_file_option_at_once(
    asked_for: bool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    settings = huggingface_hub.constants
    monkeypatch.setattr(settings, "HF_HUB_OFFLINE", asked_for)
    with pytest.raises(ModelError) as raised:
        build_backbone("test_resnet", weights="timm")
    assert str(raised.value).startswith(
        "timm could not get the weights of 'test_resnet': http://127.0.0.1:9 cannot be reached. "
        "Give a local file with --model.weights FILE"
    )
    assert raised.value.__cause__ is not None
    # The hub's client says so whenever it tries a file again.
    assert "Retry" not in caplog.text
    assert asked_for == settings.HF_HUB_OFFLINE


def test_weights_that_were_downloaded_before_need_no_network(no_network: Path) -> None:
    source = timm.create_model("test_resnet")
    folder = no_network / "models--timm--test_resnet.r160_in1k"
    (folder / "refs").mkdir(parents=True)
    (folder / "refs/main").write_text("0" * 40)
    (folder / "snapshots" / ("0" * 40)).mkdir(parents=True)
    save_file(source.state_dict(), folder / "snapshots" / ("0" * 40) / "model.safetensors")
    backbone = build_backbone("test_resnet", weights="timm").eval()
    with torch.no_grad():
        expected = cast(Any, source.eval()).forward_features(pictures(64, 64))
        torch.testing.assert_close(raw_features(backbone, pictures(64, 64)), expected)


def test_a_model_without_pretrained_weights_is_refused() -> None:
    assert not timm.is_model_pretrained("test_coatnet")
    with pytest.raises(ModelError, match="no pretrained weights for 'test_coatnet'"):
        build_backbone("test_coatnet", weights="timm")


def test_the_licence_of_timms_weights_is_logged(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    create = timm.create_model
    monkeypatch.setattr(
        timm, "create_model", lambda name, *, pretrained, num_classes: create(name, num_classes=0)
    )
    with caplog.at_level(logging.INFO, logger="cpsd"):
        build_backbone("test_resnet", weights="timm")
    assert "test_resnet.r160_in1k from timm, licence: apache-2.0" in caplog.text


def let_timm_have(licence: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let timm state ``licence`` for all weights, and hand out networks without any."""
    create, settings = timm.create_model, timm.get_pretrained_cfg("test_resnet")
    assert settings is not None
    monkeypatch.setattr(timm, "get_pretrained_cfg", lambda name: replace(settings, license=licence))
    monkeypatch.setattr(
        timm, "create_model", lambda name, *, pretrained, num_classes: create(name, num_classes=0)
    )


@pytest.mark.parametrize(
    "licence",
    [
        "cc-by-nc-4.0",
        "CC-BY-NC-SA-4.0",
        "fair-noncommercial-research-license",
        "Non-Commercial",
        "apple-amlr",
        "seer-license",
    ],
)
def test_weights_for_other_than_commercial_use_are_taken_only_on_request(
    licence: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    let_timm_have(licence, monkeypatch)
    with pytest.raises(ModelError) as raised:
        build_backbone("test_resnet", weights="timm")
    assert f"'test_resnet' is {licence}, which forbids commercial use" in str(raised.value)
    assert "--model.non_commercial_weights true" in str(raised.value)
    with caplog.at_level(logging.INFO, logger="cpsd"):
        build_backbone("test_resnet", weights="timm", non_commercial=True)
    assert f"from timm, licence: {licence}" in caplog.text


@pytest.mark.parametrize("licence", ["apache-2.0", "mit", "cc-by-4.0", "apple-ascl", None])
def test_other_licences_are_stated_and_not_refused(
    licence: str | None, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    let_timm_have(licence, monkeypatch)
    with caplog.at_level(logging.INFO, logger="cpsd"):
        build_backbone("test_resnet", weights="timm")
    assert f"from timm, licence: {licence or 'not stated'}" in caplog.text


def test_the_licence_is_asked_before_anything_is_downloaded() -> None:
    # The weights of the paper's ResNeXt row, as timm has them.
    name = "resnext50_32x4d.fb_swsl_ig1b_ft_in1k"
    with pytest.raises(ModelError, match=r"is cc-by-nc-4\.0, which forbids commercial use"):
        build_classifier(LabelSpace(("cat",)), ModelConfig(backbone=name))
    build_backbone(name, weights="none")


@pytest.mark.dataset
def test_the_shared_imagenet_weights_load(shared: Path) -> None:
    path = shared / "data" / "weights" / "mobilenetv2_100.safetensors"
    backbone = build_backbone("mobilenetv2_100", weights=str(path)).eval()
    with torch.no_grad():
        features = backbone(pictures(96, 96) * 2 - 1)
    assert features.shape == (2, 1280, 3, 3)
    assert features.isfinite().all()
    stem = cast(Tensor, cast(Any, backbone.network).conv_stem.weight)
    assert torch.equal(stem, load_file(path)["conv_stem.weight"].float())
