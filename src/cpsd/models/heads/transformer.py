"""Head 'transformer': image tokens and label embeddings through one encoder.

Shapes: B images, D channels, H' x W' places, C labels.
"""

import torch
from torch import Tensor, nn

from cpsd.model_config import TransformerConfig
from cpsd.models.heads.attention import Attention, PreNormLayer, as_tokens
from cpsd.models.label_information import LabelInformation, embedding_table


class TransformerHead(nn.Module):
    """The head of "ResNet101+TF" (CPSD, section 4.1, after C-Tran).

    Image tokens and label embeddings, each projected to one width, go through one pre-norm encoder
    without positions; one classifier that all labels share reads the label tokens. With the
    published settings 59.1 million parameters of the 101.6 million of ResNet101+TF.

    Args:
        num_features: D.
        information: the C labels and their embeddings.
        config: widths and depth.
    """

    def __init__(
        self, num_features: int, information: LabelInformation, config: TransformerConfig
    ) -> None:
        super().__init__()
        self.label_embeddings = embedding_table(information)
        self.image_projection = nn.Linear(num_features, config.width)
        self.label_projection = nn.Sequential(
            nn.Linear(information.embedding_width, config.width), nn.ReLU()
        )
        self.layers = nn.ModuleList(
            PreNormLayer(
                config.width,
                heads=config.heads,
                head_width=config.head_width,
                feedforward=config.feedforward,
                dropout=config.dropout,
            )
            for _ in range(config.layers)
        )
        self.classifier = nn.Linear(config.width, 1)

    def forward(self, features_BDHW: Tensor) -> Tensor:
        """Return logits ``(B, C)``."""
        image_BND = self.image_projection(as_tokens(features_BDHW))
        labels_CD = self.label_projection(self.label_embeddings())
        tokens = torch.cat([image_BND, labels_CD.expand(image_BND.shape[0], -1, -1)], dim=1)
        for layer in self.layers:
            tokens = layer(tokens)
        logits_BC: Tensor = self.classifier(tokens[:, image_BND.shape[1] :]).squeeze(-1)
        return logits_BC

    @property
    def place_attention(self) -> Attention:
        """The last layer's self-attention."""
        attention = self.layers[-1].attention
        assert isinstance(attention, Attention)
        return attention

    def label_maps(self, weights_BAKK: Tensor, num_places: int) -> Tensor:
        """Return the mean over heads of what the label tokens give to places."""
        return weights_BAKK[:, :, num_places:, :num_places].mean(dim=1)
