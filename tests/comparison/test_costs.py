import pytest

from cpsd.comparison.arms import ARMS
from cpsd.comparison.costs import consumed, consumed_by_teachers, long_epochs
from cpsd.cost import Cost, passes

BASELINE = Cost(10.0, 100, 50, 1000, 1100)
COSTS = {
    "teachers/co-occurrence": Cost(20.0, 300, 150, 2000, 2200),
    "teachers/dis-occurrence": Cost(40.0, 200, 100, 1500, 1700),
    "soft-labels": Cost(5.0, 500, 0, 5000),
    "student": Cost(8.0, 90, 40, 900, 950),
}
PARTS = {"co-occurrence": 3, "dis-occurrence": 2}
BY_NAME = {arm.name: arm for arm in ARMS}


@pytest.mark.parametrize(
    ("name", "alpha", "expected"),
    [
        ("baseline", 0.5, BASELINE),
        ("baseline-long", 0.5, BASELINE),
        ("cpsd", 0.5, Cost(73.0, 1090, 290, 9400, 4850)),
        # Three of the five teachers that the soft labels were stored for.
        ("psd-c", 1.0, Cost(31.0, 90 + 300 + 300, 190, 900 + 3000 + 2000, 950 + 2200)),
        ("psd-d", 0.0, Cost(50.0, 90 + 200 + 200, 140, 900 + 2000 + 1500, 950 + 1700)),
    ],
)
def test_a_predictor_took_all_that_it_could_not_be_had_without(
    name: str, alpha: float, expected: Cost
) -> None:
    # The stages that an arm needs: a student needs no baseline.
    costs = {"baseline": BASELINE} if name.startswith("baseline") else COSTS
    assert consumed(BY_NAME[name], alpha, PARTS, costs) == expected


def test_a_baseline_that_teachers_are_made_of_counts() -> None:
    costs = {**COSTS, "teachers-start": BASELINE}
    made = consumed(BY_NAME["psd-c"], 1.0, PARTS, costs)
    assert made == consumed(BY_NAME["psd-c"], 1.0, PARTS, COSTS) + BASELINE
    ensemble = consumed_by_teachers("teachers/co-occurrence", PARTS, costs)
    assert ensemble == COSTS["teachers/co-occurrence"] + BASELINE


def test_the_long_baseline_never_costs_more_than_the_method() -> None:
    method, plain = Cost(0.0, 1090, 290, 3000, 5120), Cost(0.0, 100, 50, 400, 800)
    epochs = long_epochs(method, plain, 10)
    assert epochs == 67  # 8120 operations, of which an epoch takes 120
    assert long_epochs(Cost(0.0, 1, 0, 1), plain, 10) == 10  # never shorter than the baseline


def test_without_operations_the_long_baseline_is_counted_in_passes() -> None:
    method, plain = Cost(0.0, 1090, 290), Cost(0.0, 100, 50, 1, 1)
    epochs = long_epochs(method, plain, 10)
    assert epochs * passes(plain) / 10 <= passes(method) < (epochs + 1) * passes(plain) / 10
