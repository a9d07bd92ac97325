"""Shares of a batch: together they are the batch, and no device has much more than another."""

from hypothesis import given
from hypothesis import strategies as st

from cpsd.shares import WHOLE, Share

items = st.lists(st.integers(), max_size=30)
numbers = st.integers(1, 6)


@given(items, numbers)
def test_shares_are_the_whole(batch: list[int], of: int) -> None:
    parts = [Share(index, of=of).take(batch) for index in range(of)]
    assert sorted(item for part in parts for item in part) == sorted(batch)
    assert max(map(len, parts)) - min(map(len, parts)) <= 1
    assert WHOLE.take(batch) == batch


@given(items.filter(bool), numbers)
def test_padded_shares_are_as_long_as_each_other_and_leave_nothing_out(
    batch: list[int], of: int
) -> None:
    parts = [Share(index, of=of).take_as_many(batch) for index in range(of)]
    assert {item for part in parts for item in part} == set(batch)
    assert len({len(part) for part in parts}) == 1
    assert len(parts[0]) == -(-len(batch) // of)
    assert WHOLE.take_as_many(batch) == batch
