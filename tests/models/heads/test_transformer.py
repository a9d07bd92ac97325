"""The head of ResNet101+TF against the same composition, written out."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import gelu, layer_norm, linear

from cpsd.errors import ConfigError
from cpsd.labels import LabelSpace
from cpsd.model_config import TransformerConfig
from cpsd.models.heads.transformer import TransformerHead
from cpsd.models.label_information import LabelInformation
from tiny_heads import LABELS, features, information, shake

CONFIG = TransformerConfig(width=8, layers=2, heads=2, head_width=6, feedforward=12)


def block(tokens: Tensor, weights: dict[str, Tensor], *, heads: int, head_width: int) -> Tensor:
    """Return one image's tokens after one pre-norm block."""

    def normed(name: str) -> Tensor:
        scale, shift = weights[f"{name}.weight"], weights[f"{name}.bias"]
        return layer_norm(tokens, tokens.shape[-1:], scale, shift)

    seen, mixed = normed("attention_norm"), []
    for head in range(heads):
        rows = slice(head * head_width, (head + 1) * head_width)
        query, key, value = (
            seen @ weights[f"attention.{name}.weight"][rows].T for name in ("query", "key", "value")
        )
        mixed.append((query @ key.T / math.sqrt(head_width)).softmax(dim=-1) @ value)
    output = (weights["attention.output.weight"], weights["attention.output.bias"])
    tokens = tokens + linear(torch.cat(mixed, dim=-1), *output)
    first = (weights["feedforward.1.weight"], weights["feedforward.1.bias"])
    second = (weights["feedforward.4.weight"], weights["feedforward.4.bias"])
    return tokens + linear(gelu(linear(normed("feedforward.0"), *first)), *second)


@pytest.mark.parametrize("given", [False, True])
def test_transformer_head_is_the_published_composition(given: bool) -> None:
    head = TransformerHead(5, information(given=given), CONFIG)
    shake(head)
    features_BDHW = features(2, 5, 2, 3)
    logits = head(features_BDHW)
    labels = torch.relu(head.label_projection[0](head.label_embeddings()))
    for image, map_DHW in enumerate(features_BDHW):
        places = [map_DHW[:, y, x] for y in range(2) for x in range(3)]
        tokens = torch.cat([head.image_projection(torch.stack(places)), labels])
        for layer in head.layers:
            tokens = block(tokens, dict(layer.named_parameters()), heads=2, head_width=6)
        scores = tokens[6:] @ head.classifier.weight[0] + head.classifier.bias
        torch.testing.assert_close(logits[image], scores)


def test_given_embeddings_are_not_learned_but_saved() -> None:
    head = TransformerHead(5, information(given=True), CONFIG)
    assert not any(name.startswith("label_embeddings") for name, _ in head.named_parameters())
    assert "label_embeddings.values" in head.state_dict()
    learned = TransformerHead(5, information(), CONFIG)
    assert learned.get_parameter("label_embeddings.values").requires_grad


def test_all_labels_share_one_classifier() -> None:
    sizes = [
        sum(p.numel() for p in TransformerHead(5, known, CONFIG).parameters())
        for known in (
            information(given=True),
            information(given=True).restricted_to(LABELS.select([0])),
        )
    ]
    assert sizes[0] == sizes[1]


def test_published_parameter_count() -> None:
    labels = LabelSpace(tuple(f"label {i}" for i in range(80)))
    with torch.device("meta"):
        head = TransformerHead(2048, LabelInformation(labels), TransformerConfig())
    # The published network is handed its embeddings; ours learns them unless they are given.
    learned_embeddings = 80 * 300
    found = sum(p.numel() for p in head.parameters()) - learned_embeddings
    assert found == 101_552_193 - 42_500_160


@pytest.mark.parametrize("key", ["width", "layers", "heads", "head_width", "feedforward"])
def test_settings_that_do_not_fit_are_refused(key: str) -> None:
    changes: dict[str, Any] = {key: 0}
    with pytest.raises(ConfigError, match=rf"model\.transformer\.{key} is 0"):
        TransformerConfig(**changes)
