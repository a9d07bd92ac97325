"""A run from its beginning to its end, with faults on the way."""

from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random

from attempts_at_job import Attempt, Job, wait_until
from damages import Damage
from faults import UNMET, Fault
from jumping_clock import jump, real_time

GAP = 0.25
"""Longest time between two faults, as a share of the undisturbed run's processor time."""
EARLY = 0.1
"""Share of moments that lie before a run has begun to work."""


@dataclass
class Struck:
    """What came of a fault.

    Args:
        kind: of the fault.
        outcome: in words.
        lost: seconds from the last file that is gone on from to the next attempt's work.
    """

    kind: str
    outcome: str
    lost: float = 0.0


@dataclass(frozen=True)
class Pace:
    """How an undisturbed run goes, in processor seconds of its main process.

    Args:
        start: until it begins to work.
        work: from there to its end.
    """

    start: float
    work: float


@dataclass
class DisturbedJob:
    """Starts a run again and again, and has faults befall it.

    Args:
        job: the run.
        draw: gives the next fault.
        left: how many faults shall strike at most.
        pace: of the undisturbed run.
        random: draws moments.
    """

    job: Job
    draw: Callable[[], Fault]
    left: int
    pace: Pace
    random: Random
    struck: list[Struck] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    _damage: Damage | None = None
    _owed: tuple[Struck, float] | None = None

    def run(self) -> None:
        """Let faults strike until none is left or the run is through; then let it end in peace.

        Raises:
            HangingError: an attempt does not end.
            UnexpectedEndError: an attempt ended in a way that no fault explains.
        """
        try:
            # The last attempt as a shell starts it.
            while not self._goes_through(self.job.start(fresh=self.left <= 0)):
                pass
        finally:
            jump(0.0)

    def _goes_through(self, attempt: Attempt) -> bool:
        """Let faults befall an attempt; return whether the run is through."""
        if self._damage is not None and not self._gets_over_damage(attempt, self._damage):
            return False
        while self.left > 0:
            fault = self.draw()
            if not self._wait_for_moment(attempt, fault):
                break
            self.left -= 1
            struck = Struck(fault.kind, "")
            self.struck.append(struck)
            try:
                if fault.stops:
                    return self._is_through_with(fault, attempt, struck)
                struck.outcome = fault.strike(attempt)
            finally:
                fault.mend(self.job)
        self._wait(attempt, lambda: False)
        if attempt.wait() != 0:
            raise UnexpectedEndError(
                f"ended with {attempt.code} though nothing befell it:\n{attempt.said[-3000:]}"
            )
        return True

    def _is_through_with(self, fault: Fault, attempt: Attempt, struck: Struck) -> bool:
        """Strike and wait for the attempt's end; return whether the run was through before it."""
        saved = self.job.last_progress()
        struck.outcome = fault.strike(attempt)
        strike = real_time()
        attempt.wait()
        told, failures = fault.ended(attempt)
        struck.outcome = struck.outcome or told
        self.failures += [f"{fault.kind}: {failure}" for failure in failures]
        if isinstance(fault, Damage) and fault.file is not None:
            self._damage = fault
        if struck.outcome == UNMET and attempt.code == 0:
            return True
        if self._owed is not None:  # the one before was not made good when this one came
            self._owed[0].lost = strike - self._owed[1]
            saved = strike
        self._owed = (struck, saved if saved >= attempt.began else strike)
        return False

    def _gets_over_damage(self, attempt: Attempt, damage: Damage) -> bool:
        """Wait until it is seen what a damaged file does; return whether the attempt goes on."""
        struck = next(s for s in reversed(self.struck) if s.kind == damage.kind)
        self._wait(attempt, lambda: damage.settled(attempt) is not None)
        told = damage.settled(attempt)
        assert told is not None, "an attempt that is over has settled everything"
        struck.outcome = told
        self.failures += [f"{damage.kind}: {failure}" for failure in damage.failures(attempt)]
        self._damage = None
        if attempt.code in (None, 0):
            return True
        damage.follow_remedy(attempt)
        return False

    def _wait_for_moment(self, attempt: Attempt, fault: Fault) -> bool:
        """Wait for a moment at which the fault can strike; False if the attempt ends first."""
        now = attempt.processor_time()
        if self.random.random() < EARLY:
            moment = now + self.random.uniform(0, self.pace.start)
        else:
            later = self.random.uniform(0, GAP * self.pace.work)
            moment = max(now, self.pace.start) + later
        return self._wait(attempt, lambda: attempt.processor_time() >= moment) and self._wait(
            attempt, lambda: fault.can_strike(attempt)
        )

    def _wait(self, attempt: Attempt, ready: Callable[[], bool]) -> bool:
        """Wait until it is ready, and see meanwhile when the last fault is made good."""

        def look() -> bool:
            if self._owed is not None and attempt.is_at_work():
                self._owed[0].lost = real_time() - self._owed[1]
                self._owed = None
            return ready()

        return wait_until(attempt, look)


class UnexpectedEndError(Exception):
    """An attempt ended in a way that no fault explains."""
