"""Head 'ml-decoder': a few group queries that look at image tokens, and a linear layer a group.

Shapes: B images, D channels, H' x W' places, C labels, G groups, P labels in a group, A heads.
"""

import torch
from torch import Tensor, nn

from cpsd.model_config import MLDecoderConfig
from cpsd.models.heads.attention import Attention, PostNormLayer, as_tokens


class MLDecoderHead(nn.Module):
    """ML-Decoder (Ridnik et al., WACV 2023, section 3.2).

    Its cost hardly grows with the labels: at most ``groups`` queries attend, and each serves the
    same number of labels through weight vectors of their own. For 80 labels and 2048 channels 7.2
    million parameters are learned.

    Args:
        num_features: D.
        num_labels: C.
        config: widths and groups.
    """

    def __init__(self, num_features: int, num_labels: int, config: MLDecoderConfig) -> None:
        super().__init__()
        self.num_labels = num_labels
        groups = min(config.groups, num_labels)
        labels_a_group = -(-num_labels // groups)
        self.image_projection = nn.Sequential(nn.Linear(num_features, config.width), nn.ReLU())
        self.queries = nn.Parameter(
            torch.randn(groups, config.width), requires_grad=config.queries == "learned"
        )
        self.query_dropout = nn.Dropout(config.dropout)
        self.query_norm = nn.LayerNorm(config.width)
        self.decoder = PostNormLayer(
            config.width,
            heads=config.heads,
            feedforward=config.feedforward,
            dropout=config.dropout,
        )
        self.weight = nn.Parameter(torch.empty(groups, config.width, labels_a_group))
        self.bias = nn.Parameter(torch.zeros(num_labels))
        nn.init.xavier_normal_(self.weight)

    def forward(self, features_BDHW: Tensor) -> Tensor:
        """Return logits ``(B, C)``; label c belongs to group ``c // P``."""
        image = self.image_projection(as_tokens(features_BDHW))
        # The published layer adds the queries to themselves where others have self-attention.
        queries = self.query_norm(self.queries + self.query_dropout(self.queries))
        tokens_BGD = self.decoder(queries.expand(image.shape[0], -1, -1), image)
        logits_BGP = torch.einsum("bgd,gdp->bgp", tokens_BGD, self.weight)
        return logits_BGP.flatten(1)[:, : self.num_labels] + self.bias

    @property
    def place_attention(self) -> Attention:
        """The decoder's attention."""
        return self.decoder.attention

    def label_maps(self, weights_BAGN: Tensor, num_places: int) -> Tensor:
        """Return the mean over heads of what each label's group query gives to places."""
        maps_BGN = weights_BAGN.mean(dim=1)
        return maps_BGN.repeat_interleave(self.weight.shape[-1], dim=1)[:, : self.num_labels]
