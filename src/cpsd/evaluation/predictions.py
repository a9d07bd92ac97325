"""Predictions: made by any predictor, and put back in the data's order."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from cpsd.errors import ModelError
from cpsd.labels import LabelSpace, Targets
from cpsd.memory import plain_inference_memory

Rows = NDArray[np.intp]
Logits = NDArray[np.float32]


class ImageBatch(Protocol):
    """What a loader must yield: pictures and the rows of the data they belong to."""

    @property
    def images(self) -> Tensor:
        """``(B, 3, S, S)`` uint8."""
        ...

    @property
    def rows(self) -> Tensor:
        """``(B,)`` integers."""
        ...


@dataclass(frozen=True, eq=False)
class Predictions:
    """A predictor's logits beside the targets, in the data's order.

    Args:
        images: N picture paths as the data names them.
        logits: ``(N, C)`` float32.
        targets: ``(N, C)`` int8; 1 present, 0 absent, -1 unknown.
        labels: the C labels.
        predictor: what made them: ``baseline``, ``student``, an ensemble's strategy.

    Raises:
        ValueError: the shapes do not agree.
    """

    images: tuple[str, ...]
    logits: Logits
    targets: Targets
    labels: LabelSpace
    predictor: str

    def __post_init__(self) -> None:
        expected = (len(self.images), len(self.labels))
        if self.logits.shape != expected or self.targets.shape != expected:
            raise ValueError(
                f"Logits of shape {self.logits.shape} and targets of shape {self.targets.shape} "
                f"must both be (images, labels) = {expected}."
            )


@dataclass(frozen=True)
class StudentTeacherDistance:
    """How far a student is from its teachers; means over pictures and labels."""

    squared_logit: float
    """Mean squared difference of logits."""
    absolute_probability: float
    """Mean absolute difference of probabilities."""


def predict_logits(
    predictor: nn.Module, loader: Iterable[ImageBatch], *, device: torch.device | str
) -> tuple[Rows, Logits]:
    """Return the rows ``(M,)`` and logits ``(M, C)`` of a loader, in the loader's order.

    ``collect`` puts them in the data's order. The predictor is moved to ``device`` and runs in
    eval mode without gradients; afterwards every one of its modules has its own training flag
    again.

    Args:
        predictor: maps pictures ``(B, 3, S, S)`` in [0, 1] to logits ``(B, C)``.
        loader: yields batches of uint8 pictures with their rows.
        device: where to compute.

    Raises:
        ModelError: the predictor returned something other than one row of logits a picture.
        ValueError: no batch, or pictures that are not uint8.
    """
    predictor.to(device)
    with eval_mode(predictor), torch.inference_mode():
        parts = [_predict_batch(predictor, batch, device) for batch in loader]
    if not parts:
        raise ValueError("The loader gave no batch, so there is nothing to predict.")
    rows, logits = zip(*parts, strict=True)
    return np.concatenate(rows), np.concatenate(logits)


def collect(parts: Iterable[tuple[Rows, Logits]], rows: int | Rows) -> Logits:
    """Return the logits of ``rows`` in that order, whatever order and process they came from.

    A row that came twice (distributed samplers pad with repetitions) counts once: its first.

    Args:
        parts: pairs of rows ``(M,)`` and logits ``(M, C)``.
        rows: the distinct rows expected, in the order wanted; a number N stands for 0 to N - 1.

    Raises:
        ValueError: rows are missing, or came without being expected.

    Example:
        >>> parts = [(np.array([2, 0]), np.float32([[2], [0]])),
        ...          (np.array([1, 2]), np.float32([[1], [2]]))]
        >>> collect(parts, 3).tolist()
        [[0.0], [1.0], [2.0]]
    """
    wanted = np.arange(rows) if isinstance(rows, int) else np.asarray(rows)
    pairs = list(parts)
    if not pairs:
        raise ValueError(f"All {len(wanted)} rows lack their prediction: nothing was collected.")
    found = np.concatenate([part_rows for part_rows, _ in pairs])
    logits = np.concatenate([part_logits for _, part_logits in pairs])
    if len(found) != len(logits):
        raise ValueError(f"{len(found)} rows came with {len(logits)} predictions.")
    distinct, first = np.unique(found, return_index=True)
    missing = np.setdiff1d(wanted, distinct)
    surplus = np.setdiff1d(distinct, wanted)
    if missing.size:
        raise ValueError(
            f"{missing.size} of {len(wanted)} rows lack their prediction (first: {missing[0]})."
        )
    if surplus.size:
        raise ValueError(f"{surplus.size} rows were not expected (first: {surplus[0]}).")
    collected: Logits = logits[first[np.searchsorted(distinct, wanted)]]
    return collected


def student_teacher_distance(student_NC: Logits, teacher_NC: Logits) -> StudentTeacherDistance:
    """Return how far the student's logits are from its teachers', which shows distillation at work.

    Raises:
        ValueError: the shapes differ.

    Example:
        >>> distance = student_teacher_distance(np.float32([[0, 2]]), np.float32([[0, 0]]))
        >>> distance.squared_logit, round(distance.absolute_probability, 4)
        (2.0, 0.1904)
    """
    if student_NC.shape != teacher_NC.shape:
        raise ValueError(f"Shapes {student_NC.shape} and {teacher_NC.shape} differ.")
    student, teacher = student_NC.astype(np.float64), teacher_NC.astype(np.float64)
    # sigmoid(z) = (1 + tanh(z / 2)) / 2, which overflows nowhere.
    probability_gap = (np.tanh(student / 2) - np.tanh(teacher / 2)) / 2
    return StudentTeacherDistance(
        squared_logit=float(np.mean((student - teacher) ** 2)),
        absolute_probability=float(np.mean(np.abs(probability_gap))),
    )


@contextmanager
def eval_mode(module: nn.Module) -> Iterator[None]:
    """Put ``module`` in eval mode, and each of its modules back as it was."""
    # module.train() afterwards would wake parts that are kept frozen in eval mode.
    flags = [(part, part.training) for part in module.modules()]
    module.eval()
    try:
        yield
    finally:
        for part, training in flags:
            part.training = training


def _predict_batch(
    predictor: nn.Module, batch: ImageBatch, device: torch.device | str
) -> tuple[Rows, Logits]:
    if batch.images.dtype != torch.uint8:
        raise ValueError(f"Pictures must be uint8, not {batch.images.dtype}.")
    images_BCHW = batch.images.to(device, non_blocking=True).float().div_(255)
    with plain_inference_memory(len(images_BCHW)):
        logits_BC = predictor(images_BCHW)
    if logits_BC.ndim != 2 or len(logits_BC) != len(images_BCHW):
        raise ModelError(
            f"The model returned shape {tuple(logits_BC.shape)} for {len(images_BCHW)} pictures; "
            f"it must return logits of shape ({len(images_BCHW)}, labels)."
        )
    return batch.rows.cpu().numpy().astype(np.intp), logits_BC.float().cpu().numpy()
