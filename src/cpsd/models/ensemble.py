"""Predictors made of predictors: a teacher for each part, and the mean over the same labels.

Shapes: B batch, C all labels, P labels in a part.
"""

from collections.abc import Sequence
from itertools import chain
from math import inf

import torch
from torch import Tensor, nn

from cpsd.errors import ModelError
from cpsd.models.trunk import one_pass
from cpsd.partition import LabelPartition


class TeacherEnsemble(nn.Module):
    """One sub-task teacher for each part of a partition, together a predictor over all labels.

    A partition is disjoint and complete, so every label's logit comes from exactly one teacher.

    Args:
        partition: which labels are in which part.
        teachers: one predictor a part, in the order of the parts, over that part's labels.

    Raises:
        ModelError: there are more or fewer teachers than parts.
    """

    _source: Tensor

    def __init__(self, partition: LabelPartition, teachers: Sequence[nn.Module]) -> None:
        super().__init__()
        if len(teachers) != partition.num_parts:
            what = (
                f"the teacher of {describe_part(partition, len(teachers))} is missing"
                if len(teachers) < partition.num_parts
                else "one teacher a part is needed"
            )
            raise ModelError(
                f"The {partition.strategy} partition has {partition.num_parts} parts, but there "
                f"are {len(teachers)} teachers: {what}."
            )
        self.partition = partition
        self.teachers = nn.ModuleList(teachers)
        # Column of the concatenated part logits that each label's logit comes from.
        columns = torch.tensor(list(chain.from_iterable(partition.parts)))
        self.register_buffer("_source", columns.argsort(), persistent=False)

    def forward(self, images_B3HW: Tensor) -> Tensor:
        """Return logits ``(B, C)`` in the order of the partition's labels.

        Raises:
            ModelError: a teacher's logits do not fit its part.
        """
        with one_pass():
            outputs = [teacher(images_B3HW) for teacher in self.teachers]
        part_logits = []
        for part, logits_BP in enumerate(outputs):
            needed = (images_B3HW.shape[0], len(self.partition.parts[part]))
            if logits_BP.shape != needed:
                raise ModelError(
                    f"The teacher of {describe_part(self.partition, part)} gives logits of shape "
                    f"{tuple(logits_BP.shape)} where {needed} is needed."
                )
            part_logits.append(logits_BP)
        return torch.cat(part_logits, dim=1)[:, self._source]


class MeanPredictor(nn.Module):
    """The weighted mean of the logits of predictors over the same labels.

    Args:
        predictors: at least one.
        weights: one a predictor, not negative, not all 0; equal by default. Only their ratios
            matter.

    Raises:
        ModelError: no predictor, or weights that do not fit.
    """

    def __init__(
        self, predictors: Sequence[nn.Module], weights: Sequence[float] | None = None
    ) -> None:
        super().__init__()
        weights = [1.0] * len(predictors) if weights is None else list(weights)
        if not predictors:
            raise ModelError("A mean needs at least one predictor.")
        if len(weights) != len(predictors) or min(weights) < 0 or not 0 < sum(weights) < inf:
            raise ModelError(
                f"The weights {weights} do not fit {len(predictors)} predictors: one each is "
                "needed, none negative and not all 0."
            )
        self.predictors = nn.ModuleList(predictors)
        self.shares = tuple(weight / sum(weights) for weight in weights)

    def forward(self, images_B3HW: Tensor) -> Tensor:
        """Return logits ``(B, C)``.

        Raises:
            ModelError: the predictors' logits differ in shape.
        """
        with one_pass():
            logits = [predictor(images_B3HW) for predictor in self.predictors]
        shapes = {tuple(logits_BC.shape) for logits_BC in logits}
        if len(shapes) > 1:
            raise ModelError(f"Logits of shapes {sorted(shapes)} have no mean.")
        terms = [share * logits_BC for share, logits_BC in zip(self.shares, logits, strict=True)]
        return torch.stack(terms).sum(dim=0)


def describe_part(partition: LabelPartition, part: int) -> str:
    """Return how messages call a part: its strategy, number and first labels."""
    names = partition.part_labels(part).names
    shown = ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
    return f"{partition.strategy} part {part} ({shown})"
