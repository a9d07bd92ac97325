import math
from typing import Protocol

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from cpsd.losses.distillation import bernoulli_kl, squared_error
from cpsd.losses.reduction import Reduction


class Term(Protocol):
    def __call__(
        self, student_BC: Tensor, teacher_BC: Tensor, *, reduction: Reduction = "sum"
    ) -> Tensor: ...


def random_pair(seed: int, scale: float = 3.0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    student, teacher = scale * torch.randn(2, 6, 4, generator=generator, dtype=torch.float64)
    return student, teacher


@settings(max_examples=25, deadline=None)
@given(s=st.floats(-8, 8), t=st.floats(-8, 8), temperature=st.sampled_from([0.5, 1.0, 2.0, 4.0]))
def test_kl_equals_the_formula_for_one_entry(s: float, t: float, temperature: float) -> None:
    q, p = (1 / (1 + math.exp(-z / temperature)) for z in (s, t))
    expected = temperature**2 * (p * math.log(p / q) + (1 - p) * math.log((1 - p) / (1 - q)))
    value = bernoulli_kl(
        torch.tensor([[s]], dtype=torch.float64),
        torch.tensor([[t]], dtype=torch.float64),
        temperature=temperature,
    )
    # Beyond logits of 16 the formula as written loses its digits in 1 - q.
    assert value.item() == pytest.approx(expected, rel=1e-7, abs=1e-9)
    assert value.item() >= -1e-12


def test_kl_is_a_kl_of_torch_bernoullis() -> None:
    student, teacher = random_pair(0)
    p, q = (torch.distributions.Bernoulli(logits=z) for z in (teacher, student))
    expected = torch.distributions.kl_divergence(p, q).sum()
    assert bernoulli_kl(student, teacher).item() == pytest.approx(expected.item(), rel=1e-10)


def test_kl_gradient_is_the_difference_of_probabilities() -> None:
    student, teacher = random_pair(1)
    student.requires_grad_()
    (gradient,) = torch.autograd.grad(bernoulli_kl(student, teacher, temperature=4.0), student)
    expected = 4.0 * (torch.sigmoid(student / 4) - torch.sigmoid(teacher / 4))
    torch.testing.assert_close(gradient, expected.detach(), rtol=1e-9, atol=1e-12)


def test_kl_passes_gradcheck() -> None:
    student, teacher = random_pair(2)
    assert torch.autograd.gradcheck(
        lambda s: bernoulli_kl(s, teacher, temperature=2.0), student.requires_grad_()
    )


@pytest.mark.parametrize(
    ("student", "teacher", "expected"),
    [
        (1e4, 1e4, 0.0),
        (-1e4, -1e4, 0.0),
        (-1e4, 1e4, 1e4),
        (1e4, -1e4, 1e4),
        (0.0, 1e4, math.log(2)),
        (0.0, -1e4, math.log(2)),
    ],
)
def test_kl_is_exact_for_extreme_logits(student: float, teacher: float, expected: float) -> None:
    s = torch.tensor([[student]], requires_grad=True)
    value = bernoulli_kl(s, torch.tensor([[teacher]]))
    (gradient,) = torch.autograd.grad(value, s)
    assert value.dtype == torch.float32
    assert value.item() == pytest.approx(expected, rel=1e-6)
    p, q = (float(torch.sigmoid(torch.tensor(z))) for z in (teacher, student))
    assert gradient.item() == pytest.approx(q - p, abs=1e-6)


@pytest.mark.parametrize("temperature", [0.0, -1.0, math.nan])
def test_kl_refuses_a_temperature_that_is_not_positive(temperature: float) -> None:
    with pytest.raises(ValueError, match="temperature"):
        bernoulli_kl(torch.zeros(1, 1), torch.zeros(1, 1), temperature=temperature)


def test_squared_error_equals_the_loop() -> None:
    student, teacher = random_pair(3)
    pairs = zip(student.flatten().tolist(), teacher.flatten().tolist(), strict=True)
    expected = sum((s - t) ** 2 for s, t in pairs)
    assert squared_error(student, teacher).item() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("term", [squared_error, bernoulli_kl])
class TestBothTerms:
    def test_labels_do_not_compete(self, term: Term) -> None:
        # A softmax over labels would see no difference between logits and logits + 1.
        student, teacher = random_pair(4)
        columns = [term(student[:, [c]], teacher[:, [c]]).item() for c in range(4)]
        assert sum(columns) == pytest.approx(term(student, teacher).item(), rel=1e-12)
        assert term(teacher + 1, teacher).item() > 0.1

    def test_no_gradient_reaches_the_teacher(self, term: Term) -> None:
        student, teacher = random_pair(5)
        student.requires_grad_()
        teacher.requires_grad_()
        torch.autograd.backward(term(student, teacher))
        assert teacher.grad is None
        assert student.grad is not None
        assert (student.grad != 0).all()

    def test_equal_logits_are_at_no_distance(self, term: Term) -> None:
        student, _ = random_pair(6)
        assert term(student, student.clone()).item() == pytest.approx(0, abs=1e-12)

    def test_mean_is_over_all_entries(self, term: Term) -> None:
        student, teacher = random_pair(7)
        mean = term(student, teacher, reduction="mean").item()
        assert mean == pytest.approx(term(student, teacher).item() / 24, rel=1e-12)

    def test_half_precision_is_computed_in_float32(self, term: Term) -> None:
        student, teacher = (z.half() for z in random_pair(8))
        with torch.autocast("cpu", torch.bfloat16):
            value = term(student.bfloat16(), teacher)
        exact = term(student.bfloat16().double(), teacher.double())
        assert value.dtype == torch.float32
        assert value.item() == pytest.approx(exact.item(), rel=1e-5)

    def test_other_shapes_are_refused(self, term: Term) -> None:
        with pytest.raises(ValueError, match="differ"):
            term(torch.zeros(3, 4), torch.zeros(1, 4))
