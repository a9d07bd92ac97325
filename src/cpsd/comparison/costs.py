"""What arms cost: all that their predictors could not be had without."""

from collections.abc import Iterable, Mapping
from dataclasses import replace

from cpsd.comparison.arms import CPSD, Arm, Budget, without_baseline
from cpsd.config import DistillationConfig, RunConfig
from cpsd.cost import BACKWARD, Cost, work
from cpsd.evaluation.scoreboard import BASELINE, STUDENT, TEACHERS, ensemble_name
from cpsd.losses.objective import strategy_shares
from cpsd.method import student_config, teacher_config
from cpsd.models.stage_shares import stage_shares
from cpsd.pipeline import SOFT_LABELS, START
from cpsd.strategies import WHOLE, base_strategy
from cpsd.training_work import num_stored_views


def consumed(
    arm: Arm,
    distillation: DistillationConfig,
    parts: Mapping[str, int],
    costs: Mapping[str, Cost],
    *,
    shared: float,
) -> Cost:
    """Return all that the predictor of one run took: its own training, its teachers, their passes.

    What runs share is counted in each of them, for each could not be had without it. Teachers that
    have no share in the distillation (PSD-C and PSD-D) are not counted, nor what is theirs alone
    of the pass that stores soft labels.

    Args:
        arm: whose run it is.
        distillation: as the run has it.
        parts: number of parts by strategy of the run.
        costs: of the run's stages.
        shared: ``shared_share`` of the run's settings.
    """
    if arm.predictor == BASELINE:
        return costs[BASELINE]
    shares = strategy_shares(distillation.alpha, len(parts))
    taught_by = [name for name, share in zip(parts, shares, strict=True) if share > 0]
    further = _further_teachers(distillation)
    num_used = sum(parts[strategy] for strategy in taught_by) + further
    num_teachers = sum(parts.values()) + further
    stored = _stored_for(num_used, num_teachers, costs[SOFT_LABELS], shared)
    return costs[STUDENT] + stored + _trained(taught_by, costs) + _start(costs)


def _stored_for(num_used: int, num_teachers: int, stored: Cost, shared: float) -> Cost:
    """Return what of a pass that stored soft labels a part of its teachers took.

    What all of them share (``shared`` of a teacher's forward pass) had to be computed for any.
    """
    of_used, of_all = (shared + count * (1 - shared) for count in (num_used, num_teachers))
    images = round(stored.images_forward * num_used / num_teachers)
    return replace(stored.share(of_used / of_all), images_forward=images)


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
    """Return what the baseline took that all teachers are made of, or that is one of them."""
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
        >>> long_epochs(Cost(flops_forward=1000), Cost(flops_forward=150), epochs=10)
        66
    """
    of_method, of_baseline = work(method, baseline)
    return max(epochs, of_method * epochs // of_baseline)


def shared_share(config: RunConfig) -> float:
    """Return the share of a teacher's forward pass that ``teachers.shared_stages`` take.

    Raises:
        ModelError: timm has no such model, or it takes no pictures of this size.
    """
    count = config.teachers.shared_stages
    if count == 0:
        return 0.0
    # More stages than there are is refused where networks are made.
    stages = stage_shares(config.model, config.image.size).stages
    return stages[min(count, len(stages)) - 1] if stages else 0.0


def whole_teachers(config: RunConfig, num_teachers: int, num_strategies: int, shared: float) -> int:
    """Return how many teachers of all labels can be had for what the sub-task teachers cost.

    As many, where teachers share nothing. Where they do, a strategy's teachers train on one pass
    through what is shared, and teachers of all labels, being a strategy each, on one each. What
    heads of more labels take beyond those of fewer is not counted.

    Args:
        config: the method's settings.
        num_teachers: sub-task teachers of all strategies.
        num_strategies: of the method.
        shared: ``shared_share`` of the settings.
    """
    common = num_stored_views(config) * shared
    of_method = _teacher_passes(config, num_teachers, num_strategies, shared) - common
    of_one = _teacher_passes(without_baseline(config), 1, 1, shared) - common
    return int(of_method / of_one + 1e-9)  # a quotient may come out just below a whole number


def _teacher_passes(
    config: RunConfig, num_teachers: int, num_strategies: int, shared: float
) -> float:
    """Return the forward passes a picture that teachers take, their soft labels included.

    A strategy's teachers train on a pass of their own through what they share; those of all
    strategies store soft labels on one.
    """
    own = num_teachers * (1 - shared)
    stored = own + _further_teachers(config.distillation) * (1 - shared)
    epochs = teacher_config(config).training.epochs
    training = epochs * (num_strategies * shared + (1 + BACKWARD) * own)
    return training + num_stored_views(config) * (shared + stored)


def _further_teachers(distillation: DistillationConfig) -> int:
    """Return how many teachers there are beside those of parts: the baseline, or none."""
    return 1 if distillation.baseline else 0


def planned_passes(
    arm: Arm,
    config: RunConfig,
    budget: Budget,
    num_images: int,
    *,
    with_teachers: bool,
    shared: float,
) -> int:
    """Return about how many forward passes a run of ``arm`` will take, to tell the time left.

    Args:
        arm: whose run it is.
        config: the method's settings.
        budget: what the method takes.
        num_images: training pictures.
        with_teachers: its teachers are not there yet.
        shared: ``shared_share`` of the settings.
    """
    run = arm.config(config, budget, seed=config.seed, teachers=config.seed)
    step = 1 + BACKWARD
    if arm.predictor == BASELINE:
        return run.training.epochs * step * num_images
    total = float(student_config(run).training.epochs * step)
    # Of another seed here, whatever they are.
    teachers = replace(run.teachers, seed=config.teachers.seed)
    same_teachers = (run.partition, teachers) == (config.partition, config.teachers)
    shares_teachers = same_teachers and arm.name != CPSD
    if with_teachers and not shares_teachers:
        whole = [base_strategy(name) == WHOLE for name in run.partition.strategies]
        num_teachers = len(whole) if all(whole) else budget.num_teachers
        shared = shared if run.teachers.shared_stages else 0.0
        total += _teacher_passes(run, num_teachers, len(whole), shared)
    return round(total * num_images)
