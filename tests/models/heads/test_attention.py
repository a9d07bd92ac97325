"""Attention and transformer layers against torch's own and against loops in float64."""

import math

import pytest
import torch
from torch import Tensor, nn

from cpsd.models.heads.attention import Attention, PostNormLayer, PreNormLayer, as_tokens
from tiny_heads import features, shake


def multihead(attention: Attention, width: int) -> nn.MultiheadAttention:
    """Return torch's attention with the same weights."""
    oracle = nn.MultiheadAttention(width, attention.heads, batch_first=True).double().eval()
    projections = (attention.query, attention.key, attention.value)
    oracle.load_state_dict(
        {
            "in_proj_weight": torch.cat([projection.weight for projection in projections]),
            "in_proj_bias": torch.cat([projection.bias for projection in projections]),
            "out_proj.weight": attention.output.weight,
            "out_proj.bias": attention.output.bias,
        }
    )
    return oracle


@pytest.mark.parametrize("heads", [1, 2, 4])
def test_attention_is_torchs_multihead_attention(heads: int) -> None:
    attention = Attention(8, heads)
    shake(attention)
    queries, keys, values = features(3, 5, 8), features(3, 7, 8, seed=8), features(3, 7, 8, seed=9)
    seen: list[Tensor] = []
    attention.observer = seen.append
    expected, weights = multihead(attention, 8)(queries, keys, values, average_attn_weights=False)
    torch.testing.assert_close(attention(queries, keys, values), expected)
    torch.testing.assert_close(seen[0], weights)


def test_gradients_are_those_of_torchs_multihead_attention() -> None:
    attention = Attention(8, 2)
    shake(attention)
    oracle = multihead(attention, 8)
    tokens, source = features(2, 3, 8), features(2, 4, 8, seed=8)
    attention(tokens, source, source).square().sum().backward()
    oracle(tokens, source, source)[0].square().sum().backward()
    together = torch.cat(
        [p.weight.grad for p in (attention.query, attention.key, attention.value)]  # type: ignore[misc]
    )
    torch.testing.assert_close(together, oracle.in_proj_weight.grad)
    torch.testing.assert_close(attention.output.bias.grad, oracle.out_proj.bias.grad)


def test_published_parameter_shapes() -> None:
    # ResNet101+TF: four heads, each as wide as a token, without bias before them.
    attention = Attention(8, 4, head_width=8, projection_bias=False)
    shapes = {name: tuple(p.shape) for name, p in attention.named_parameters()}
    inner = {f"{name}.weight": (32, 8) for name in ("query", "key", "value")}
    assert shapes == {**inner, "output.weight": (8, 32), "output.bias": (8,)}


def test_dropout_is_of_training_alone_and_an_observer_changes_nothing() -> None:
    attention = Attention(8, 2, dropout=0.5)
    tokens = features(2, 6, 8).float()
    plain = attention.eval()(tokens, tokens, tokens)
    assert torch.equal(plain, attention(tokens, tokens, tokens))
    attention.train()
    outputs, seen = [], list[Tensor]()
    for observer in (None, seen.append):
        attention.observer = observer
        torch.manual_seed(0)
        outputs.append(attention(tokens, tokens, tokens))
    assert torch.equal(*outputs)
    assert not torch.allclose(outputs[0], plain)


def test_post_norm_layer_is_torchs_encoder_layer() -> None:
    layer = PostNormLayer(8, heads=2, feedforward=12, dropout=0.0)
    shake(layer)
    oracle = nn.TransformerEncoderLayer(8, 2, 12, dropout=0.0, batch_first=True).double()
    attention = multihead(layer.attention, 8).state_dict()
    oracle.load_state_dict(
        {
            **{f"self_attn.{key}": value for key, value in attention.items()},
            **{
                f"{theirs}.{kind}": layer.get_parameter(f"{ours}.{kind}")
                for theirs, ours in {
                    "norm1": "attention_norm",
                    "norm2": "feedforward_norm",
                    "linear1": "feedforward.0",
                    "linear2": "feedforward.3",
                }.items()
                for kind in ("weight", "bias")
            },
        }
    )
    tokens = features(3, 6, 8)
    # In training mode, where torch has no faster second path; nothing is dropped.
    torch.testing.assert_close(layer(tokens, tokens), oracle.train()(tokens))


def test_positions_reach_queries_and_keys_but_not_values() -> None:
    layer = PostNormLayer(8, heads=2, feedforward=12, dropout=0.0)
    shake(layer)
    tokens, source = features(2, 3, 8), features(2, 5, 8, seed=8)
    positions, places = features(3, 8, seed=9), features(5, 8, seed=10)
    attended, _ = multihead(layer.attention, 8)(tokens + positions, source + places, source)
    expected = layer.attention_norm(tokens + attended)
    expected = layer.feedforward_norm(expected + layer.feedforward(expected))
    found = layer(tokens, source, positions=positions, source_positions=places)
    torch.testing.assert_close(found, expected)


def norm(row: Tensor, layer: nn.LayerNorm) -> Tensor:
    """Return one token normalized, written out."""
    mean = sum(row.tolist()) / len(row)
    variance = sum((value - mean) ** 2 for value in row.tolist()) / len(row)
    normed: Tensor = (row - mean) / math.sqrt(variance + 1e-5) * layer.weight + layer.bias
    return normed


def attended(attention: Attention, tokens: Tensor, *, head_width: int) -> Tensor:
    """Return self-attention of one image's normalized tokens, place by place."""
    outputs = []
    for query in tokens:
        mixed = []
        for head in range(attention.heads):
            rows = slice(head * head_width, (head + 1) * head_width)
            asked = attention.query.weight[rows] @ query
            scores = [
                math.exp(float(asked @ (attention.key.weight[rows] @ key)) / math.sqrt(head_width))
                for key in tokens
            ]
            values = [attention.value.weight[rows] @ key for key in tokens]
            shares = [score / sum(scores) for score in scores]
            mixed += [sum(s * v for s, v in zip(shares, values, strict=True))]
        outputs.append(attention.output.weight @ torch.cat(mixed) + attention.output.bias)
    return torch.stack(outputs)


@torch.no_grad()
def test_pre_norm_layer_is_the_formula() -> None:
    layer = PreNormLayer(6, heads=2, head_width=5, feedforward=9, dropout=0.1)
    shake(layer)
    tokens_BKD = features(2, 4, 6)
    found = layer(tokens_BKD)
    first_norm, inner, _, _, outer = layer.feedforward
    assert isinstance(first_norm, nn.LayerNorm)
    assert isinstance(inner, nn.Linear)
    assert isinstance(outer, nn.Linear)
    for image, tokens in enumerate(tokens_BKD):
        normed = torch.stack([norm(token, layer.attention_norm) for token in tokens])
        tokens = tokens + attended(layer.attention, normed, head_width=5)
        for place, token in enumerate(tokens):
            hidden = inner.weight @ norm(token, first_norm) + inner.bias
            gelu = [x * (1 + math.erf(x / math.sqrt(2))) / 2 for x in hidden.tolist()]
            expected = token + outer.weight @ torch.tensor(gelu, dtype=torch.float64) + outer.bias
            torch.testing.assert_close(found[image, place], expected)


def test_tokens_are_the_places_row_by_row() -> None:
    features_BDHW = features(2, 3, 4, 5)
    tokens = as_tokens(features_BDHW)
    for row in range(4):
        for column in range(5):
            assert torch.equal(tokens[:, row * 5 + column], features_BDHW[:, :, row, column])
