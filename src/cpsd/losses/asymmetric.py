"""Losses on known targets: asymmetric loss and binary cross-entropy.

Targets are 1 (present), 0 (absent) or -1 (unknown); an unknown target adds neither loss nor
gradient. Everything is computed in float32, or in float64 where the logits are.
"""

import torch
from torch import Tensor
from torch.nn import functional

from cpsd.labels import PRESENT, UNKNOWN
from cpsd.losses.reduction import (
    Reduction,
    at_least_float32,
    reduce_entries,
    require_same_shape,
)


def asymmetric_loss(
    logits_BC: Tensor,
    targets_BC: Tensor,
    *,
    gamma_neg: float = 4.0,
    gamma_pos: float = 0.0,
    clip: float = 0.05,
    eps: float = 1e-8,
    reduction: Reduction = "sum",
) -> Tensor:
    """Return the asymmetric loss (Ridnik et al., ICCV 2021, Eq. 4 to 7).

    With ``p = sigmoid(logit)`` and ``p_m = max(p - clip, 0)``::

        present:  -(1 - p) ** gamma_pos * log(max(p, eps))
        absent:   -p_m ** gamma_neg * log(max(1 - p_m, eps))

    As in the published code, no gradient flows through the focusing weight in front of the
    logarithm, and beyond ``eps`` the loss is flat. Query2Label's loss is ``gamma_neg`` 2,
    ``clip`` 0, ``eps`` 1e-5 and 1000 times the mean.

    Args:
        logits_BC: ``(B, C)`` raw logits.
        targets_BC: ``(B, C)`` of any type; 1 present, 0 absent, -1 unknown.
        gamma_neg: focusing exponent of absent labels.
        gamma_pos: focusing exponent of present labels.
        clip: probability shift of absent labels.
        eps: smallest probability inside the logarithm.
        reduction: ``sum`` over pictures and labels, or ``mean`` over the known entries.

    Raises:
        ValueError: the shapes differ, or another reduction.

    Example:
        >>> logits_BC = torch.tensor([[0.0, 0.0, 5.0]])
        >>> targets_BC = torch.tensor([[1, 0, -1]])
        >>> loss = asymmetric_loss(logits_BC, targets_BC, gamma_neg=1, clip=0)
        >>> round(loss.item(), 4)  # log 2 for the first, half of it for the second
        1.0397
    """
    require_same_shape(logits_BC, targets_BC)
    known_BC = targets_BC != UNKNOWN
    present_BC = targets_BC == PRESENT
    # Masked before anything else: whatever an unknown entry holds cannot reach the gradient.
    z_BC = at_least_float32(logits_BC).masked_fill(~known_BC, 0.0)
    # sigmoid(-z) in place of 1 - sigmoid(z): the difference loses all digits where z is large.
    shifted_BC = (torch.sigmoid(-z_BC) + clip).clamp(max=1.0)
    right_BC = torch.where(present_BC, torch.sigmoid(z_BC), shifted_BC)
    wrong_BC = (1.0 - right_BC).detach()
    focus_BC = torch.where(present_BC, wrong_BC.pow(gamma_pos), wrong_BC.pow(gamma_neg))
    loss_BC = -focus_BC * right_BC.clamp(min=eps).log()
    return reduce_entries(loss_BC.masked_fill(~known_BC, 0.0), reduction, count=known_BC.sum())


def binary_cross_entropy(
    logits_BC: Tensor, targets_BC: Tensor, *, reduction: Reduction = "sum"
) -> Tensor:
    """Return the binary cross-entropy of the known targets, exact for logits of any size.

    Args:
        logits_BC: ``(B, C)`` raw logits.
        targets_BC: ``(B, C)`` of any type; 1 present, 0 absent, -1 unknown.
        reduction: ``sum`` over pictures and labels, or ``mean`` over the known entries.

    Raises:
        ValueError: the shapes differ, or another reduction.

    Example:
        >>> logits_BC = torch.tensor([[0.0, -1e4, 5.0]])
        >>> targets_BC = torch.tensor([[1, 0, -1]])
        >>> round(binary_cross_entropy(logits_BC, targets_BC).item(), 4)
        0.6931
    """
    require_same_shape(logits_BC, targets_BC)
    known_BC = targets_BC != UNKNOWN
    z_BC = at_least_float32(logits_BC).masked_fill(~known_BC, 0.0)
    loss_BC = -functional.logsigmoid(torch.where(targets_BC == PRESENT, z_BC, -z_BC))
    return reduce_entries(loss_BC.masked_fill(~known_BC, 0.0), reduction, count=known_BC.sum())
