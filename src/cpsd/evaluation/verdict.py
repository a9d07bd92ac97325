"""Verdicts in words that follow from intervals, for readers who are no statisticians."""

import math
from dataclasses import asdict, dataclass
from typing import Any, Literal

from cpsd.evaluation.intervals import Interval

Outcome = Literal["better", "worse", "no difference shown", "no verdict"]

_MOST_DECIMALS = 4


@dataclass(frozen=True)
class Verdict:
    """What an interval of a difference says.

    Args:
        arm: what is judged.
        reference: what it is compared with.
        metric: in what.
        outcome: the verdict in a word or three.
        text: the verdict in sentences, with the figures and what they rest on.
    """

    arm: str
    reference: str
    metric: str
    outcome: Outcome
    text: str

    def to_json(self) -> dict[str, Any]:
        """Return what JSON can hold."""
        return asdict(self)


def verdict(difference: Interval, *, arm: str, reference: str, metric: str = "mAP") -> Verdict:
    """Return the verdict on ``arm`` that follows from its difference to ``reference``.

    An interval that holds zero shows no difference. One that does not cover chance in training
    (one seed) gives no verdict, wherever it lies: another training could turn it round.

    Args:
        difference: ``arm - reference``, from ``cpsd.evaluation.intervals.difference``.
        arm: name of the arm.
        reference: name of what it is compared with.
        metric: name of the metric; higher is better.

    Example:
        >>> found = Interval(0.012, 0.004, 0.02, 5, None, covers_seeds=True)
        >>> print(verdict(found, arm="baseline-long", reference="baseline").text)
        baseline-long is better than baseline by 1.2 points of mAP (95 % interval 0.4 to 2.0). \
This rests on 5 seeds.
    """
    outcome = _outcome(difference)
    sentences = [_finding(difference, outcome, arm, reference, metric), _rests_on(difference)]
    text = " ".join(part for part in (*sentences, difference.note) if part)
    return Verdict(arm, reference, metric, outcome, text)


def headline(at_equal_epochs: Verdict, at_equal_budget: Verdict) -> str:
    """Return in two sentences whether an arm pays.

    Args:
        at_equal_epochs: the verdict against plain training of the arm's own epochs.
        at_equal_budget: against plain training that was given all that the arm consumed.

    Raises:
        ValueError: verdicts on different arms or metrics.

    Example:
        >>> better = Interval(0.012, 0.004, 0.02, 5, 5, covers_seeds=True)
        >>> unclear = Interval(0.002, -0.006, 0.01, 5, 5, covers_seeds=True)
        >>> print(headline(
        ...     verdict(better, arm="cpsd", reference="baseline"),
        ...     verdict(unclear, arm="cpsd", reference="baseline-long"),
        ... ))
        It is not shown that cpsd pays: no difference in mAP is shown to plain training that is \
given its whole budget. It is better than plain training of its own epochs.
    """
    arm, metric = at_equal_budget.arm, at_equal_budget.metric
    if (at_equal_epochs.arm, at_equal_epochs.metric) != (arm, metric):
        raise ValueError(f"Verdicts on {at_equal_epochs.arm} and {arm} make no headline.")
    budget, epochs = "plain training that is given its whole budget", "plain training of its own"
    first = {
        "better": f"{arm} pays: its {metric} is better than that of {budget}.",
        "worse": f"{arm} does not pay: its {metric} is worse than that of {budget}.",
        "no difference shown": f"It is not shown that {arm} pays: no difference in {metric} is "
        f"shown to {budget}.",
        "no verdict": f"Whether {arm} pays cannot be said: there is no verdict on its {metric} "
        f"against {budget}.",
    }
    second = {
        "better": f"It is better than {epochs} epochs.",
        "worse": f"It is worse than {epochs} epochs.",
        "no difference shown": f"Nor is a difference shown to {epochs} epochs."
        if at_equal_budget.outcome == "no difference shown"
        else f"No difference is shown to {epochs} epochs.",
        "no verdict": f"There is no verdict against {epochs} epochs.",
    }
    return f"{first[at_equal_budget.outcome]} {second[at_equal_epochs.outcome]}"


def _outcome(difference: Interval) -> Outcome:
    if not difference.covers_seeds or math.isnan(difference.low):
        return "no verdict"
    if difference.low > 0:
        return "better"
    return "worse" if difference.high < 0 else "no difference shown"


def _finding(difference: Interval, outcome: Outcome, arm: str, reference: str, metric: str) -> str:
    if math.isnan(difference.low):
        return f"There is no verdict on {arm} against {reference}: no interval can be made."
    sign = -1 if outcome == "worse" else 1
    ends = sorted((sign * difference.low, sign * difference.high))
    decimals = _decimals(difference)
    low, high, by, smallest = (
        # Adding 0.0 turns -0.0 into 0.0.
        f"{round(100 * value, decimals) + 0.0:.{decimals}f}"
        for value in (*ends, abs(difference.mean), (ends[1] - ends[0]) / 2)
    )
    if outcome in ("better", "worse"):
        return (
            f"{arm} is {outcome} than {reference} by {by} points of {metric} "
            f"(95 % interval {low} to {high})."
        )
    if outcome == "no verdict":
        order = "higher" if difference.mean >= 0 else "lower"
        found = f"it is {by} points of {metric} {order}"
        if float(by) == 0:
            found = f"their {metric} is the same to {decimals} decimal{'s' * (decimals > 1)}"
        return (
            f"There is no verdict on {arm} against {reference}: {found} (95 % interval {low} to "
            f"{high}, over test pictures alone), but training both once more might turn that round."
        )
    return (
        f"No difference is shown between {arm} and {reference} (95 % interval of the difference "
        f"{low} to {high} points of {metric}). Differences below about {smallest} points could "
        "hardly have been seen here; this is no proof that the two are equal."
    )


def _rests_on(difference: Interval) -> str:
    counts = ((difference.num_seeds, "seed"), (difference.num_teacher_sets, "teacher set"))
    parts = [f"{n} {what}{'s' * (n > 1)}" for n, what in counts if n is not None]
    return f"This rests on {' and '.join(parts)}." if parts else ""


def _decimals(difference: Interval) -> int:
    """Return with how many decimals the ends are told apart from zero and from each other."""
    half = 50 * (difference.high - difference.low)
    for decimals in range(1, _MOST_DECIMALS):
        hidden = any(
            end != 0 and round(100 * end, decimals) == 0
            for end in (difference.low, difference.high)
        )
        if (half == 0 or half >= 2 * 10**-decimals) and not hidden:
            return decimals
    return _MOST_DECIMALS
