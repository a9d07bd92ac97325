"""Head 'csra': class-specific residual attention.

Shapes: B images, D channels, H' x W' places (N together), C labels, T attention heads.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from cpsd.model_config import CSRAConfig
from cpsd.models.heads.attention import as_tokens

TEMPERATURES: dict[int, tuple[float, ...]] = {
    1: (1,),
    2: (1,),
    4: (1, 2, 4),
    6: (1, 2, 3, 4, 5),
    8: (1, 2, 3, 4, 5, 6, 7),
}
"""Temperatures by the number of attention heads; where it is more than one, the last head has an
infinite one, which leaves the maximum."""


class CSRAHead(nn.Module):
    """Residual attention (Zhu and Wu, ICCV 2021, section 3).

    A normalized linear classifier scores every place. A label's logit is the mean of its scores
    plus ``residual`` times their mean weighed by their own softmax. Attention heads have a
    classifier and a temperature each; their logits are added up (figure 3). As many parameters a
    head as a linear layer without bias: 163,840 for 80 labels and 2048 channels.

    Args:
        num_features: D.
        num_labels: C.
        config: attention heads and lambda.
    """

    observer: Callable[[Tensor], None] | None = None
    temperatures: Tensor

    def __init__(self, num_features: int, num_labels: int, config: CSRAConfig) -> None:
        super().__init__()
        self.residual = config.residual
        self.heads = config.heads
        self.classifier = nn.Linear(num_features, config.heads * num_labels, bias=False)
        temperatures = torch.tensor(TEMPERATURES[config.heads])
        self.register_buffer("temperatures", temperatures.view(-1, 1, 1), persistent=False)

    def forward(self, features_BDHW: Tensor) -> Tensor:
        """Return logits ``(B, C)``."""
        scores = self.classifier(as_tokens(features_BDHW)) / self.classifier.weight.norm(dim=1)
        scores_BTNC = scores.unflatten(-1, (self.heads, -1)).transpose(1, 2)
        attention_BTNC = self._attention(scores_BTNC)
        if self.observer is not None:
            self.observer(attention_BTNC)
        attended_BTC = (attention_BTNC * scores_BTNC).sum(dim=2)
        logits_BTC = scores_BTNC.mean(dim=2) + self.residual * attended_BTC
        logits_BC: Tensor = logits_BTC.sum(dim=1)
        return logits_BC

    def _attention(self, scores_BTNC: Tensor) -> Tensor:
        """Return what each head's labels give to places, summing to 1 over them."""
        soft, hard = scores_BTNC.tensor_split([len(self.temperatures)], dim=1)
        is_maximum = (hard == hard.amax(dim=2, keepdim=True)).to(hard.dtype)
        return torch.cat(
            [
                (soft * self.temperatures).softmax(dim=2),
                is_maximum / is_maximum.sum(dim=2, keepdim=True),
            ],
            dim=1,
        )

    @property
    def place_attention(self) -> "CSRAHead":
        """The head itself: scores and attention are one computation."""
        return self

    def label_maps(self, attention_BTNC: Tensor, num_places: int) -> Tensor:
        """Return the mean over heads of what each label gives to places."""
        return attention_BTNC.mean(dim=1).transpose(1, 2)
