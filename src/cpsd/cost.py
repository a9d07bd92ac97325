"""What a stage takes, and what that is in plain trainings.

A plain training is what the stage of the baseline takes. Costs are held against it by operations
where these are known, else by passes, and by the clock.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

PLAIN_TRAINING = "baseline"
"""The stage whose cost is the unit."""
METHOD = "student"
"""The stage that, with all that it needs, is the whole method."""
BACKWARD = 2
"""Forward passes that a backward pass counts as where operations are not known, for it has the
gradients of activations and of weights to compute (Kaplan et al., 2020, section 2.1)."""
OLD = "it was done before operations were counted"


@dataclass(frozen=True)
class Cost:
    """What a stage took, in all attempts at it.

    Args:
        seconds: wall time.
        images_forward: pictures put through a network, once for each network.
        images_backward: the same for backward passes.
        flops_forward: floating-point operations of the forward passes; None where not known.
        flops_backward: of the backward passes.
        peak_memory: most bytes that the process held in memory, in trainings with the processes
            that load pictures; None where not known.
        peak_gpu_memory: most bytes of tensors on a GPU; None where there was none.
        not_counted: why operations are not known.
    """

    seconds: float = 0.0
    images_forward: int = 0
    images_backward: int = 0
    flops_forward: int | None = None
    flops_backward: int | None = None
    peak_memory: int | None = None
    peak_gpu_memory: int | None = None
    not_counted: str | None = None

    def __post_init__(self) -> None:
        # Where no picture went through a network, there is nothing that is not known.
        for flops, images in (
            ("flops_forward", self.images_forward),
            ("flops_backward", self.images_backward),
        ):
            if getattr(self, flops) is None and images == 0 and self.not_counted is None:
                object.__setattr__(self, flops, 0)

    @property
    def flops(self) -> int | None:
        """Operations forward and backward; None where not known."""
        return _sum(self.flops_forward, self.flops_backward)

    def __add__(self, other: "Cost") -> "Cost":
        return Cost(
            self.seconds + other.seconds,
            self.images_forward + other.images_forward,
            self.images_backward + other.images_backward,
            _sum(self.flops_forward, other.flops_forward),
            _sum(self.flops_backward, other.flops_backward),
            most(self.peak_memory, other.peak_memory),
            most(self.peak_gpu_memory, other.peak_gpu_memory),
            self.not_counted or other.not_counted,
        )

    def share(self, share: float) -> "Cost":
        """Return a part of it; memory was needed whole.

        Example:
            >>> Cost(10.0, 100, 50, 900, 800).share(0.1)
            Cost(seconds=1.0, images_forward=10, images_backward=5, flops_forward=90, \
flops_backward=80, peak_memory=None, peak_gpu_memory=None, not_counted=None)
        """
        return replace(
            self,
            seconds=self.seconds * share,
            images_forward=round(self.images_forward * share),
            images_backward=round(self.images_backward * share),
            flops_forward=_part(self.flops_forward, share),
            flops_backward=_part(self.flops_backward, share),
        )

    def to_json(self) -> dict[str, Any]:
        """Return what ``from_json`` reads."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: object) -> "Cost":
        """Return a cost; the operations of one that was written without them are not known.

        Raises:
            ValueError: ``value`` is no cost.
        """
        known = {entry.name for entry in fields(cls)}
        if not isinstance(value, dict) or not set(value) <= known:
            raise ValueError("it does not say what the stage has cost")
        for key, number in value.items():
            optional = key not in ("seconds", "images_forward", "images_backward")
            kinds = str if key == "not_counted" else int | float
            if not isinstance(number, kinds) and not (optional and number is None):
                raise ValueError(f"it does not say what the stage has cost ('{key}')")
        cost = cls(**value)
        uncounted = cost.flops is None and cost.not_counted is None
        return replace(cost, not_counted=OLD) if uncounted else cost


def side_by_side(first: Cost, second: Cost) -> Cost:
    """Return what two take at the same time: as long as the longer, and the memory of both.

    Example:
        >>> side_by_side(Cost(9.0, 4, 2, 8, 4, 100), Cost(8.0, 3, 1, 6, 2, 50)).seconds
        9.0
    """
    return replace(
        first + second,
        seconds=max(first.seconds, second.seconds),
        peak_memory=_sum(first.peak_memory, second.peak_memory),
        peak_gpu_memory=_sum(first.peak_gpu_memory, second.peak_gpu_memory),
    )


def passes(cost: Cost) -> int:
    """Return the forward passes of a cost.

    Example:
        >>> passes(Cost(seconds=9.0, images_forward=100, images_backward=60))
        220
    """
    return cost.images_forward + BACKWARD * cost.images_backward


def work(cost: Cost, plain: Cost) -> tuple[int, int]:
    """Return how much of one kind two costs are: operations where known of both, else passes."""
    if cost.flops is not None and plain.flops is not None:
        return cost.flops, plain.flops
    return passes(cost), passes(plain)


def plain_trainings(cost: Cost, plain: Cost | None) -> dict[str, Any]:
    """Return a cost in plain trainings, as manifest and comparison hold it.

    Args:
        cost: of a stage, or of several.
        plain: of the baseline; None where it is not done.

    Example:
        >>> plain_trainings(Cost(30.0, 9, 0, 900, 0), Cost(20.0, 9, 9, 100, 200))
        {'plain_trainings': 3.0, 'plain_trainings_by': 'FLOPs', \
'plain_trainings_by_the_clock': 1.5}
    """
    plain = plain or Cost()
    of_cost, of_plain = work(cost, plain)
    reason = cost.not_counted or plain.not_counted
    by = "FLOPs" if reason is None else f"passes, for {reason}"
    return {
        "plain_trainings": of_cost / of_plain if of_plain else None,
        "plain_trainings_by": by,
        "plain_trainings_by_the_clock": cost.seconds / plain.seconds if plain.seconds else None,
    }


def accounts(costs: Mapping[str, Cost], needs: Mapping[str, Sequence[str]]) -> dict[str, Any]:
    """Return what stages, and the method in all, cost in plain trainings.

    The method is the student with all that it needs. The baseline is not counted by that name: it
    is there to compare with, and where teachers are made of one, the stage that takes it for them
    has its cost.

    Args:
        costs: of the stages done.
        needs: by stage of the run, the stages that it needs.
    """
    plain = costs.get(PLAIN_TRAINING)
    of_method: list[str] = []
    left = [METHOD]
    while left:
        name = left.pop()
        if name not in (*of_method, PLAIN_TRAINING):
            of_method.append(name)
            left += needs.get(name, ())
    whole = None
    if set(of_method) <= set(costs):
        names = [name for name in costs if name in of_method]
        cost = sum((costs[name] for name in names), Cost())
        whole = {"stages": names, "cost": cost.to_json(), **plain_trainings(cost, plain)}
    return {
        "stages": {name: plain_trainings(cost, plain) for name, cost in costs.items()},
        "method": whole,
    }


def most(first: int | None, second: int | None) -> int | None:
    """Return the larger of two that may not be known."""
    known = [number for number in (first, second) if number is not None]
    return max(known, default=None)


def _sum(first: int | None, second: int | None) -> int | None:
    return None if first is None or second is None else first + second


def _part(number: int | None, share: float) -> int | None:
    return None if number is None else round(number * share)
