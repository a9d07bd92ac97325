"""Attention with explicit projections, and the two transformer layers made of it.

Shapes: B images, Q queries, K keys (places, or places and labels), D width, A attention heads.
"""

from collections.abc import Callable

from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention


class Attention(nn.Module):
    """Multi-head scaled dot-product attention (Vaswani et al., 2017).

    ``observer``, where set, is handed the attention weights ``(B, A, Q, K)`` of each pass; the
    output never depends on it. They are computed for it alone: the fused kernel keeps none.

    Args:
        width: D, of queries, keys, values and the output.
        heads: A.
        head_width: of each attention head; ``width / heads`` by default.
        projection_bias: whether query, key and value projections have one.
        dropout: of attention weights, in training.
    """

    observer: Callable[[Tensor], None] | None = None

    def __init__(
        self,
        width: int,
        heads: int,
        *,
        head_width: int | None = None,
        projection_bias: bool = True,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.heads = heads
        self.dropout = dropout
        inner = heads * (head_width or width // heads)
        self.query = nn.Linear(width, inner, bias=projection_bias)
        self.key = nn.Linear(width, inner, bias=projection_bias)
        self.value = nn.Linear(width, inner, bias=projection_bias)
        self.output = nn.Linear(inner, width)
        for projection in (self.query, self.key, self.value):
            nn.init.xavier_uniform_(projection.weight)

    def forward(self, queries_BQD: Tensor, keys_BKD: Tensor, values_BKD: Tensor) -> Tensor:
        """Return ``(B, Q, D)``: for each query the mean of the values that its keys weigh."""
        queries = self._split(self.query(queries_BQD))
        keys = self._split(self.key(keys_BKD))
        values = self._split(self.value(values_BKD))
        if self.observer is not None:
            scores_BAQK = queries @ keys.transpose(-2, -1) * queries.shape[-1] ** -0.5
            self.observer(scores_BAQK.softmax(dim=-1))
        dropout = self.dropout if self.training else 0.0
        mixed = scaled_dot_product_attention(queries, keys, values, dropout_p=dropout)
        output_BQD: Tensor = self.output(mixed.transpose(1, 2).flatten(2))
        return output_BQD

    def _split(self, tokens_BNI: Tensor) -> Tensor:
        """Return ``(B, A, N, inner / A)``."""
        batch, num_tokens, inner = tokens_BNI.shape
        split = tokens_BNI.reshape(batch, num_tokens, self.heads, inner // self.heads)
        return split.transpose(1, 2)


class PostNormLayer(nn.Module):
    """Attention and a feed-forward network, each added to its input and normalized after.

    With the tokens themselves as source it is the encoder layer of Vaswani et al. (2017); with
    image tokens as source, a decoder layer without self-attention (Query2Label, section 3.2).
    Positions are added to queries and keys only (DETR).

    Args:
        width: D.
        heads: attention heads.
        feedforward: width between the two linear layers.
        dropout: of attention weights, hidden units and both branches, in training.
    """

    def __init__(self, width: int, *, heads: int, feedforward: int, dropout: float) -> None:
        super().__init__()
        self.attention = Attention(width, heads, dropout=dropout)
        self.attention_norm = nn.LayerNorm(width)
        self.feedforward = nn.Sequential(
            nn.Linear(width, feedforward),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(feedforward, width),
        )
        self.feedforward_norm = nn.LayerNorm(width)
        self.dropout = nn.Dropout(dropout)

    def forward(
        self,
        tokens_BQD: Tensor,
        source_BKD: Tensor,
        *,
        positions: Tensor | float = 0.0,
        source_positions: Tensor | float = 0.0,
    ) -> Tensor:
        """Return the tokens ``(B, Q, D)`` after they have looked at the source ``(B, K, D)``."""
        attended = self.attention(tokens_BQD + positions, source_BKD + source_positions, source_BKD)
        tokens_BQD = self.attention_norm(tokens_BQD + self.dropout(attended))
        branch = self.feedforward(tokens_BQD)
        output_BQD: Tensor = self.feedforward_norm(tokens_BQD + self.dropout(branch))
        return output_BQD


class PreNormLayer(nn.Module):
    """Self-attention and a feed-forward network, each on normalized tokens (ViT's layer).

    Args:
        width: D.
        heads: attention heads.
        head_width: of each.
        feedforward: width between the two linear layers.
        dropout: of hidden units and both branches, in training.
    """

    def __init__(
        self, width: int, *, heads: int, head_width: int, feedforward: int, dropout: float
    ) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(width)
        self.attention = Attention(width, heads, head_width=head_width, projection_bias=False)
        self.feedforward = nn.Sequential(
            nn.LayerNorm(width),
            nn.Linear(width, feedforward),
            nn.GELU(),
            nn.Dropout(dropout),
            nn.Linear(feedforward, width),
        )
        self.dropout = nn.Dropout(dropout)

    def forward(self, tokens_BKD: Tensor) -> Tensor:
        """Return the tokens ``(B, K, D)`` after they have looked at each other."""
        normed = self.attention_norm(tokens_BKD)
        tokens_BKD = tokens_BKD + self.dropout(self.attention(normed, normed, normed))
        output_BKD: Tensor = tokens_BKD + self.dropout(self.feedforward(tokens_BKD))
        return output_BKD


def as_tokens(features_BDHW: Tensor) -> Tensor:
    """Return a feature map as image tokens ``(B, H'W', D)``, row by row."""
    return features_BDHW.flatten(2).transpose(1, 2)
