from dataclasses import replace

import pytest

from cpsd.comparison.arms import ARMS, Budget, chosen_arms, require_comparable
from cpsd.config import (
    DistillationConfig,
    PartitionConfig,
    RunConfig,
    StudentConfig,
    TeachersConfig,
    TrainingConfig,
)
from cpsd.errors import ConfigError
from cpsd.method import student_config, teacher_config

CONFIG = RunConfig(
    seed=4,
    training=TrainingConfig(epochs=6),
    teachers=TeachersConfig(epochs=3, learning_rate=1e-3),
    student=StudentConfig(epochs=9),
    distillation=DistillationConfig(alpha=0.3),
)
BUDGET = Budget(num_teachers=5, whole_teachers=4, long_epochs=70)
BY_NAME = {arm.name: arm for arm in ARMS}


def config_of(name: str) -> RunConfig:
    return BY_NAME[name].config(CONFIG, BUDGET, seed=7, teachers=5)


@pytest.mark.parametrize("arm", ARMS, ids=lambda arm: arm.name)
def test_every_arm_has_its_seeds_and_keeps_what_is_not_its_own(arm: object) -> None:
    name = getattr(arm, "name")  # noqa: B009 - a parametrized value is an object
    config = config_of(name)
    assert (config.seed, config.teachers.seed) == (7, 5)
    same = ("data", "image", "model", "loss", "student", "evaluation", "machine")
    for section in same:
        assert getattr(config, section) == getattr(CONFIG, section)


def test_the_method_trains_as_configured_and_its_baseline_as_the_arm_of_that_name() -> None:
    expected = replace(CONFIG, seed=7, teachers=replace(CONFIG.teachers, seed=5))
    found = config_of("cpsd")
    assert student_config(found).training == student_config(expected).training
    assert teacher_config(found).training == teacher_config(expected).training
    assert found.training == config_of("baseline").training
    assert replace(found, training=expected.training, teachers=expected.teachers) == expected


def test_plain_training_has_the_students_epochs_and_the_long_one_the_whole_budget() -> None:
    assert config_of("baseline").training.epochs == 9
    assert config_of("baseline-long").training.epochs == 70


def test_teachers_that_are_made_of_a_baseline_keep_the_one_that_is_configured() -> None:
    config = replace(CONFIG, teachers=TeachersConfig(epochs=3, start="baseline"))
    assert BY_NAME["cpsd"].config(config, BUDGET, seed=7, teachers=5).training == CONFIG.training


def test_a_baseline_that_teaches_is_the_one_that_is_configured_and_teaches_no_control() -> None:
    config = replace(CONFIG, distillation=replace(CONFIG.distillation, baseline=0.25))
    found = {name: BY_NAME[name].config(config, BUDGET, seed=7, teachers=5) for name in BY_NAME}
    assert found["cpsd"].training == CONFIG.training
    shares = {name: arm.distillation.baseline for name, arm in found.items()}
    assert {name for name, share in shares.items() if not share} == {"self-kd", "ensemble-kd"}


def test_one_strategy_alone_shares_teachers_and_soft_labels_with_the_method() -> None:
    for name, alpha in (("psd-c", 1.0), ("psd-d", 0.0)):
        config = config_of(name)
        assert config.distillation.alpha == alpha
        assert (config.partition, config.teachers) == (
            config_of("cpsd").partition,
            config_of("cpsd").teachers,
        )


def test_controls_have_other_teachers() -> None:
    assert config_of("self-kd").partition.strategies == ("whole",)
    teachers = config_of("self-kd").teachers
    assert (teachers.epochs, teachers.learning_rate) == (9, None)  # trained like the baseline
    shared = replace(CONFIG.teachers, shared_stages=2, start="baseline")
    arm = BY_NAME["self-kd"].config(replace(CONFIG, teachers=shared), BUDGET, seed=7, teachers=5)
    assert arm == config_of("self-kd")  # whatever other teachers are made of
    ensemble = config_of("ensemble-kd")
    assert ensemble.partition.strategies == ("whole", "whole-2", "whole-3", "whole-4")
    assert ensemble.distillation.alpha == 0.25  # so that the shares of all four are equal
    assert (ensemble.teachers.epochs, ensemble.teachers.learning_rate) == (3, 1e-3)
    random = config_of("random")
    assert random.partition.strategies == ("shuffled-co-occurrence", "shuffled-dis-occurrence")
    assert random.distillation.alpha == 0.3


def test_baseline_and_method_are_always_among_the_arms() -> None:
    assert [arm.name for arm in chosen_arms(("random",))] == ["baseline", "cpsd", "random"]
    assert chosen_arms(None) == ARMS
    with pytest.raises(ConfigError, match=r"no arm 'psdc'; there are .*psd-c"):
        chosen_arms(("psdc",))


@pytest.mark.parametrize(
    ("config", "key"),
    [
        (RunConfig(partition=PartitionConfig(strategies=("random",))), "partition.strategies"),
        (RunConfig(teachers=TeachersConfig(given="teachers")), "teachers.given"),
        (RunConfig(teachers=TeachersConfig(seed=0)), "teachers.seed"),
        (RunConfig(student=StudentConfig(start="student")), "student.start"),
    ],
)
def test_what_would_spoil_the_comparison_is_refused(config: RunConfig, key: str) -> None:
    require_comparable(CONFIG)
    with pytest.raises(ConfigError, match=key):
        require_comparable(config)
