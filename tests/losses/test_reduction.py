import pytest
import torch

from cpsd.losses.reduction import at_least_float32, reduce_entries, require_same_shape


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (torch.float16, torch.float32),
        (torch.bfloat16, torch.float32),
        (torch.int8, torch.float32),
        (torch.float32, torch.float32),
        (torch.float64, torch.float64),
    ],
    ids=str,
)
def test_only_coarse_types_are_raised(given: torch.dtype, expected: torch.dtype) -> None:
    assert at_least_float32(torch.ones(2, dtype=given)).dtype == expected


def test_mean_over_nothing_is_zero_with_zero_gradient() -> None:
    values = torch.zeros(3, requires_grad=True)
    loss = reduce_entries(values * 0, "mean", count=torch.tensor(0))
    (gradient,) = torch.autograd.grad(loss, values)
    assert loss.item() == 0
    assert torch.equal(gradient, torch.zeros(3))


def test_mean_of_an_empty_batch_is_zero() -> None:
    assert reduce_entries(torch.zeros(0), "mean", count=0).item() == 0


def test_unknown_reduction_is_refused() -> None:
    with pytest.raises(ValueError, match=r"'max'.*'sum' or 'mean'"):
        reduce_entries(torch.zeros(3), "max", count=3)  # type: ignore[arg-type]


def test_shapes_that_would_broadcast_are_refused() -> None:
    with pytest.raises(ValueError, match=r"\(4, 3\) and \(4, 1\)"):
        require_same_shape(torch.zeros(4, 3), torch.zeros(4, 1))
