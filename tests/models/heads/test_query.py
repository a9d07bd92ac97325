"""The query head against Query2Label put together from torch's own modules."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from cpsd.errors import ConfigError
from cpsd.labels import LabelSpace
from cpsd.model_config import QueryConfig
from cpsd.models.heads.attention import PostNormLayer
from cpsd.models.heads.positions import sine_positions
from cpsd.models.heads.query import LabelwiseLinear, QueryHead
from cpsd.models.label_information import LabelInformation
from tiny_heads import LABELS, features, information, shake

CONFIG = QueryConfig(width=8, heads=2, feedforward=12)


class Looking(nn.Module):
    """Multi-head attention and a feed-forward network, each normalized after being added."""

    def __init__(self, layer: PostNormLayer, width: int) -> None:
        super().__init__()
        own = layer.attention
        self.attention = nn.MultiheadAttention(width, own.heads, batch_first=True).double()
        three = (own.query, own.key, own.value)
        with torch.no_grad():
            self.attention.in_proj_weight.copy_(torch.cat([linear.weight for linear in three]))
            self.attention.in_proj_bias.copy_(torch.cat([linear.bias for linear in three]))
        self.attention.out_proj.load_state_dict(own.output.state_dict())
        hidden = len(layer.get_parameter("feedforward.0.bias"))
        self.first = nn.Linear(width, hidden).double()
        self.second = nn.Linear(hidden, width).double()
        self.norm1, self.norm2 = nn.LayerNorm(width).double(), nn.LayerNorm(width).double()
        for mine, theirs in (
            (self.first, layer.feedforward[0]),
            (self.second, layer.feedforward[3]),
            (self.norm1, layer.attention_norm),
            (self.norm2, layer.feedforward_norm),
        ):
            mine.load_state_dict(theirs.state_dict())

    def forward(self, tokens: Tensor, places: Tensor, source: Tensor, where: Tensor) -> Tensor:
        attended, _ = self.attention(tokens + places, source + where, source)
        tokens = self.norm1(tokens + attended)
        looked: Tensor = self.norm2(tokens + self.second(torch.relu(self.first(tokens))))
        return looked


def put_together(head: QueryHead, queries_CD: Tensor, features_BDHW: Tensor) -> Tensor:
    """Return the logits of Query2Label with the weights of ``head``."""
    batch, _, height, width = features_BDHW.shape
    size = head.norm.normalized_shape[0]
    rows = [features_BDHW[:, :, y, x] for y in range(height) for x in range(width)]
    image = head.image_projection(torch.stack(rows, dim=1))
    where = sine_positions(height, width, size, like=image)
    for layer in head.encoder:
        assert isinstance(layer, PostNormLayer)
        image = Looking(layer, size)(image, where, image, where)
    tokens = torch.zeros(batch, len(queries_CD), size, dtype=torch.float64)
    for layer in head.decoder:
        assert isinstance(layer, PostNormLayer)
        tokens = Looking(layer, size)(tokens, queries_CD, image, where)
    tokens = head.norm(tokens)
    linear = head.classifier
    return torch.stack(
        [tokens[:, c] @ linear.weight[c] + linear.bias[c] for c in range(len(queries_CD))], dim=1
    )


@pytest.mark.parametrize(("encoder", "decoder"), [(1, 2), (0, 1), (2, 3)])
def test_query_head_is_query2label(encoder: int, decoder: int) -> None:
    config = replace(CONFIG, encoder_layers=encoder, decoder_layers=decoder)
    head = QueryHead(5, information(), config)
    shake(head)
    assert (len(head.encoder), len(head.decoder)) == (encoder, decoder)
    features_BDHW = features(3, 5, 2, 4)
    expected = put_together(head, head.queries(), features_BDHW)
    torch.testing.assert_close(head(features_BDHW), expected)


def test_given_embeddings_become_queries_by_a_linear_layer() -> None:
    known = information(given=True)
    head = QueryHead(5, known, CONFIG)
    shake(head)
    assert known.embeddings is not None
    projection = head.get_submodule("queries.projection")
    assert isinstance(projection, nn.Linear)
    queries = torch.tensor(known.embeddings).double() @ projection.weight.T + projection.bias
    features_BDHW = features(2, 5, 2, 2)
    expected = put_together(head, queries, features_BDHW)
    torch.testing.assert_close(head(features_BDHW), expected)
    learned = {name for name, _ in head.named_parameters() if name.startswith("queries")}
    assert learned == {"queries.projection.weight", "queries.projection.bias"}


def test_places_are_told_apart() -> None:
    # Without positions, attention over a set of places would not see where they are.
    head = QueryHead(5, information(), CONFIG)
    shake(head)
    features_BDHW = features(1, 5, 3, 3)
    assert not torch.allclose(head(features_BDHW), head(features_BDHW.flip(-1)), atol=1e-4)


def test_each_label_has_a_weight_vector_of_its_own() -> None:
    linear = LabelwiseLinear(3, 4)
    tokens = torch.randn(2, 3, 4)
    changed = tokens.clone()
    changed[:, 1] += 1
    difference = linear(changed) - linear(tokens)
    assert difference[:, [0, 2]].abs().max() == 0
    assert difference[:, 1].abs().min() > 0


def test_published_parameter_count() -> None:
    labels = LabelSpace(tuple(f"label {i}" for i in range(80)))
    with torch.device("meta"):
        head = QueryHead(2048, LabelInformation(labels), QueryConfig())
    # Those of Q2L-R101 less those of ResNet-101 without its classifier.
    assert sum(p.numel() for p in head.parameters()) == 198_103_184 - 42_500_160


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"width": 10, "heads": 4}, r"query\.width is 10.*multiple of query\.heads \(4\)"),
        ({"width": 6, "heads": 2}, r"query\.width is 6.*a multiple of 4"),
        ({"heads": 0}, r"query\.heads is 0"),
        ({"decoder_layers": 0}, r"query\.decoder_layers is 0"),
        ({"encoder_layers": -1}, r"query\.encoder_layers is -1"),
        ({"dropout": 1.0}, r"query\.dropout is 1\.0"),
        ({"feedforward": 0}, r"query\.feedforward is 0"),
    ],
)
def test_settings_that_do_not_fit_are_refused(changes: dict[str, float], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        replace(QueryConfig(), **changes)  # type: ignore[arg-type]


def test_one_label_is_enough() -> None:
    alone = information().restricted_to(LABELS.select([3]))
    assert QueryHead(5, alone, CONFIG)(features(2, 5, 1, 1).float()).shape == (2, 1)
