from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import tiny_explained
from cpsd.errors import ModelError
from cpsd.explain.maps import Maps, Pairs, explanation_method, label_maps, pair_maps
from cpsd.labels import LabelSpace
from cpsd.models.backbones import Backbone
from cpsd.models.classifier import Classifier
from cpsd.models.ensemble import MeanPredictor, TeacherEnsemble
from cpsd.models.heads.linear import LinearHead
from cpsd.models.heads.place_attention import record_place_attention
from cpsd.models.known_labels import ToldPredictor
from cpsd.partition import LabelPartition
from tiny_heads import LABELS, classifier, pictures, use_small_backbones

ALL = range(len(LABELS))
PARTITION = LabelPartition("random", LABELS, ((3, 0), (1, 4, 2)))


def class_activation_maps(network: Any, images: Tensor) -> Tensor:
    """Return what each place adds to each logit (Zhou et al., 2016), ``(B, C, h, w)``."""
    with torch.no_grad():
        features = network.backbone(network.normalization(images))
    weight = next(p for n, p in network.head.named_parameters() if n.endswith("weight"))
    maps = torch.einsum("cd,bdhw->bchw", weight.detach().double(), features.double())
    return torch.div(maps, features.shape[2] * features.shape[3])


def assert_maps(found: Maps, expected: Tensor) -> None:
    assert found.dtype == np.float32
    scale = float(expected.abs().max())
    assert scale > 0
    np.testing.assert_allclose(found, expected.clamp(min=0), atol=1e-4 * scale)


@pytest.mark.parametrize(
    ("backbone", "size", "grid"),
    [
        ("test_resnet", 160, (5, 5)),
        ("test_vit", 96, (6, 6)),
        ("tresnet_m", 128, (4, 4)),
        ("swin_tiny_patch4_window7_224", 224, (7, 7)),
    ],
)
def test_grad_cam_of_a_linear_head_is_what_places_add_to_the_logit(
    backbone: str, size: int, grid: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    use_small_backbones(monkeypatch)
    network = classifier("linear", backbone)
    image = pictures(1, size)
    expected = class_activation_maps(network, image)[0]
    assert expected.shape[1:] == grid
    found = label_maps(network, image[0], [4, 1, 1])
    assert_maps(found, expected[[4, 1, 1]])
    with torch.no_grad():
        logits = network(image)[0].double()
        bias = next(p for n, p in network.head.named_parameters() if n.endswith("bias"))
    torch.testing.assert_close(expected.sum(dim=(1, 2)) + bias.detach(), logits, atol=1e-4, rtol=0)


def test_pairs_are_answered_in_their_order_whatever_the_batch_size() -> None:
    network, images = classifier("linear"), pictures(3, 128)
    expected = class_activation_maps(network, images)
    rows, columns = (2, 0, 0, 1, 2), (0, 4, 1, 3, 3)
    pairs = Pairs(images, rows, columns)
    wanted = expected[list(rows), list(columns)]
    assert (wanted < 0).any()  # what speaks against a label is not shown
    for batch_size in (1, 2, 32):
        assert_maps(pair_maps(network, pairs, batch_size=batch_size), wanted)


class PatchNetwork(nn.Module):
    """Tokens of 16 x 16 pixels in reading order, after two that are of no place."""

    feature_info = ({"reduction": 16, "module": "patches"},)
    pretrained_cfg = {"mean": (0.0,) * 3, "std": (1.0,) * 3}  # noqa: RUF012 - as timm has it
    num_features = 3

    def __init__(self) -> None:
        super().__init__()
        self.feature_info = list(self.feature_info)  # type: ignore[assignment]
        self.patches = nn.Conv2d(3, 3, 16, stride=16, bias=False)
        with torch.no_grad():
            self.patches.weight.zero_()
            for channel in range(3):
                self.patches.weight[channel, channel] = 1.0

    def forward_features(self, images: Tensor) -> Tensor:
        tokens = self.patches(images).flatten(2).transpose(1, 2)
        prefix = torch.full((len(images), 2, 3), 1e4)
        return torch.cat([prefix, tokens], dim=1)


def test_tokens_lie_where_their_pixels_are() -> None:
    backbone = Backbone(PatchNetwork(), name="patches", fixed_size=None)
    head = LinearHead(3, 2, pooling="average")
    with torch.no_grad():
        for parameter in head.parameters():
            parameter.fill_(1.0)
    network = Classifier(backbone, head, normalization=nn.Identity())
    image = torch.zeros(3, 64, 96)
    image[:, 16:32, 64:80] = 0.5
    maps = label_maps(network, image, [1])
    assert maps.shape == (1, 4, 6)
    expected = np.zeros((4, 6))
    expected[1, 4] = 0.5 * 3 * 16 * 16 / 24
    np.testing.assert_allclose(maps[0], expected, rtol=1e-5)


@pytest.mark.parametrize("head", ["transformer", "query", "ml-decoder", "csra", "ctran"])
def test_heads_that_attend_are_explained_by_their_attention(head: str) -> None:
    network, images = classifier(head), pictures(2, 96)
    assert explanation_method(network) == "attention"
    found = pair_maps(network, Pairs(images, (1, 0, 1), (4, 2, 0)), batch_size=1)
    assert found.shape == (3, 3, 3)
    with torch.no_grad(), record_place_attention(network) as maps:
        network(images)
    np.testing.assert_allclose(found, maps[0][[1, 0, 1], [4, 2, 0]], rtol=1e-4, atol=1e-6)
    sums = found.sum(axis=(1, 2))
    if head in ("transformer", "ctran"):  # the rest goes to label tokens
        assert ((sums > 0.2) & (sums < 1)).all()
    else:
        np.testing.assert_allclose(sums, 1, rtol=1e-4)


def test_grad_cam_can_be_asked_of_heads_that_attend() -> None:
    network, image = classifier("query"), pictures(1, 128)[0]
    found = label_maps(network, image, ALL, method="grad-cam")
    assert found.shape == (5, 4, 4)
    assert not np.allclose(found, label_maps(network, image, ALL))


def test_attention_cannot_be_asked_of_heads_without() -> None:
    network, image = classifier("linear"), pictures(1, 128)[0]
    assert explanation_method(network) == "grad-cam"
    with pytest.raises(ModelError, match="no head with attention"):
        label_maps(network, image, [0], method="attention")


@pytest.mark.parametrize("head", ["linear", "query"])
def test_in_an_ensemble_the_teacher_that_has_the_label_answers(head: str) -> None:
    teachers = [classifier(head, labels=PARTITION.part_labels(part)) for part in range(2)]
    ensemble = TeacherEnsemble(PARTITION, teachers)
    images = pictures(2, 128)
    found = pair_maps(ensemble, Pairs(images, (0, 1, 0, 1, 1), (4, 0, 3, 2, 1)))
    wanted = [(0, 1, "eel"), (1, 0, "ant"), (0, 0, "dog"), (1, 1, "cat"), (1, 1, "bee")]
    for map_hw, (row, part, name) in zip(found, wanted, strict=True):
        column = PARTITION.part_labels(part).index(name)
        own = label_maps(teachers[part], images[row], [column])[0]
        np.testing.assert_allclose(map_hw, own, rtol=1e-3, atol=1e-5 * own.max())


def test_teachers_of_several_grids_meet_on_the_finest() -> None:
    partition = LabelPartition("random", tiny_explained.COLOURS, ((1, 2), (0,)))
    teachers = [
        tiny_explained.ColourNetwork(partition.part_labels(part), stride=stride)
        for part, stride in enumerate((8, 4))
    ]
    image = torch.zeros(3, 32, 32)
    image[:2, :8, 8:16] = 1.0  # yellow
    maps = label_maps(TeacherEnsemble(partition, teachers), image, [0, 1])
    assert maps.shape == (2, 8, 8)
    assert (maps[0] > 0).sum() == 4
    assert maps[1, :2, 2:4].min() > maps[1, 4:].max() == 0


def test_the_map_of_a_mean_is_the_mean_of_maps_as_the_logit_is() -> None:
    first, second = classifier("linear"), classifier("linear")
    with torch.no_grad():
        for parameter in second.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape))
    mean = MeanPredictor([first, second], [3, 1])
    image = pictures(1, 128)
    own = [class_activation_maps(network, image)[0] for network in (first, second)]
    assert not torch.allclose(own[0], own[1])
    assert_maps(label_maps(mean, image[0], ALL), 0.75 * own[0] + 0.25 * own[1])


def test_a_mean_is_explained_by_attention_only_if_all_attend() -> None:
    attending, other = classifier("query"), classifier("linear")
    assert explanation_method(MeanPredictor([attending, attending])) == "attention"
    assert explanation_method(MeanPredictor([attending, other])) == "grad-cam"
    maps = label_maps(MeanPredictor([attending, other]), pictures(1, 128)[0], [0])
    assert maps.shape == (1, 4, 4)


def test_what_is_told_is_part_of_the_explanation() -> None:
    network, image = classifier("ctran"), pictures(1, 128)[0]
    told = ToldPredictor(network, LABELS, present=["cat"])
    assert explanation_method(told) == "attention"
    assert not np.allclose(label_maps(told, image, ALL), label_maps(network, image, ALL))
    by_gradient = label_maps(told, image, ALL, method="grad-cam")
    assert by_gradient.shape == (5, 4, 4)


def test_a_predictor_is_left_as_it_was() -> None:
    network = classifier("linear")
    network.train()
    network.backbone.eval()
    network.backbone.requires_grad_(False)
    network.head.requires_grad_(False)
    flags = [module.training for module in network.modules()]
    maps = label_maps(network, pictures(1, 128)[0], ALL)
    assert maps.any()
    assert [module.training for module in network.modules()] == flags
    assert all(parameter.grad is None for parameter in network.parameters())


def test_a_network_of_the_users_own_is_explained_by_its_last_convolution() -> None:
    network = tiny_explained.ColourNetwork(LabelSpace(("blue", "red")))
    image = torch.zeros(3, 20, 24)
    image[0, 8:12, 4:8] = 0.75
    maps = label_maps(network, image, [0, 1])
    expected = np.zeros((2, 5, 6))
    # Before its ReLU, of whose output a module knows nothing; only what is above 0 has a gradient.
    expected[1, 2, 1] = 0.75 / 30 / 30
    np.testing.assert_allclose(maps, expected, atol=1e-7)
