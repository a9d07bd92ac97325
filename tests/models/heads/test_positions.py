"""Sine positions against the formula, number by number."""

import math

import pytest
import torch

from cpsd.models.heads.positions import sine_positions


def expected(row: int, column: int, height: int, width: int, num_features: int) -> list[float]:
    """Return the position of a place, counted from 0: its row's numbers, then its column's."""
    numbers = []
    for place, length in ((row, height), (column, width)):
        angle = (place + 1) / (length + 1e-6) * 2 * math.pi
        half = num_features // 2
        for feature in range(half):
            scaled = angle / 10_000 ** (2 * (feature // 2) / half)
            numbers.append(math.sin(scaled) if feature % 2 == 0 else math.cos(scaled))
    return numbers


@pytest.mark.parametrize(("height", "width", "num_features"), [(1, 1, 4), (2, 3, 8), (7, 5, 24)])
def test_positions_are_those_of_the_formula(height: int, width: int, num_features: int) -> None:
    found = sine_positions(height, width, num_features, like=torch.empty(0))
    assert found.shape == (height * width, num_features)
    for row in range(height):
        for column in range(width):
            place = torch.tensor(expected(row, column, height, width, num_features))
            torch.testing.assert_close(found[row * width + column], place, rtol=0, atol=2e-6)


def test_positions_have_the_wanted_type_and_are_computed_in_32_bit() -> None:
    coarse = sine_positions(3, 3, 8, like=torch.empty(0, dtype=torch.bfloat16))
    fine = sine_positions(3, 3, 8, like=torch.empty(0))
    assert coarse.dtype == torch.bfloat16
    assert torch.equal(coarse, fine.to(torch.bfloat16))
