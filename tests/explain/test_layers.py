from typing import Any

import numpy as np
import pytest
import timm
import torch
from torch import Tensor, nn

from cpsd.errors import ModelError
from cpsd.explain.layers import explained_layer
from cpsd.explain.maps import label_maps
from tiny_heads import classifier, pictures, use_small_backbones


@pytest.mark.parametrize(
    ("size", "layer"), [(128, None), (97, None), (96, "layer3"), (64, "layer3"), (32, "layer2")]
)
def test_small_pictures_are_explained_by_an_earlier_stage(size: int, layer: str | None) -> None:
    network: Any = classifier("linear")
    expected = network.backbone if layer is None else getattr(network.backbone.network, layer)
    image = pictures(1, size)
    assert explained_layer(network, image) is expected
    assert min(label_maps(network, image[0], [0]).shape[1:]) >= 4


def test_a_network_that_has_no_map_of_enough_places_gives_its_largest() -> None:
    network = classifier("linear", "test_vit")
    assert explained_layer(network, pictures(1, 48)) is network.backbone
    assert label_maps(network, pictures(1, 48)[0], [0]).shape == (1, 3, 3)


def test_a_stage_that_has_its_channels_last_is_explained_in_its_places(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    use_small_backbones(monkeypatch)
    network: Any = classifier("linear", "swin_tiny_patch4_window7_224")
    image = pictures(1, 64)
    stage = network.backbone.network.layers[1]  # 8 x 8 places; the last two have 4 and 2 a side
    monkeypatch.setattr("cpsd.explain.layers.LEAST_PLACES", 5)
    assert explained_layer(network, image) is stage
    kept: list[Tensor] = []
    hook = stage.register_forward_hook(lambda module, inputs, output: kept.append(output))
    logit = network(image.requires_grad_())[0, 2]
    hook.remove()
    (gradient,) = torch.autograd.grad(logit, kept[0])
    expected = (kept[0] * gradient.mean(dim=(1, 2), keepdim=True)).sum(dim=3).clamp(min=0)
    found = label_maps(network, image[0].detach(), [2])
    assert found.shape == (1, 8, 8)
    np.testing.assert_allclose(found, expected.detach(), rtol=1e-4, atol=1e-9)
    assert not stage._forward_hooks
    monkeypatch.undo()
    assert explained_layer(network, image) is network.backbone.network.layers[2]


def residual_network() -> nn.Module:
    network: nn.Module = timm.create_model("test_resnet", num_classes=3).eval()
    return network


def test_the_last_map_of_a_network_of_ones_own_is_found() -> None:
    network: Any = residual_network()
    assert explained_layer(network, pictures(1, 128)) is network.layer4


def test_layer_norms_that_keep_channels_second_are_no_transformer() -> None:
    network: Any = timm.create_model("test_convnext", num_classes=3).eval()
    assert explained_layer(network, pictures(1, 128)) is network.stages


def test_its_attribute_names_the_layer() -> None:
    network: Any = residual_network()
    network.explained_layer = network.layer2
    assert explained_layer(network, pictures(1, 128)) is network.layer2
    assert label_maps(network, pictures(1, 128)[0], [2]).shape == (1, 16, 16)


class Perceptron(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(3, 2)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.linear(images.mean(dim=(2, 3)))
        return logits


class TwoStreams(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.streams = nn.ModuleList([classifier("linear"), classifier("linear")])

    def forward(self, images: Tensor) -> Tensor:
        return torch.stack([stream(images) for stream in self.streams]).mean(dim=0)


def vision_transformer() -> nn.Module:
    network: nn.Module = timm.create_model("test_vit", num_classes=3, dynamic_img_size=True).eval()
    return network


class Encoder(nn.Module):
    """A convolution, then torch's own transformer."""

    def __init__(self, mixer: nn.Module) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 8, 8, stride=8)
        self.mixer = mixer

    def forward(self, images: Tensor) -> Tensor:
        tokens = self.patches(images).flatten(2).transpose(1, 2)
        if isinstance(self.mixer, nn.MultiheadAttention):
            mixed: Tensor = self.mixer(tokens, tokens, tokens)[0]
        else:
            mixed = self.mixer(tokens)
        return mixed.mean(dim=1)


def torch_encoder() -> nn.Module:
    return Encoder(nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)).eval()


def torch_attention() -> nn.Module:
    return Encoder(nn.MultiheadAttention(8, 2, batch_first=True)).eval()


@pytest.mark.parametrize(
    ("make_network", "reason"),
    [
        (Perceptron, "no convolutional feature map of more than one place"),
        (TwoStreams, "it has 2 backbones"),
        (torch_encoder, "goes on with tokens after its last convolutional map"),
        (torch_attention, "goes on with tokens after its last convolutional map"),
        (vision_transformer, "goes on with tokens after its last convolutional map"),
    ],
)
def test_networks_without_a_known_map_are_refused(make_network: Any, reason: str) -> None:
    with pytest.raises(ModelError, match=f"{reason}.*'explained_layer', the module whose output"):
        label_maps(make_network(), pictures(1, 64)[0], [0])
