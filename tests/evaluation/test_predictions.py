from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from cpsd.errors import ModelError
from cpsd.evaluation.predictions import (
    Predictions,
    collect,
    predict_logits,
    student_teacher_distance,
)
from cpsd.labels import LabelSpace


@dataclass(frozen=True)
class Batch:
    images: Tensor
    rows: Tensor


class Probe(nn.Module):
    """Logits are the mean and the largest pixel; says in which mode it was called."""

    def __init__(self) -> None:
        super().__init__()
        self.frozen = nn.Dropout().eval()
        self.active = nn.Dropout()
        self.seen: list[bool] = []

    def forward(self, images: Tensor) -> Tensor:
        self.seen += [self.training or self.active.training, torch.is_grad_enabled()]
        flat = self.frozen(self.active(images)).flatten(1)
        return torch.stack([flat.mean(1), flat.amax(1)], dim=1)


def pictures(num_images: int) -> Tensor:
    rng = np.random.default_rng(0)
    return torch.from_numpy(rng.integers(0, 256, (num_images, 3, 4, 4), np.uint8))


def batches(images: Tensor, *rows: list[int]) -> list[Batch]:
    return [Batch(images[r], torch.tensor(r)) for r in rows]


class TestPredictLogits:
    def test_rows_and_logits_are_in_the_order_of_the_loader(self) -> None:
        images = pictures(5)
        rows, logits = predict_logits(Probe(), batches(images, [4, 1], [3], [0, 2]), device="cpu")
        pixels = images.numpy().reshape(5, -1)[[4, 1, 3, 0, 2]] / 255
        expected = np.stack([pixels.mean(axis=1), pixels.max(axis=1)], axis=1)
        assert rows.tolist() == [4, 1, 3, 0, 2]
        assert logits.dtype == np.float32
        np.testing.assert_allclose(logits, expected, rtol=1e-6)

    def test_every_module_has_its_own_training_flag_again(self) -> None:
        probe = Probe().train()
        probe.frozen.eval()
        predict_logits(probe, batches(pictures(2), [0, 1]), device="cpu")
        assert probe.seen == [False, False]
        assert (probe.training, probe.active.training, probe.frozen.training) == (True, True, False)

    def test_training_flags_are_restored_after_a_failure(self) -> None:
        probe = Probe().train()
        floats = [Batch(torch.zeros(1, 3, 4, 4), torch.tensor([0]))]
        with pytest.raises(ValueError, match="uint8"):
            predict_logits(probe, floats, device="cpu")
        assert probe.training

    @pytest.mark.parametrize("layers", [nn.Identity(), nn.Flatten(0)])
    def test_a_model_that_returns_no_logits_is_refused(self, layers: nn.Module) -> None:
        with pytest.raises(ModelError, match=r"must return logits of shape \(2, labels\)"):
            predict_logits(layers, batches(pictures(2), [0, 1]), device="cpu")

    def test_a_loader_without_batches_is_refused(self) -> None:
        with pytest.raises(ValueError, match="no batch"):
            predict_logits(Probe(), [], device="cpu")

    def test_half_precision_logits_come_back_as_float32(self) -> None:
        class Half(Probe):
            def forward(self, images: Tensor) -> Tensor:
                return super().forward(images).bfloat16()

        _, logits = predict_logits(Half(), batches(pictures(2), [0, 1]), device="cpu")
        assert logits.dtype == np.float32


class TestCollect:
    parts = (
        (np.array([7, 2]), np.array([[7.0], [2.0]], np.float32)),
        (np.array([5, 7]), np.array([[5.0], [-1.0]], np.float32)),
    )

    def test_order_is_that_of_the_rows_and_the_first_of_a_row_counts(self) -> None:
        assert collect(self.parts, np.array([5, 7, 2])).tolist() == [[5], [7], [2]]

    def test_split_into_processes_does_not_matter(self) -> None:
        logits = np.random.default_rng(0).standard_normal((11, 3)).astype(np.float32)
        rows = np.arange(12) % 11  # padded to three equal shares
        shares = [(rows[r::3], logits[rows[r::3]]) for r in range(3)]
        np.testing.assert_array_equal(collect(iter(shares), 11), logits)

    def test_missing_rows_are_counted(self) -> None:
        with pytest.raises(ValueError, match=r"5 of 8 rows .*first: 0"):
            collect(self.parts, 8)

    def test_nothing_collected_is_refused(self) -> None:
        with pytest.raises(ValueError, match="All 4 rows"):
            collect([], 4)

    def test_rows_that_were_not_expected_are_refused(self) -> None:
        with pytest.raises(ValueError, match=r"1 rows were not expected .*first: 5"):
            collect(self.parts, np.array([2, 7]))

    def test_rows_without_logits_are_refused(self) -> None:
        with pytest.raises(ValueError, match="2 rows came with 1 predictions"):
            collect([(np.array([0, 1]), np.zeros((1, 3), np.float32))], 2)


def test_predictions_of_other_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match=r"\(images, labels\) = \(1, 2\)"):
        Predictions(
            images=("a",),
            logits=np.zeros((2, 2), np.float32),
            targets=np.zeros((2, 2), np.int8),
            labels=LabelSpace(("cat", "dog")),
            predictor="student",
        )


def test_distance_is_the_mean_over_pictures_and_labels() -> None:
    student, teacher = np.random.default_rng(2).standard_normal((2, 9, 4)).astype(np.float32) * 3
    distance = student_teacher_distance(student, teacher)
    p, q = (torch.sigmoid(torch.from_numpy(z).double()).numpy() for z in (student, teacher))
    assert distance.squared_logit == pytest.approx(
        float(((student.astype(float) - teacher.astype(float)) ** 2).mean()), rel=1e-12
    )
    assert distance.absolute_probability == pytest.approx(float(np.abs(p - q).mean()), rel=1e-12)


def test_distance_of_extreme_logits_is_finite() -> None:
    student = np.full((1, 1), 1e4, np.float32)
    far = student_teacher_distance(student, -student)
    assert (far.squared_logit, far.absolute_probability) == (4e8, 1.0)


def test_distance_between_other_shapes_is_refused() -> None:
    with pytest.raises(ValueError, match="differ"):
        student_teacher_distance(np.zeros((2, 3), np.float32), np.zeros((2, 1), np.float32))
