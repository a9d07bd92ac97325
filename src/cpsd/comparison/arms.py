"""The arms of a comparison: ordinary runs that differ in a few settings.

An arm is the method, plain training, or something simpler that could explain a gain. Each is a
``RunConfig``, so that stages with the same fingerprint are the same work and done once.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

from cpsd.config import RunConfig
from cpsd.errors import ConfigError
from cpsd.evaluation.scoreboard import BASELINE, STUDENT, TEACHERS, ensemble_name
from cpsd.method import student_config, teacher_config
from cpsd.strategies import CUTS, RANDOM, SHUFFLED, WHOLE

BASELINE_LONG = "baseline-long"
CPSD = "cpsd"


@dataclass(frozen=True)
class Budget:
    """What the method takes, which some arms are given in another form.

    Args:
        num_teachers: sub-task teachers of both strategies.
        whole_teachers: teachers of all labels that can be had for what those take.
        long_epochs: epochs of plain training that cost as much as the whole method.
    """

    num_teachers: int
    whole_teachers: int
    long_epochs: int


@dataclass(frozen=True)
class Arm:
    """One way to come to a predictor.

    Args:
        name: of the arm.
        description: what it is, in a sentence for the table's reader.
        predictor: which predictor of its runs is scored, ``baseline`` or ``student``.
        settings: the method's settings to the arm's.
        ensembles: teachers of its runs that are scored too, by predictor.
        by_budget: whether ``settings`` read the budget, so that the method's run comes first.
    """

    name: str
    description: str
    predictor: str
    settings: Callable[[RunConfig, Budget], RunConfig]
    ensembles: tuple[str, ...] = ()
    by_budget: bool = False

    def config(self, config: RunConfig, budget: Budget, *, seed: int, teachers: int) -> RunConfig:
        """Return the settings of one run.

        Args:
            config: the method's settings.
            budget: what the method takes.
            seed: of the baseline or student.
            teachers: seed of partitions, teachers and views.
        """
        settings = self.settings(config, budget)
        return replace(settings, seed=seed, teachers=replace(settings.teachers, seed=teachers))


def _method(config: RunConfig, budget: Budget) -> RunConfig:
    if config.teachers.need_baseline or config.distillation.baseline:
        return config  # its teachers are made of a baseline of training.epochs, or that is one
    # Written out, so that the baseline of its runs is the arm's and needs no training of its own.
    teachers = replace(config.teachers, epochs=teacher_config(config).training.epochs)
    return replace(_plain(config, budget), teachers=teachers)


def _plain(config: RunConfig, budget: Budget) -> RunConfig:
    epochs = student_config(config).training.epochs
    return replace(config, training=replace(config.training, epochs=epochs))


def _long(config: RunConfig, budget: Budget) -> RunConfig:
    return replace(config, training=replace(config.training, epochs=budget.long_epochs))


def _one_whole_teacher(config: RunConfig, budget: Budget) -> RunConfig:
    # Trained as the baseline is, whatever other teachers share: it is a baseline of another seed.
    epochs = student_config(config).training.epochs
    teachers = replace(
        config.teachers, epochs=epochs, learning_rate=None, shared_stages=0, start="fresh"
    )
    return _taught_by(replace(without_baseline(config), teachers=teachers), (WHOLE,))


def _whole_teachers(config: RunConfig, budget: Budget) -> RunConfig:
    copies = [f"{WHOLE}-{copy}" for copy in range(2, budget.whole_teachers + 1)]
    equal = replace(config.distillation, alpha=1 / budget.whole_teachers, baseline=0.0)
    return _taught_by(replace(config, distillation=equal), (WHOLE, *copies))


def without_baseline(config: RunConfig) -> RunConfig:
    """Return the settings without the baseline among the student's teachers."""
    return replace(config, distillation=replace(config.distillation, baseline=0.0))


def _random_parts(config: RunConfig, budget: Budget) -> RunConfig:
    return _taught_by(config, tuple(SHUFFLED + cut for cut in CUTS))


def _first_cut(config: RunConfig, budget: Budget) -> RunConfig:
    return replace(_method(config, budget), distillation=replace(config.distillation, alpha=1.0))


def _second_cut(config: RunConfig, budget: Budget) -> RunConfig:
    return replace(_method(config, budget), distillation=replace(config.distillation, alpha=0.0))


def _taught_by(config: RunConfig, strategies: tuple[str, ...]) -> RunConfig:
    return replace(config, partition=replace(config.partition, strategies=strategies))


ARMS = (
    Arm(BASELINE, "plain training for as many epochs as the student", BASELINE, _plain),
    Arm(
        CPSD,
        "the method: student of the teachers of both cuts",
        STUDENT,
        _method,
        (*(ensemble_name(cut) for cut in CUTS), TEACHERS),
    ),
    Arm("psd-c", "student of the co-occurrence teachers alone", STUDENT, _first_cut),
    Arm("psd-d", "student of the dis-occurrence teachers alone", STUDENT, _second_cut),
    Arm(
        "self-kd",
        "student of one teacher of all labels, trained like the baseline",
        STUDENT,
        _one_whole_teacher,
    ),
    Arm(
        RANDOM,
        "the method with random labels in parts of the same sizes",
        STUDENT,
        _random_parts,
        (TEACHERS,),
    ),
    Arm(
        "ensemble-kd",
        "student of as many teachers of all labels as can be had for the sub-task teachers' cost",
        STUDENT,
        _whole_teachers,
        (TEACHERS,),
        by_budget=True,
    ),
    Arm(
        BASELINE_LONG,
        "plain training that is given all that the method consumed",
        BASELINE,
        _long,
        by_budget=True,
    ),
)
"""In the order in which a seed's arms are run: the long baseline needs the method's cost."""


def chosen_arms(names: tuple[str, ...] | None) -> tuple[Arm, ...]:
    """Return the arms by these names, all by default; the two that the rest is held against always.

    Raises:
        ConfigError: an unknown name.
    """
    known = {arm.name for arm in ARMS}
    for name in names or ():
        if name not in known:
            raise ConfigError(
                f"--arms: there is no arm '{name}'; there are {', '.join(sorted(known))}."
            )
    wanted = known if names is None else {*names, BASELINE, CPSD}
    return tuple(arm for arm in ARMS if arm.name in wanted)


def require_comparable(config: RunConfig) -> None:
    """Refuse settings under which arms could not be held against each other.

    Raises:
        ConfigError: naming the setting.
    """
    if config.partition.strategies != CUTS:
        raise ConfigError(
            "partition.strategies: a comparison sets the strategies of its arms itself; leave "
            "this setting as it is by default."
        )
    for key, value in (
        ("teachers.given", config.teachers.given),
        ("student.start", config.student.start),
        ("teachers.seed", config.teachers.seed),
    ):
        if value is not None:
            raise ConfigError(
                f"{key} is {value!r}: a comparison counts what everything costs and draws its own "
                "seeds, so nothing can be given to it; leave this setting out."
            )
