"""Heads: a feature map (B, D, H', W') to logits (B, C)."""

from collections.abc import Callable

from torch import Tensor, nn


class LinearHead(nn.Module):
    """Global average pooling and one linear layer.

    Args:
        num_features: D, channels of the feature map.
        num_labels: C.
    """

    def __init__(self, num_features: int, num_labels: int) -> None:
        super().__init__()
        self.linear = nn.Linear(num_features, num_labels)

    def forward(self, features_BDHW: Tensor) -> Tensor:
        """Return logits ``(B, C)``."""
        logits_BC: Tensor = self.linear(features_BDHW.mean(dim=(2, 3)))
        return logits_BC


HEADS: dict[str, Callable[[int, int], nn.Module]] = {"linear": LinearHead}
"""Builders ``(num_features, num_labels) -> head`` by their name in the configuration."""
