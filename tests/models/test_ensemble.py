"""Ensembles against explicit loops over parts and labels."""

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor, nn

from cpsd.errors import ModelError
from cpsd.labels import LabelSpace
from cpsd.models.ensemble import MeanPredictor, TeacherEnsemble
from cpsd.partition import LabelPartition

LABELS = LabelSpace(("ant", "bee", "cat", "dog", "eel", "fox", "gnu"))


def partition_of(*parts: tuple[int, ...]) -> LabelPartition:
    return LabelPartition(
        strategy="co-occurrence", labels=LABELS, parts=parts, seed=0, normalized_cut=None
    )


PARTITION = partition_of((1, 4, 6), (0, 3), (2, 5))


def linear(num_labels: int, seed: int) -> nn.Sequential:
    layer = nn.Linear(3 * 2 * 2, num_labels)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
    return nn.Sequential(nn.Flatten(), layer)


def teachers_of(partition: LabelPartition) -> list[nn.Sequential]:
    return [linear(len(part), seed) for seed, part in enumerate(partition.parts)]


def pictures() -> Tensor:
    return torch.rand(5, 3, 2, 2, generator=torch.Generator().manual_seed(9))


@pytest.mark.parametrize(
    "partition",
    [
        PARTITION,
        partition_of((0, 1, 2, 3, 4, 5, 6)),
        partition_of((6,), (5,), (4,), (3,), (2,), (1,), (0,)),
        LabelPartition.whole(LABELS),
    ],
    ids=["three parts", "one part", "single labels", "whole"],
)
def test_logits_are_scattered_to_their_labels(partition: LabelPartition) -> None:
    teachers = teachers_of(partition)
    with torch.no_grad():
        logits = TeacherEnsemble(partition, teachers)(pictures())
        assert logits.shape == (5, 7)
        for part, teacher in zip(partition.parts, teachers, strict=True):
            part_logits = teacher(pictures())
            for position, label in enumerate(part):
                assert torch.equal(logits[:, label], part_logits[:, position])


def test_training_the_ensemble_is_training_its_teachers() -> None:
    together, alone = teachers_of(PARTITION), teachers_of(PARTITION)
    targets = torch.randint(0, 2, (5, 7), generator=torch.Generator().manual_seed(2)).float()
    loss = nn.BCEWithLogitsLoss(reduction="sum")
    loss(TeacherEnsemble(PARTITION, together)(pictures()), targets).backward()
    for part, teacher, reference in zip(PARTITION.parts, together, alone, strict=True):
        loss(reference(pictures()), targets[:, list(part)]).backward()
        for found, expected in zip(teacher.parameters(), reference.parameters(), strict=True):
            torch.testing.assert_close(found.grad, expected.grad)


def test_a_missing_teacher_is_named() -> None:
    with pytest.raises(
        ModelError, match=r"teacher of co-occurrence part 2 \(cat, fox\) is missing"
    ):
        TeacherEnsemble(PARTITION, teachers_of(PARTITION)[:2])


def test_a_teacher_too_many_is_refused() -> None:
    with pytest.raises(ModelError, match="has 3 parts, but there are 4 teachers"):
        TeacherEnsemble(PARTITION, [*teachers_of(PARTITION), linear(2, 0)])


def test_a_teacher_with_other_labels_is_named() -> None:
    teachers = teachers_of(PARTITION)
    ensemble = TeacherEnsemble(PARTITION, [teachers[0], linear(3, 0), teachers[2]])
    message = r"part 1 \(ant, dog\) gives logits of shape \(5, 3\) where \(5, 2\) is needed"
    with pytest.raises(ModelError, match=message):
        ensemble(pictures())


def test_the_ensembles_state_is_its_teachers_alone() -> None:
    keys = TeacherEnsemble(PARTITION, teachers_of(PARTITION)).state_dict()
    assert list(keys) == [f"teachers.{part}.1.{k}" for part in range(3) for k in ("weight", "bias")]


@pytest.mark.parametrize(
    ("weights", "shares"),
    [(None, (0.5, 0.5)), ((3.0, 1.0), (0.75, 0.25)), ((0.0, 2.0), (0.0, 1.0))],
)
def test_the_mean_is_weighted(weights: Sequence[float] | None, shares: tuple[float, float]) -> None:
    first, second = linear(7, 1), linear(7, 2)
    with torch.no_grad():
        found = MeanPredictor([first, second], weights)(pictures())
        expected = shares[0] * first(pictures()).double() + shares[1] * second(pictures()).double()
    torch.testing.assert_close(found.double(), expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(
    "weights", [(1.0,), (1.0, -1.0), (0.0, 0.0), (1.0, float("nan")), (1.0, float("inf"))]
)
def test_weights_without_a_mean_are_refused(weights: Sequence[float]) -> None:
    with pytest.raises(ModelError, match="do not fit 2 predictors"):
        MeanPredictor([linear(7, 1), linear(7, 2)], weights)


def test_predictors_over_other_labels_have_no_mean() -> None:
    with pytest.raises(ModelError, match=r"\(5, 6\), \(5, 7\).* have no mean"):
        MeanPredictor([linear(7, 1), linear(6, 2)])(pictures())
    with pytest.raises(ModelError, match="at least one predictor"):
        MeanPredictor([])
