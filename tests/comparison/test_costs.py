import pytest

from cpsd.comparison.arms import ARMS
from cpsd.comparison.costs import consumed, long_epochs, passes
from cpsd.run import Cost

COSTS = {
    "baseline": Cost(10.0, 100, 50),
    "teachers/co-occurrence": Cost(20.0, 300, 150),
    "teachers/dis-occurrence": Cost(40.0, 200, 100),
    "soft-labels": Cost(5.0, 500),
    "student": Cost(8.0, 90, 40),
}
PARTS = {"co-occurrence": 3, "dis-occurrence": 2}
BY_NAME = {arm.name: arm for arm in ARMS}


@pytest.mark.parametrize(
    ("name", "alpha", "expected"),
    [
        ("baseline", 0.5, Cost(10.0, 100, 50)),
        ("baseline-long", 0.5, Cost(10.0, 100, 50)),
        ("cpsd", 0.5, Cost(73.0, 1090, 290)),
        # Three of the five teachers that the soft labels were stored for.
        ("psd-c", 1.0, Cost(31.0, 90 + 300 + 300, 190)),
        ("psd-d", 0.0, Cost(50.0, 90 + 200 + 200, 140)),
    ],
)
def test_a_predictor_took_all_that_it_could_not_be_had_without(
    name: str, alpha: float, expected: Cost
) -> None:
    assert consumed(BY_NAME[name], alpha, PARTS, COSTS) == expected


def test_the_long_baseline_never_costs_more_than_the_method() -> None:
    method, plain = Cost(images_forward=1090, images_backward=290), Cost(0.0, 100, 50)
    epochs = long_epochs(method, plain, 10)
    assert epochs * passes(plain) / 10 <= passes(method) < (epochs + 1) * passes(plain) / 10
    assert long_epochs(Cost(images_forward=1), plain, 10) == 10  # never shorter than the baseline
