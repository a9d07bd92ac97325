"""Head 'query': label queries that look at image tokens.

Shapes: B images, D channels, H' x W' places, C labels, A attention heads.
"""

import torch
from torch import Tensor, nn

from cpsd.model_config import QueryConfig
from cpsd.models.heads.attention import Attention, PostNormLayer, as_tokens
from cpsd.models.heads.positions import sine_positions
from cpsd.models.label_information import LabelInformation, query_table


class QueryHead(nn.Module):
    """Query2Label (Liu et al., 2021, section 3).

    An encoder over image tokens with sine positions, then decoder layers in which label queries
    look at them, without self-attention of the labels. The decoder starts from zeros with the
    queries as positions; each label has a weight vector of its own. With the published settings
    155.6 million parameters of the 198.1 million of Q2L-R101.

    Args:
        num_features: D.
        information: the C labels and their embeddings.
        config: widths and depths.
    """

    def __init__(
        self, num_features: int, information: LabelInformation, config: QueryConfig
    ) -> None:
        super().__init__()
        self.image_projection = nn.Linear(num_features, config.width)
        self.queries = query_table(information, config.width)
        self.encoder = nn.ModuleList(_layer(config) for _ in range(config.encoder_layers))
        self.decoder = nn.ModuleList(_layer(config) for _ in range(config.decoder_layers))
        self.norm = nn.LayerNorm(config.width)
        self.classifier = LabelwiseLinear(len(information.labels), config.width)

    def forward(self, features_BDHW: Tensor) -> Tensor:
        """Return logits ``(B, C)``."""
        image = self.image_projection(as_tokens(features_BDHW))
        height, width = features_BDHW.shape[-2:]
        places = sine_positions(height, width, image.shape[-1], like=image)
        for layer in self.encoder:
            image = layer(image, image, positions=places, source_positions=places)
        queries_CD = self.queries()
        tokens = torch.zeros_like(queries_CD).expand(image.shape[0], -1, -1)
        for layer in self.decoder:
            tokens = layer(tokens, image, positions=queries_CD, source_positions=places)
        logits_BC: Tensor = self.classifier(self.norm(tokens))
        return logits_BC

    @property
    def place_attention(self) -> Attention:
        """The last decoder layer's attention."""
        attention = self.decoder[-1].attention
        assert isinstance(attention, Attention)
        return attention

    def label_maps(self, weights_BACN: Tensor, num_places: int) -> Tensor:
        """Return the mean over heads of what the queries give to places."""
        return weights_BACN.mean(dim=1)


class LabelwiseLinear(nn.Module):
    """A weight vector and a bias for each label, on the label's own token.

    Args:
        num_labels: C.
        width: of the tokens.
    """

    def __init__(self, num_labels: int, width: int) -> None:
        super().__init__()
        bound = width**-0.5
        self.weight = nn.Parameter(torch.empty(num_labels, width).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(num_labels).uniform_(-bound, bound))

    def forward(self, tokens_BCD: Tensor) -> Tensor:
        """Return logits ``(B, C)``."""
        return (tokens_BCD * self.weight).sum(dim=-1) + self.bias


def _layer(config: QueryConfig) -> PostNormLayer:
    return PostNormLayer(
        config.width, heads=config.heads, feedforward=config.feedforward, dropout=config.dropout
    )
