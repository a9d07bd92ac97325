"""Head 'ctran': the transformer over image and label tokens that can be told some labels.

Shapes: B images, D channels, H' x W' places, C labels.
"""

import math

import torch
from torch import Tensor, nn

from cpsd.labels import UNKNOWN
from cpsd.model_config import CTranConfig
from cpsd.models.heads.attention import Attention, PostNormLayer, as_tokens
from cpsd.models.heads.query import LabelwiseLinear
from cpsd.models.label_information import LabelInformation, query_table


class CTranHead(nn.Module):
    """C-Tran (Lanchantin et al., CVPR 2021, section 3).

    As the head 'transformer', but each label token also carries the label's state: known to be
    there, known not to be, or unknown (a state of zeros). In training a random share of the labels
    is told and the others learned (label mask training, section 3.4); in prediction none is told
    unless the caller knows some. A weight vector for each label. With 80 labels and 2048 channels
    75.9 million parameters.

    Args:
        num_features: D.
        information: the C labels and their embeddings.
        config: widths, depth and how many labels training hides.
    """

    def __init__(
        self, num_features: int, information: LabelInformation, config: CTranConfig
    ) -> None:
        super().__init__()
        self.num_labels = len(information.labels)
        self.least_hidden = config.least_hidden
        self.image_projection = (
            nn.Identity() if num_features == config.width else nn.Linear(num_features, config.width)
        )
        self.label_embeddings = query_table(information, config.width)
        self.states = nn.Parameter(torch.randn(2, config.width))
        self.norm = nn.LayerNorm(config.width)
        self.layers = nn.ModuleList(
            PostNormLayer(
                config.width,
                heads=config.heads,
                feedforward=config.feedforward,
                dropout=config.dropout,
            )
            for _ in range(config.layers)
        )
        self.classifier = LabelwiseLinear(len(information.labels), config.width)

    def forward(self, features_BDHW: Tensor, known_BC: Tensor | None = None) -> Tensor:
        """Return logits ``(B, C)``.

        Args:
            features_BDHW: the feature map.
            known_BC: what is known of each label, 1 present, 0 absent, -1 unknown; nothing by
                default.
        """
        image_BND = self.image_projection(as_tokens(features_BDHW))
        labels = self.label_embeddings().expand(image_BND.shape[0], -1, -1)
        if known_BC is not None:
            is_known = (known_BC != UNKNOWN)[..., None]
            labels = labels + is_known * self.states[known_BC.clamp(min=0).long()]
        tokens = self.norm(torch.cat([image_BND, labels], dim=1))
        for layer in self.layers:
            tokens = layer(tokens, tokens)
        logits_BC: Tensor = self.classifier(tokens[:, image_BND.shape[1] :])
        return logits_BC

    def reveal(self, targets_BC: Tensor) -> Tensor:
        """Return the targets with a random share of them hidden (-1), as training tells them.

        Of each image between ``least_hidden`` and all of the labels are hidden, at least one; the
        number and the labels are drawn from torch's generator.
        """
        (num_images, num_labels), device = targets_BC.shape, targets_BC.device
        # A hair less, or 0.7 of 10 labels would be 8.
        least = max(math.ceil(self.least_hidden * num_labels - 1e-6), 1)
        hidden_B1 = torch.randint(least, num_labels + 1, (num_images, 1), device=device)
        # Ranks are a random permutation of each row.
        ranks_BC = torch.rand(targets_BC.shape, device=device).argsort(dim=1).argsort(dim=1)
        return targets_BC.masked_fill(ranks_BC < hidden_B1, UNKNOWN)

    @property
    def place_attention(self) -> Attention:
        """The last layer's self-attention."""
        attention = self.layers[-1].attention
        assert isinstance(attention, Attention)
        return attention

    def label_maps(self, weights_BAKK: Tensor, num_places: int) -> Tensor:
        """Return the mean over heads of what the label tokens give to places."""
        return weights_BAKK[:, :, num_places:, :num_places].mean(dim=1)
