"""What arms cost: counted in forward passes of one network over one picture.

A backward pass counts as two forward passes, for it has the gradients of activations and of weights
to compute (Kaplan et al., 2020, section 2.1). That a sub-task teacher's head is a little
smaller than the whole one's is not counted.
"""

from collections.abc import Iterable, Mapping

from cpsd.comparison.arms import CPSD, Arm, Budget
from cpsd.config import RunConfig
from cpsd.evaluation.scoreboard import BASELINE, STUDENT, TEACHERS, ensemble_name
from cpsd.losses.objective import strategy_shares
from cpsd.method import student_config, teacher_config
from cpsd.pipeline import SOFT_LABELS, START
from cpsd.run import Cost
from cpsd.strategies import WHOLE, base_strategy
from cpsd.training_work import num_stored_views

BACKWARD = 2
"""Forward passes that a backward pass counts as."""


def passes(cost: Cost) -> int:
    """Return the forward passes of a cost.

    Example:
        >>> passes(Cost(seconds=9.0, images_forward=100, images_backward=60))
        220
    """
    return cost.images_forward + BACKWARD * cost.images_backward


def consumed(arm: Arm, alpha: float, parts: Mapping[str, int], costs: Mapping[str, Cost]) -> Cost:
    """Return all that the predictor of one run took: its own training, its teachers, their passes.

    What runs share is counted in each of them, for each could not be had without it. Teachers that
    have no share in the distillation (PSD-C and PSD-D) are not counted, nor their part of
    the pass that stores soft labels.

    Args:
        arm: whose run it is.
        alpha: ``distillation.alpha`` of the run.
        parts: number of parts by strategy of the run.
        costs: of the run's stages.
    """
    if arm.predictor == BASELINE:
        return costs[BASELINE]
    shares = strategy_shares(alpha, len(parts))
    taught_by = [name for name, share in zip(parts, shares, strict=True) if share > 0]
    stored = costs[SOFT_LABELS]
    used = sum(parts[strategy] for strategy in taught_by) / sum(parts.values())
    passed = Cost(stored.seconds * used, round(stored.images_forward * used))
    return costs[STUDENT] + passed + _trained(taught_by, costs) + _start(costs)


def consumed_by_teachers(
    ensemble: str, strategies: Iterable[str], costs: Mapping[str, Cost]
) -> Cost:
    """Return what the teachers took that are scored as ``ensemble``.

    Args:
        ensemble: ``teachers/<strategy>``, or ``teachers`` for those of all strategies.
        strategies: of the run.
        costs: of the run's stages.
    """
    own = _trained(strategies, costs) if ensemble == TEACHERS else costs[ensemble]
    return own + _start(costs)


def _start(costs: Mapping[str, Cost]) -> Cost:
    """Return what the baseline took that all teachers are made of, where they are of one."""
    return costs.get(START, Cost())


def _trained(strategies: Iterable[str], costs: Mapping[str, Cost]) -> Cost:
    return sum((costs[ensemble_name(strategy)] for strategy in strategies), Cost())


def long_epochs(method: Cost, baseline: Cost, epochs: int) -> int:
    """Return how many epochs of plain training cost no more than the method.

    Args:
        method: what the method consumed.
        baseline: what ``epochs`` epochs of plain training consumed.
        epochs: of the baseline.

    Example:
        >>> long_epochs(Cost(images_forward=1000), Cost(images_forward=150), epochs=10)
        66
    """
    return max(epochs, passes(method) * epochs // passes(baseline))


def planned_passes(
    arm: Arm, config: RunConfig, budget: Budget, num_images: int, *, with_teachers: bool
) -> int:
    """Return about how many forward passes a run of ``arm`` will take, to tell the time left.

    Args:
        arm: whose run it is.
        config: the method's settings.
        budget: what the method takes.
        num_images: training pictures.
        with_teachers: its teachers are not there yet.
    """
    run = arm.config(config, budget, seed=config.seed, teachers=config.seed)
    step = 1 + BACKWARD
    if arm.predictor == BASELINE:
        return run.training.epochs * step * num_images
    total = student_config(run).training.epochs * step
    shares_teachers = run.partition == config.partition and arm.name != CPSD
    if with_teachers and not shares_teachers:
        whole = [base_strategy(name) == WHOLE for name in run.partition.strategies]
        num_teachers = len(whole) if all(whole) else budget.num_teachers
        epochs = teacher_config(run).training.epochs
        total += num_teachers * (epochs * step + num_stored_views(run))
    return total * num_images
