"""What all losses share: their precision, their shapes, and how entries become one number."""

from typing import Literal

import torch
from torch import Tensor

Reduction = Literal["sum", "mean"]
"""``sum`` over pictures and labels, or ``mean`` over the entries that count."""


def at_least_float32(tensor: Tensor) -> Tensor:
    """Return ``tensor`` in float32 where it is coarser (half, bfloat16, integer), else as it is.

    Mixed precision hands over logits with 8 or 11 significant bits; sums over a batch need more.
    """
    return tensor if tensor.dtype in (torch.float32, torch.float64) else tensor.float()


def require_same_shape(first: Tensor, second: Tensor) -> None:
    """Refuse tensors of different shapes, which would broadcast to a wrong loss without a word.

    Raises:
        ValueError: the shapes differ.
    """
    if first.shape != second.shape:
        raise ValueError(
            f"Shapes {tuple(first.shape)} and {tuple(second.shape)} differ; "
            "a loss needs one value for every picture and label on both sides."
        )


def reduce_entries(values: Tensor, reduction: Reduction, *, count: Tensor | int) -> Tensor:
    """Return the sum of ``values``, or their mean over ``count`` entries (0 where none counts).

    Args:
        values: the loss of each entry; 0 where an entry does not count.
        reduction: ``sum`` or ``mean``.
        count: how many entries count.

    Raises:
        ValueError: another reduction.

    Example:
        >>> reduce_entries(torch.tensor([2.0, 4.0, 0.0]), "mean", count=2).item()
        3.0
        >>> reduce_entries(torch.zeros(3), "mean", count=0).item()
        0.0
    """
    if reduction == "sum":
        return values.sum()
    if reduction == "mean":
        # A batch without any known target has the loss 0 and the gradient 0, not 0 / 0.
        return values.sum() / (count.clamp(min=1) if isinstance(count, Tensor) else max(count, 1))
    raise ValueError(f"The reduction is {reduction!r}; it must be 'sum' or 'mean'.")
