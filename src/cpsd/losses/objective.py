"""The objective: the loss on targets plus, for the student, one distillation term a strategy.

Baseline and teachers: ``total = classification``. Student (CPSD, section 3.4)::

    total = (1 - weight) * classification + weight * sum over strategies of share * term

With one strategy its share is 1 (PSD-C, PSD-D); with two the shares are ``alpha`` and
``1 - alpha`` in the order the strategies are given; with more, the first has ``alpha`` and the
others divide ``1 - alpha`` evenly. Where the baseline teaches beside them, it has
``distillation.baseline`` and they share the rest so.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from torch import Tensor

from cpsd.config import DistillationConfig, LossConfig
from cpsd.losses.asymmetric import asymmetric_loss, binary_cross_entropy
from cpsd.losses.distillation import bernoulli_kl, squared_error

CLASSIFICATION = "classification"


@dataclass(frozen=True, eq=False)
class LossTerms:
    """What one step's objective is made of.

    Args:
        total: the weighted sum, to be back-propagated.
        terms: name (``classification``, ``co_occurrence``, ``dis_occurrence``, ...) to the term
            *before* weighting, detached, to be logged.
    """

    total: Tensor
    terms: Mapping[str, Tensor]


@dataclass(frozen=True)
class Objective:
    """Calls as ``objective(logits_BC, targets_BC, soft_labels_BSC)``; see ``build_objective``.

    Args:
        loss: the loss on known targets.
        distillation: how the student follows its teachers; None for baseline and teachers.
        strategies: the S strategies, in the order of the soft labels' second axis; the last is the
            baseline where that has a share in the distillation.

    Raises:
        ValueError: distillation without strategies or strategies without distillation, or a
            strategy that stands twice.
    """

    loss: LossConfig
    distillation: DistillationConfig | None = None
    strategies: tuple[str, ...] = ()
    shares: tuple[float, ...] = field(init=False)
    """What part of the distillation each strategy has; they add up to 1."""

    def __post_init__(self) -> None:
        if (self.distillation is None) != (not self.strategies):
            raise ValueError(
                "Distillation settings and strategies belong together: give both or neither."
            )
        if len({term_name(strategy) for strategy in self.strategies}) < len(self.strategies):
            raise ValueError(f"Strategies {self.strategies} must be distinct.")
        object.__setattr__(self, "shares", self._shares())

    def __call__(
        self, logits_BC: Tensor, targets_BC: Tensor, soft_labels_BSC: Tensor | None = None
    ) -> LossTerms:
        """Return total and named terms of one batch.

        A picture whose targets are all unknown adds distillation terms only.

        Args:
            logits_BC: ``(B, C)`` raw logits of the network in training.
            targets_BC: ``(B, C)``; 1 present, 0 absent, -1 unknown.
            soft_labels_BSC: ``(B, S, C)`` teacher logits of any floating type; None without
                distillation.

        Raises:
            ValueError: soft labels are missing, of another shape, or given without distillation.
        """
        self._require_soft_labels(logits_BC, soft_labels_BSC)
        classification = self._classification(logits_BC, targets_BC)
        terms = {CLASSIFICATION: classification.detach()}
        if self.distillation is None or soft_labels_BSC is None:
            return LossTerms(total=classification, terms=terms)
        weight = self.distillation.weight
        total = (1.0 - weight) * classification
        for s, (strategy, share) in enumerate(zip(self.strategies, self.shares, strict=True)):
            term = self._distillation(self.distillation, logits_BC, soft_labels_BSC[:, s])
            total = total + weight * share * term
            terms[term_name(strategy)] = term.detach()
        return LossTerms(total=total, terms=terms)

    def _shares(self) -> tuple[float, ...]:
        if self.distillation is None:
            return ()
        alpha, of_baseline = self.distillation.alpha, self.distillation.baseline
        if not of_baseline:
            return strategy_shares(alpha, len(self.strategies))
        shares = strategy_shares(alpha, len(self.strategies) - 1)
        return (*((1.0 - of_baseline) * share for share in shares), of_baseline)

    def _classification(self, logits_BC: Tensor, targets_BC: Tensor) -> Tensor:
        loss = self.loss
        if loss.name == "bce":
            return binary_cross_entropy(logits_BC, targets_BC, reduction=loss.reduction)
        return asymmetric_loss(
            logits_BC,
            targets_BC,
            gamma_neg=loss.gamma_neg,
            gamma_pos=loss.gamma_pos,
            clip=loss.clip,
            eps=loss.eps,
            reduction=loss.reduction,
        )

    def _distillation(
        self, distillation: DistillationConfig, student_BC: Tensor, teacher_BC: Tensor
    ) -> Tensor:
        if distillation.term == "squared-error":
            return squared_error(student_BC, teacher_BC, reduction=self.loss.reduction)
        return bernoulli_kl(
            student_BC,
            teacher_BC,
            temperature=distillation.temperature,
            reduction=self.loss.reduction,
        )

    def _require_soft_labels(self, logits_BC: Tensor, soft_labels_BSC: Tensor | None) -> None:
        if self.distillation is None:
            if soft_labels_BSC is not None:
                raise ValueError("Soft labels were given to an objective without distillation.")
            return
        num_images, num_labels = logits_BC.shape
        expected = (num_images, len(self.strategies), num_labels)
        found = None if soft_labels_BSC is None else tuple(soft_labels_BSC.shape)
        if found != expected:
            raise ValueError(
                f"Distillation from {', '.join(self.strategies)} needs soft labels of shape "
                f"(images, strategies, labels) = {expected}; found {found}."
            )


def build_objective(
    loss: LossConfig,
    distillation: DistillationConfig | None = None,
    *,
    strategies: tuple[str, ...] = (),
) -> Objective:
    """Return the objective of a baseline or teacher, or with ``distillation`` of a student.

    Args:
        loss: the loss on known targets; its reduction is that of every term.
        distillation: how the student follows its teachers; None for baseline and teachers.
        strategies: the S strategies, in the order of the soft labels' second axis.

    Raises:
        ValueError: distillation without strategies or strategies without distillation, or a
            strategy that stands twice.

    Example:
        >>> import torch
        >>> objective = build_objective(
        ...     LossConfig(name="bce"), DistillationConfig(), strategies=("co-occurrence",)
        ... )
        >>> logits_BC, unknown_BC = torch.ones(1, 2), torch.full((1, 2), -1)
        >>> result = objective(logits_BC, unknown_BC, torch.zeros(1, 1, 2))
        >>> result.total.item(), {name: term.item() for name, term in result.terms.items()}
        (1.0, {'classification': 0.0, 'co_occurrence': 2.0})
    """
    return Objective(loss, distillation, strategies)


def strategy_shares(alpha: float, num_strategies: int) -> tuple[float, ...]:
    """Return what part of the distillation each strategy has.

    Example:
        >>> strategy_shares(0.25, 0), strategy_shares(0.25, 1), strategy_shares(0.25, 2)
        ((), (1.0,), (0.25, 0.75))
        >>> strategy_shares(0.5, 3)
        (0.5, 0.25, 0.25)
    """
    if num_strategies < 2:
        return (1.0,) * num_strategies
    others = num_strategies - 1
    return (alpha, *([(1.0 - alpha) / others] * others))


def term_name(strategy: str) -> str:
    """Return the name of a strategy's term, as it is logged.

    Example:
        >>> term_name("co-occurrence")
        'co_occurrence'
    """
    return strategy.replace("-", "_")
