"""Sine positions of a grid of places (Vaswani et al., 2017, as DETR has them in two dimensions)."""

import math

import torch
from torch import Tensor

_TEMPERATURE = 10_000.0


def sine_positions(height: int, width: int, num_features: int, *, like: Tensor) -> Tensor:
    """Return the positions ``(height * width, num_features)`` of a grid, row by row.

    The first half of the features tells the row, the second the column; both run to 2 pi over the
    grid, so that the same place of a larger picture has about the same position.

    Args:
        height: H', rows of places.
        width: W', columns of places.
        num_features: D, a multiple of 4.
        like: a tensor of the wanted type and device.

    Example:
        >>> sine_positions(2, 3, 8, like=torch.empty(0)).shape
        torch.Size([6, 8])
    """
    # Computed in 32 bit whatever the autocast type: sines of coarse angles would be far off.
    rows = _waves(height, num_features // 2, like.device)
    columns = _waves(width, num_features // 2, like.device)
    positions = torch.cat(
        [
            rows[:, None, :].expand(height, width, -1),
            columns[None, :, :].expand(height, width, -1),
        ],
        dim=-1,
    )
    return positions.flatten(0, 1).to(like.dtype)


def _waves(length: int, num_features: int, device: torch.device) -> Tensor:
    """Return ``(length, num_features)``: sine and cosine in turn, at falling frequencies."""
    steps = torch.arange(1, length + 1, device=device, dtype=torch.float32)
    angles = steps / (length + 1e-6) * (2 * math.pi)
    exponents = 2 * torch.arange(num_features // 2, device=device) / num_features
    scaled = angles[:, None] / _TEMPERATURE**exponents
    return torch.stack([scaled.sin(), scaled.cos()], dim=-1).flatten(1)
