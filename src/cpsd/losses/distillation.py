"""Distillation terms: how far the student's logits are from a teacher's.

Labels are not exclusive, so every term compares label by label; none normalises over labels.
The teacher is a constant: no gradient reaches it. Everything is computed in float32, or in
float64 where the logits are.
"""

import torch
from torch import Tensor
from torch.nn import functional

from cpsd.losses.reduction import (
    Reduction,
    at_least_float32,
    reduce_entries,
    require_same_shape,
)


def squared_error(
    student_BC: Tensor, teacher_BC: Tensor, *, reduction: Reduction = "sum"
) -> Tensor:
    """Return the squared distance of raw logits (CPSD, section 3.4).

    Args:
        student_BC: ``(B, C)`` logits of the student.
        teacher_BC: ``(B, C)`` logits of the teachers.
        reduction: ``sum`` or ``mean`` over pictures and labels.

    Raises:
        ValueError: the shapes differ, or another reduction.

    Example:
        >>> squared_error(torch.tensor([[1.0, 2.0]]), torch.tensor([[0.0, 4.0]])).item()
        5.0
    """
    require_same_shape(student_BC, teacher_BC)
    gap_BC = at_least_float32(student_BC) - at_least_float32(teacher_BC.detach())
    return reduce_entries(gap_BC.square(), reduction, count=gap_BC.numel())


def bernoulli_kl(
    student_BC: Tensor,
    teacher_BC: Tensor,
    *,
    temperature: float = 1.0,
    reduction: Reduction = "sum",
) -> Tensor:
    """Return the Kullback-Leibler divergence of each label's Bernoulli, teacher to student.

    The logits distillation of MLD (Yang et al., ICCV 2023), with a temperature T. With
    ``p = sigmoid(teacher / T)`` and ``q = sigmoid(student / T)`` an entry is::

        T ** 2 * (p * log(p / q) + (1 - p) * log((1 - p) / (1 - q)))

    The factor keeps the size of the gradient comparable between temperatures (Hinton et al.,
    2015). Logarithms are those of the sigmoid itself, so logits of +-1e4 stay finite.

    Args:
        student_BC: ``(B, C)`` logits of the student.
        teacher_BC: ``(B, C)`` logits of the teachers.
        temperature: divides the logits of both; above 0.
        reduction: ``sum`` or ``mean`` over pictures and labels.

    Raises:
        ValueError: the shapes differ, a temperature that is not positive, or another reduction.

    Example:
        >>> student_BC, teacher_BC = torch.tensor([[0.0, 3.0]]), torch.tensor([[1e4, 3.0]])
        >>> round(bernoulli_kl(student_BC, teacher_BC).item(), 4)
        0.6931
    """
    require_same_shape(student_BC, teacher_BC)
    if not temperature > 0:
        raise ValueError(f"The temperature is {temperature}; it must be greater than 0.")
    student = at_least_float32(student_BC) / temperature
    teacher = at_least_float32(teacher_BC.detach()) / temperature
    log_ratio_present = functional.logsigmoid(teacher) - functional.logsigmoid(student)
    log_ratio_absent = functional.logsigmoid(-teacher) - functional.logsigmoid(-student)
    kl_BC = torch.sigmoid(teacher) * log_ratio_present + torch.sigmoid(-teacher) * log_ratio_absent
    return reduce_entries(kl_BC * temperature**2, reduction, count=kl_BC.numel())
