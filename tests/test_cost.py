import pytest

from cpsd.cost import OLD, Cost, accounts, passes, plain_trainings

PLAIN = Cost(10.0, 100, 50, 1000, 2000, peak_memory=5)
TEACHERS = Cost(40.0, 400, 200, 3000, 4500, peak_memory=9)
STUDENT = Cost(20.0, 100, 50, 1000, 2000, peak_memory=7, peak_gpu_memory=3)


def test_costs_add_up() -> None:
    assert Cost(1.5, 2, 3) + Cost(0.5, 10, 20) == Cost(2.0, 12, 23)
    assert sum([Cost(1, 1, 1, 1, 1)] * 3, Cost()) == Cost(3, 3, 3, 3, 3)
    assert Cost(60.0, 500, 250, 4000, 6500, peak_memory=9, peak_gpu_memory=3) == TEACHERS + STUDENT


def test_what_is_not_known_of_a_part_is_not_known_of_the_whole() -> None:
    unknown = Cost(1.0, 10, 0, not_counted="it is odd")
    assert (PLAIN + unknown).flops is None
    assert (PLAIN + unknown).not_counted == "it is odd"
    assert (unknown + PLAIN).images_forward == 110


def test_where_no_picture_passed_no_operation_is_missing() -> None:
    assert Cost(3.0).flops == 0
    assert Cost(3.0, 5).flops is None
    assert (Cost(3.0) + PLAIN).flops == 3000


def test_costs_are_read_as_they_are_written() -> None:
    for cost in (Cost(), PLAIN, STUDENT, Cost(1.0, 5, not_counted="it is odd")):
        assert Cost.from_json(cost.to_json()) == cost


def test_costs_of_before_operations_were_counted_are_read() -> None:
    old = Cost.from_json({"seconds": 10.0, "images_forward": 100, "images_backward": 50})
    assert old == Cost(10.0, 100, 50, not_counted=OLD)
    idle = Cost.from_json({"seconds": 1.5, "images_forward": 0, "images_backward": 0})
    assert idle.flops == 0


@pytest.mark.parametrize(
    "value",
    [None, [1], {"euros": 3}, {"seconds": "long"}, {"seconds": None}, {"not_counted": 3}],
)
def test_what_is_no_cost_is_refused(value: object) -> None:
    with pytest.raises(ValueError, match="does not say what the stage has cost"):
        Cost.from_json(value)


def test_plain_trainings_are_counted_by_operations_and_by_the_clock() -> None:
    assert plain_trainings(TEACHERS, PLAIN) == {
        "plain_trainings": 2.5,
        "plain_trainings_by": "FLOPs",
        "plain_trainings_by_the_clock": 4.0,
    }


def test_without_operations_passes_are_counted_and_the_reason_is_told() -> None:
    odd = Cost(10.0, 100, 50, not_counted="it is odd")
    found = plain_trainings(TEACHERS, odd)
    assert found["plain_trainings"] == passes(TEACHERS) / passes(odd) == 4.0
    assert found["plain_trainings_by"] == "passes, for it is odd"


def test_without_a_plain_training_there_is_no_unit() -> None:
    found = plain_trainings(TEACHERS, None)
    assert found["plain_trainings"] is found["plain_trainings_by_the_clock"] is None


COSTS = {
    "label-graph": Cost(1.0),
    "baseline": PLAIN,
    "teachers": TEACHERS,
    "student": STUDENT,
    "predictions": Cost(9.0, 10, 0, 100),
}
NEEDS = {
    "baseline": ("label-graph",),
    "teachers": ("label-graph",),
    "student": ("teachers",),
    "predictions": ("student",),
}


def test_the_method_is_the_student_and_all_that_it_needs() -> None:
    found = accounts(COSTS, NEEDS)
    assert found["stages"]["student"]["plain_trainings"] == 1.0
    assert found["stages"]["label-graph"]["plain_trainings"] == 0.0
    assert found["method"]["stages"] == ["label-graph", "teachers", "student"]
    assert found["method"]["plain_trainings"] == 3.5
    assert found["method"]["plain_trainings_by_the_clock"] == 6.1
    assert found["method"]["cost"]["images_forward"] == 500


def test_a_baseline_that_teachers_are_made_of_is_counted_once() -> None:
    costs = {**COSTS, "teachers-start": PLAIN}
    needs = {**NEEDS, "teachers-start": ("baseline",), "teachers": ("teachers-start",)}
    found = accounts(costs, needs)
    assert found["method"]["stages"] == ["teachers", "student", "teachers-start"]
    assert found["method"]["plain_trainings"] == 4.5


def test_a_method_that_is_not_through_has_no_cost_yet() -> None:
    begun = {name: cost for name, cost in COSTS.items() if name != "student"}
    assert accounts(begun, NEEDS)["method"] is None
