"""Head 'linear': global pooling and one linear layer.

Shapes: B images, D channels, H' x W' places, C labels.
"""

from typing import Literal

from torch import Tensor, nn


class LinearHead(nn.Module):
    """Global pooling and one linear layer (the ResNet, TResNet and ResNeXt rows of CPSD, table 1).

    With 80 labels and 2048 channels 163,920 parameters, as the last layer of torchvision's ResNets.

    Args:
        num_features: D, channels of the feature map.
        num_labels: C.
        pooling: ``average`` or ``max`` over places.
    """

    def __init__(
        self,
        num_features: int,
        num_labels: int,
        *,
        pooling: Literal["average", "max"] = "average",
    ) -> None:
        super().__init__()
        self.pooling = pooling
        self.linear = nn.Linear(num_features, num_labels)

    def forward(self, features_BDHW: Tensor) -> Tensor:
        """Return logits ``(B, C)``."""
        places = features_BDHW.flatten(2)
        pooled_BD = places.mean(dim=2) if self.pooling == "average" else places.amax(dim=2)
        logits_BC: Tensor = self.linear(pooled_BD)
        return logits_BC
