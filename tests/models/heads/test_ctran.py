"""The head 'ctran' against torch's encoder layers, and what training tells it."""

import math
from dataclasses import replace
from fractions import Fraction
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from cpsd.errors import ConfigError
from cpsd.labels import LabelSpace
from cpsd.model_config import CTranConfig
from cpsd.models.heads.attention import PostNormLayer
from cpsd.models.heads.ctran import CTranHead
from cpsd.models.label_information import LabelInformation
from tiny_heads import features, information, shake

CONFIG = CTranConfig(width=8, layers=2, heads=2, feedforward=12)
NOTHING = torch.full((2, 5), -1)
SOME = torch.tensor([[1, -1, 0, -1, -1], [-1, 0, -1, 1, 1]])


def encoder_layer(layer: PostNormLayer) -> nn.TransformerEncoderLayer:
    """Return torch's encoder layer with the same weights."""
    own = layer.attention
    three = (own.query, own.key, own.value)
    state = {
        "self_attn.in_proj_weight": torch.cat([linear.weight for linear in three]),
        "self_attn.in_proj_bias": torch.cat([linear.bias for linear in three]),
    }
    for theirs, ours in {
        "self_attn.out_proj": "attention.output",
        "norm1": "attention_norm",
        "norm2": "feedforward_norm",
        "linear1": "feedforward.0",
        "linear2": "feedforward.3",
    }.items():
        for kind in ("weight", "bias"):
            state[f"{theirs}.{kind}"] = layer.get_parameter(f"{ours}.{kind}")
    oracle = nn.TransformerEncoderLayer(8, 2, 12, dropout=0.0, batch_first=True).double()
    oracle.load_state_dict(state)
    return oracle


@pytest.mark.parametrize("known_BC", [None, NOTHING, SOME])
@pytest.mark.parametrize(("num_features", "given"), [(5, False), (8, True)])
def test_ctran_head_is_the_papers_composition(
    known_BC: Tensor | None, num_features: int, given: bool
) -> None:
    head = CTranHead(num_features, information(given=given), CONFIG)
    shake(head)
    features_BDHW = features(2, num_features, 2, 3)
    logits = head(features_BDHW, *(() if known_BC is None else (known_BC,)))
    absent, present = head.states
    states = {-1: torch.zeros(8, dtype=torch.float64), 0: absent, 1: present}
    vectors = head.label_embeddings()
    for image, map_DHW in enumerate(features_BDHW):
        places = torch.stack([map_DHW[:, y, x] for y in range(2) for x in range(3)])
        places = head.image_projection(places)
        known = [-1] * 5 if known_BC is None else known_BC[image].tolist()
        labels = torch.stack([vectors[c] + states[known[c]] for c in range(5)])
        tokens = head.norm(torch.cat([places, labels]))[None]
        for layer in head.layers:
            assert isinstance(layer, PostNormLayer)
            tokens = encoder_layer(layer)(tokens)
        linear = head.classifier
        expected = [tokens[0, 6 + c] @ linear.weight[c] + linear.bias[c] for c in range(5)]
        torch.testing.assert_close(logits[image], torch.stack(expected))


def test_only_other_widths_are_projected() -> None:
    # C-Tran's own width is that of ResNet-101's features, which it takes as they are.
    assert isinstance(CTranHead(8, information(), CONFIG).image_projection, nn.Identity)
    assert isinstance(CTranHead(5, information(), CONFIG).image_projection, nn.Linear)


def test_unknown_is_as_good_as_not_told() -> None:
    head = shake(CTranHead(5, information(), CONFIG))
    features_BDHW = features(2, 5, 2, 3)
    assert torch.equal(head(features_BDHW, NOTHING), head(features_BDHW))


def test_what_is_told_changes_the_logits_of_its_own_picture_only() -> None:
    head = shake(CTranHead(5, information(), CONFIG))
    features_BDHW = features(2, 5, 2, 3)
    known_BC = NOTHING.clone()
    plain = head(features_BDHW, known_BC)
    logits = {}
    for state in (0, 1):
        known_BC[1, 2] = state
        logits[state] = head(features_BDHW, known_BC)
        assert torch.equal(logits[state][0], plain[0])
        # Other labels of the picture hear of it through attention.
        assert (logits[state][1] - plain[1]).abs().min() > 1e-6
    assert not torch.allclose(logits[0], logits[1])


@pytest.mark.parametrize("dtype", [torch.int8, torch.int64])
def test_states_learn_where_labels_are_told(dtype: torch.dtype) -> None:
    head = CTranHead(5, information(), CONFIG)
    features_BDHW = features(2, 5, 2, 3).float()
    head(features_BDHW).sum().backward()
    assert head.states.grad is None
    known_BC = NOTHING.clone()
    known_BC[0, 0] = 1
    head(features_BDHW, known_BC.to(dtype)).square().sum().backward()
    assert head.states.grad is not None
    assert head.states.grad[1].abs().sum() > 0
    assert head.states.grad[0].abs().sum() == 0


@pytest.mark.parametrize(
    ("num_labels", "least_hidden"), [(1, 0.25), (3, 0.25), (20, 0.25), (10, 0.7), (7, 1.0)]
)
def test_reveal_hides_between_the_least_and_all(num_labels: int, least_hidden: float) -> None:
    labels = LabelSpace(tuple(f"label {i}" for i in range(num_labels)))
    config = replace(CONFIG, least_hidden=least_hidden)
    head = CTranHead(5, LabelInformation(labels, embedding_width=6), config)
    torch.manual_seed(0)
    targets_BC = torch.randint(0, 2, (4000, num_labels), dtype=torch.int8)
    told_BC = head.reveal(targets_BC)
    hidden_BC = told_BC == -1
    assert told_BC.dtype == torch.int8
    assert torch.equal(told_BC[~hidden_BC], targets_BC[~hidden_BC])
    counts = hidden_BC.sum(dim=1)
    least = math.ceil(Fraction(str(least_hidden)) * num_labels)
    assert set(counts.tolist()) == set(range(least, num_labels + 1))
    assert counts.min() >= 1
    # Every label is hidden about as often as any other.
    shares = hidden_BC.double().mean(dim=0)
    assert (shares - shares.mean()).abs().max() < 0.04


def test_what_is_not_known_is_never_told() -> None:
    head = CTranHead(5, information(), CONFIG)
    targets_BC = torch.randint(-1, 2, (500, 5), dtype=torch.int8)
    told_BC = head.reveal(targets_BC)
    assert (told_BC[targets_BC == -1] == -1).all()
    assert (told_BC != -1).any()


def test_reveal_depends_on_torchs_generator_alone() -> None:
    head = CTranHead(5, information(), CONFIG)
    targets_BC = torch.ones(9, 5, dtype=torch.int8)
    told = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        told.append(head.reveal(targets_BC))
    assert torch.equal(told[0], told[1])
    assert not torch.equal(told[0], told[2])


def test_published_parameter_count() -> None:
    labels = LabelSpace(tuple(f"label {i}" for i in range(80)))
    with torch.device("meta"):
        head = CTranHead(2048, LabelInformation(labels), CTranConfig())
    width = 2048
    layer = 4 * (width * width + width) + 2 * (width * width + width) + 2 * 2 * width
    tokens = 80 * width + 2 * width + 2 * width
    expected = 3 * layer + tokens + 80 * (width + 1)
    assert sum(p.numel() for p in head.parameters()) == expected
    assert round(expected / 1e6, 1) == 75.9


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"least_hidden": 0.0}, r"ctran\.least_hidden is 0\.0; it must be greater than 0"),
        ({"least_hidden": 1.5}, r"ctran\.least_hidden is 1\.5"),
        ({"layers": 0}, r"ctran\.layers is 0"),
        ({"width": 10}, r"ctran\.width is 10; it must be a positive multiple .*\(4\)"),
    ],
)
def test_settings_that_do_not_fit_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        replace(CTranConfig(), **changes)
