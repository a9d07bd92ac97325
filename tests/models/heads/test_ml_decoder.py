"""The head 'ml-decoder' against timm's."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from timm.layers.ml_decoder import MLDecoder
from torch import nn

from cpsd.errors import ConfigError
from cpsd.model_config import MLDecoderConfig
from cpsd.models.heads.ml_decoder import MLDecoderHead
from tiny_heads import features, shake

untyped_ml_decoder: Any = MLDecoder


def timms(num_labels: int, groups: int, *, width: int, num_features: int) -> nn.Module:
    """Return timm's head in float64; its depth is 1, its feed-forward width 2048, its heads 8."""
    head = untyped_ml_decoder(
        num_labels,
        num_of_groups=groups,
        decoder_embedding=width,
        initial_num_features=num_features,
    )
    # torch's TransformerDecoder hands on arguments that timm's own layer does not know.
    head.decoder = head.decoder.layers[0]
    network: nn.Module = head.double().eval()
    return network


def copied(head: MLDecoderHead) -> dict[str, torch.Tensor]:
    """Return the weights of ``head`` under timm's names."""
    attention, decoder = head.decoder.attention, head.decoder
    projections = (attention.query, attention.key, attention.value)
    linear = {
        "embed_standart": head.image_projection[0],
        "decoder.norm1": head.query_norm,
        "decoder.norm2": decoder.attention_norm,
        "decoder.norm3": decoder.feedforward_norm,
        "decoder.linear1": decoder.feedforward[0],
        "decoder.linear2": decoder.feedforward[3],
        "decoder.multihead_attn.out_proj": attention.output,
    }
    return {
        **{
            f"{theirs}.{kind}": ours.get_parameter(kind)
            for theirs, ours in linear.items()
            for kind in ("weight", "bias")
        },
        "decoder.multihead_attn.in_proj_weight": torch.cat([p.weight for p in projections]),
        "decoder.multihead_attn.in_proj_bias": torch.cat([p.bias for p in projections]),
        "query_embed.weight": head.queries,
        "duplicate_pooling": head.weight,
        "duplicate_pooling_bias": head.bias,
    }


@pytest.mark.parametrize(
    ("num_labels", "groups"),
    [
        (6, 3),
        # groups of 3, the last of which has one label
        (10, 4),
        # groups of 2, of which only three serve a label
        (6, 5),
        # fewer labels than groups
        (3, 100),
        (1, 4),
        (1000, 100),
        (1000, 7),
    ],
)
def test_logits_are_those_of_timms_ml_decoder(num_labels: int, groups: int) -> None:
    head = MLDecoderHead(5, num_labels, MLDecoderConfig(width=16, groups=groups))
    shake(head)
    oracle = timms(num_labels, groups, width=16, num_features=5)
    oracle.load_state_dict(copied(head))
    features_BDHW = features(2, 5, 2, 3)
    found = head(features_BDHW)
    assert found.shape == (2, num_labels)
    torch.testing.assert_close(found, oracle(features_BDHW))


@pytest.mark.parametrize("num_labels", [1, 80, 150, 5000])
def test_shapes_and_parameters_are_those_of_timms_with_published_settings(num_labels: int) -> None:
    with torch.device("meta"):
        head = MLDecoderHead(2048, num_labels, MLDecoderConfig())
        oracle = untyped_ml_decoder(num_labels)
    found = sorted(tuple(p.shape) for p in copied(head).values())
    assert found == sorted(tuple(p.shape) for p in oracle.parameters())


def test_published_queries_stay_as_they_are_drawn_unless_learned() -> None:
    fixed = MLDecoderConfig(width=16, groups=3)
    for config, is_learned in ((fixed, False), (replace(fixed, queries="learned"), True)):
        head = MLDecoderHead(5, 4, config)
        assert head.queries.requires_grad == is_learned
        head(features(2, 5, 2, 2).float()).sum().backward()
        assert (head.queries.grad is not None) == is_learned
        assert "queries" in head.state_dict()


def test_parameters_hardly_grow_with_the_labels() -> None:
    with torch.device("meta"):
        few, many = (MLDecoderHead(2048, n, MLDecoderConfig()) for n in (80, 9600))
    learned = [sum(p.numel() for p in h.parameters() if p.requires_grad) for h in (few, many)]
    assert round(learned[0] / 1e6, 1) == 7.2
    # A weight vector and a bias a label, and nothing else but padding to whole groups.
    assert learned[1] - learned[0] == (9600 - 80) * (768 + 1)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"groups": 0}, r"ml_decoder\.groups is 0; it must be at least 1"),
        ({"queries": "free"}, r"ml_decoder\.queries is 'free'; it must be 'fixed' or 'learned'"),
        ({"width": 12}, r"ml_decoder\.width is 12; it must be a positive multiple .*\(8\)"),
        ({"dropout": -0.1}, r"ml_decoder\.dropout is -0\.1"),
    ],
)
def test_settings_that_do_not_fit_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        replace(MLDecoderConfig(), **changes)
