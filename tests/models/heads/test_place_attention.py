"""Where labels look: maps of the ordinary forward pass, and no trace of having looked."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import cpsd
from cpsd.errors import ModelError
from cpsd.model_config import CSRAConfig, MLDecoderConfig, QueryConfig
from cpsd.models.classifier import Classifier
from cpsd.models.ensemble import TeacherEnsemble
from cpsd.models.heads.attention import Attention
from cpsd.models.heads.csra import CSRAHead
from cpsd.models.heads.ml_decoder import MLDecoderHead
from cpsd.models.heads.place_attention import record_place_attention
from cpsd.models.heads.query import QueryHead
from cpsd.models.known_labels import ToldPredictor
from cpsd.partition import LabelPartition
from tiny_heads import LABELS, classifier, features, information, pictures

ATTENDING = ("transformer", "query", "ml-decoder", "csra", "ctran")
PLANTED = ((0, 3), (2, 1), (1, 0))
"""A row and a column a picture."""


def on_a_map(head: nn.Module) -> Classifier:
    """Return a classifier whose pictures are feature maps already."""
    return Classifier(nn.Identity(), head, normalization=nn.Identity()).eval()


@pytest.mark.parametrize("head", ATTENDING)
@pytest.mark.parametrize("backbone", ["test_resnet", "test_vit"])
def test_maps_are_shares_of_attention_and_logits_stay_the_same(head: str, backbone: str) -> None:
    network = classifier(head, backbone)
    images = pictures(2)[:, :, :32, :]  # not square
    with torch.no_grad():
        plain = network(images)
        with record_place_attention(network) as maps:
            assert torch.equal(network(images), plain)
            network(images[:1])
    assert [tuple(found.shape[:2]) for found in maps] == [(2, 5), (1, 5)]
    with torch.no_grad():
        grid = network.backbone(images).shape[-2:]
    assert maps[0].shape[2:] == grid
    torch.testing.assert_close(maps[0][:1], maps[1])
    total = maps[0].sum(dim=(2, 3))
    assert maps[0].min() >= 0
    if head in ("transformer", "ctran"):
        # Labels look at each other too.
        assert (total > 0).all()
        assert (total < 1).all()
    else:
        torch.testing.assert_close(total, torch.ones(2, 5))


@pytest.mark.parametrize("heads", [1, 2, 4, 6, 8])
def test_maps_of_every_csra_head_sum_to_1(heads: Any) -> None:
    network = classifier("csra", csra=CSRAConfig(heads=heads))
    with torch.no_grad(), record_place_attention(network) as maps:
        network(pictures(2, 128))
    torch.testing.assert_close(maps[0].sum(dim=(2, 3)), torch.ones(2, 5))


@pytest.mark.parametrize("head", ATTENDING)
def test_nothing_is_left_behind(head: str) -> None:
    network = classifier(head)

    def traces() -> tuple[int, int]:
        hooks = sum(len(module._forward_hooks) for module in network.modules())
        observers = sum(
            getattr(module, "observer", None) is not None for module in network.modules()
        )
        return hooks, observers

    with record_place_attention(network):
        assert traces() == (1, 1)
    assert traces() == (0, 0)
    with pytest.raises(RuntimeError, match="of the network"), record_place_attention(network):
        raise RuntimeError("of the network")
    assert traces() == (0, 0)
    with record_place_attention(network) as maps:
        pass
    network(pictures())
    assert maps == []


def test_maps_carry_no_gradient_and_training_is_as_without_them() -> None:
    network = classifier("query").train()
    gradients = []
    for recording in (False, True):
        network.zero_grad()
        torch.manual_seed(0)
        if recording:
            with record_place_attention(network) as maps:
                network(pictures()).sum().backward()
            assert not maps[0].requires_grad
        else:
            network(pictures()).sum().backward()
        gradients.append(network.get_parameter("head.classifier.weight").grad)
    assert torch.equal(*gradients)  # type: ignore[arg-type]


def look_for_the_first_channel(attention: Attention) -> None:
    """Let every query of ``attention`` prefer the place whose first channel is largest."""
    inner = attention.query.out_features // attention.heads
    with torch.no_grad():
        for projection in (attention.query, attention.key):
            projection.weight.zero_()
            projection.bias.zero_()
        for head in range(attention.heads):
            attention.query.bias[head * inner] = 10.0
            attention.key.weight[head * inner, 0] = 1.0


def planted_features(num_features: int) -> Tensor:
    """Return maps of 3 x 4 places in which one place has a large first channel."""
    features_BDHW = features(len(PLANTED), num_features, 3, 4).float().abs()
    for image, (row, column) in enumerate(PLANTED):
        features_BDHW[image, 0, row, column] = 40.0
    return features_BDHW


def query_head() -> nn.Module:
    config = QueryConfig(width=8, heads=2, feedforward=12, encoder_layers=0, decoder_layers=2)
    head = QueryHead(8, information(), config)
    nn.init.eye_(head.image_projection.weight)
    nn.init.zeros_(head.image_projection.bias)
    look_for_the_first_channel(head.place_attention)
    return head


def ml_decoder_head() -> nn.Module:
    config = MLDecoderConfig(width=8, groups=2, heads=2, feedforward=12)
    head = MLDecoderHead(8, 5, config)
    projection = head.image_projection[0]
    assert isinstance(projection, nn.Linear)
    nn.init.eye_(projection.weight)
    nn.init.zeros_(projection.bias)
    look_for_the_first_channel(head.place_attention)
    return head


def csra_head() -> nn.Module:
    head = CSRAHead(8, 5, CSRAConfig())
    with torch.no_grad():
        head.classifier.weight.zero_()
        head.classifier.weight[:, 0] = 1.0
    return head


@pytest.mark.parametrize("make_head", [query_head, ml_decoder_head, csra_head])
def test_labels_look_at_the_planted_place(make_head: Any) -> None:
    network = on_a_map(make_head())
    with torch.no_grad(), record_place_attention(network) as maps:
        network(planted_features(8))
    assert maps[0].shape == (3, 5, 3, 4)
    for image, (row, column) in enumerate(PLANTED):
        assert maps[0][image, :, row, column].min() > 0.99


def test_a_label_of_ml_decoder_has_the_map_of_its_group() -> None:
    head = MLDecoderHead(8, 5, MLDecoderConfig(width=8, groups=2, heads=2, feedforward=12))
    weights_BAGN = torch.rand(3, 2, 2, 6)
    found = head.label_maps(weights_BAGN, 6)
    for label, group in enumerate((0, 0, 0, 1, 1)):
        expected = (weights_BAGN[:, 0, group] + weights_BAGN[:, 1, group]) / 2
        torch.testing.assert_close(found[:, label], expected)


@pytest.mark.parametrize("name", ["transformer", "ctran"])
def test_label_tokens_come_after_those_of_places(name: str) -> None:
    head: Any = classifier(name).head
    weights_BAKK = torch.rand(3, 2, 6 + 5, 6 + 5)
    found = head.label_maps(weights_BAKK, 6)
    for label in range(5):
        expected = (weights_BAKK[:, 0, 6 + label, :6] + weights_BAKK[:, 1, 6 + label, :6]) / 2
        torch.testing.assert_close(found[:, label], expected)


def test_what_is_told_can_be_recorded_too() -> None:
    predictor = ToldPredictor(classifier("ctran"), LABELS, present=["cat"])
    with torch.no_grad(), record_place_attention(predictor) as maps:
        predictor(pictures())
    assert maps[0].shape[:2] == (2, 5)


@pytest.mark.parametrize("head", ["linear", "gcn"])
def test_heads_without_attention_are_refused(head: str) -> None:
    network = classifier(head)
    with (
        pytest.raises(ModelError, match=r"has no head with attention .*transformer, ctran"),
        record_place_attention(network),
    ):
        pass


def test_several_heads_are_refused() -> None:
    partition = LabelPartition("random", LABELS, ((0, 1), (2, 3, 4)))
    teachers = [classifier("query", labels=partition.part_labels(part)) for part in range(2)]
    ensemble = TeacherEnsemble(partition, teachers)
    with pytest.raises(ModelError, match="has 2 heads"), record_place_attention(ensemble):
        pass
    with record_place_attention(ensemble.teachers[1]) as maps:
        ensemble(pictures())
    assert maps[0].shape[:2] == (2, 3)


def test_it_is_part_of_the_packages_front() -> None:
    assert cpsd.record_place_attention is record_place_attention
