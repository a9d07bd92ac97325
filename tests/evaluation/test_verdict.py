import json
import math
import re

import pytest

from cpsd.evaluation.intervals import Interval
from cpsd.evaluation.verdict import Outcome, Verdict, headline, verdict


def gap(
    low: float, high: float, *, seeds: int | None = 5, covers_seeds: bool = True, note: str = ""
) -> Interval:
    mean = (low + high) / 2
    return Interval(mean, low, high, seeds, None, covers_seeds=covers_seeds, note=note)


def judged(difference: Interval) -> Verdict:
    return verdict(difference, arm="cpsd", reference="baseline-long")


@pytest.mark.parametrize(
    ("low", "high", "outcome"),
    [
        (0.004, 0.02, "better"),
        (-0.02, -0.004, "worse"),
        (-0.004, 0.02, "no difference shown"),
        (0.0, 0.02, "no difference shown"),
        (-0.02, 0.0, "no difference shown"),
        (0.0, 0.0, "no difference shown"),
    ],
)
def test_the_outcome_says_on_which_side_of_zero_the_interval_lies(
    low: float, high: float, outcome: Outcome
) -> None:
    assert judged(gap(low, high)).outcome == outcome


def test_a_gain_and_a_loss_are_told_in_points() -> None:
    assert judged(gap(0.004, 0.02)).text == (
        "cpsd is better than baseline-long by 1.2 points of mAP (95 % interval 0.4 to 2.0). "
        "This rests on 5 seeds."
    )
    assert judged(gap(-0.02, -0.004)).text == (
        "cpsd is worse than baseline-long by 1.2 points of mAP (95 % interval 0.4 to 2.0). "
        "This rests on 5 seeds."
    )


def test_no_difference_says_what_could_have_been_seen() -> None:
    text = judged(gap(-0.009, 0.015)).text
    assert "No difference is shown between cpsd and baseline-long" in text
    assert "-0.9 to 1.5 points of mAP" in text
    assert "below about 1.2 points could hardly have been seen" in text
    assert "no proof that the two are equal" in text


def test_one_value_of_an_arm_gives_no_verdict_however_large_the_difference() -> None:
    note = "One seed: the interval is over test images only."
    for low, high, order in ((0.1, 0.2, "higher"), (-0.2, -0.1, "lower")):
        found = judged(gap(low, high, seeds=1, covers_seeds=False, note=note))
        assert found.outcome == "no verdict"
        ends = f"{100 * low:.1f} to {100 * high:.1f}"
        said = f"15.0 points of mAP {order} (95 % interval {ends}, over test pictures alone), but"
        assert f"{said} training both once more might turn that round." in found.text
        assert "This rests on 1 seed." in found.text
        assert found.text.endswith(note)


def test_a_difference_that_rounds_to_nothing_has_no_direction() -> None:
    found = judged(gap(-0.005, 0.0052, seeds=1, covers_seeds=False))
    assert "their mAP is the same to 1 decimal (95 % interval -0.5 to 0.5, over" in found.text
    assert "points of mAP higher" not in found.text


def test_no_interval_gives_no_verdict() -> None:
    found = judged(gap(math.nan, math.nan, note="Too few positives for an interval."))
    assert found.outcome == "no verdict"
    assert "nan" not in found.text
    assert found.text.endswith("Too few positives for an interval.")


def test_what_it_rests_on_and_is_conditional_on_is_said() -> None:
    note = "Conditional on one teacher set: how much another would change is not known."
    found = judged(Interval(0.01, 0.005, 0.015, 3, 1, covers_seeds=True, note=note))
    assert found.text.endswith(f"This rests on 3 seeds and 1 teacher set. {note}")
    ensemble = judged(Interval(0.01, 0.005, 0.015, None, 2, covers_seeds=True))
    assert ensemble.text.endswith("This rests on 2 teacher sets.")


@pytest.mark.parametrize(
    ("low", "high", "words"),
    [
        (0.0003, 0.0203, "0.03 to 2.03"),  # one decimal would say 0.0
        (-0.0203, -0.0003, "0.03 to 2.03"),
        (0.001, 0.0015, "0.10 to 0.15"),
        (-0.1, 0.2, "-10.0 to 20.0"),
        (-1e-9, 0.1, "0.0000 to 10.0000"),  # not -0.0000
        (0.0, 0.0, "0.0 to 0.0"),
    ],
)
def test_ends_are_written_so_that_they_can_be_told_apart(
    low: float, high: float, words: str
) -> None:
    assert re.search(rf"(?<![\d-]){re.escape(words)}(?!\d)", judged(gap(low, high)).text)


def test_json_holds_every_field() -> None:
    found = judged(gap(0.004, 0.02))
    assert Verdict(**json.loads(json.dumps(found.to_json()))) == found


OUTCOMES: dict[Outcome, Interval] = {
    "better": gap(0.004, 0.02),
    "worse": gap(-0.02, -0.004),
    "no difference shown": gap(-0.004, 0.02),
    "no verdict": gap(0.004, 0.02, covers_seeds=False),
}


@pytest.mark.parametrize("epochs", OUTCOMES)
@pytest.mark.parametrize("budget", OUTCOMES)
def test_a_headline_says_both_outcomes_and_the_budget_first(
    epochs: Outcome, budget: Outcome
) -> None:
    found = headline(
        verdict(OUTCOMES[epochs], arm="cpsd", reference="baseline"),
        verdict(OUTCOMES[budget], arm="cpsd", reference="baseline-long"),
    )
    first, second = re.split(r"(?<=\.) ", found)
    says = {
        "better": ("cpsd pays", "It is better"),
        "worse": ("does not pay", "It is worse"),
        "no difference shown": ("not shown that cpsd pays", "difference"),
        "no verdict": ("cannot be said", "no verdict"),
    }
    assert says[budget][0] in first
    assert "whole budget" in first
    assert says[epochs][1] in second
    assert "its own epochs" in second
    assert ("Nor is" in second) == (epochs == budget == "no difference shown")


def test_verdicts_on_different_arms_make_no_headline() -> None:
    better = gap(0.004, 0.02)
    with pytest.raises(ValueError, match="psd-c and cpsd make no headline"):
        headline(
            verdict(better, arm="psd-c", reference="baseline"),
            verdict(better, arm="cpsd", reference="baseline-long"),
        )
