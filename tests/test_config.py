import dataclasses
import math
from typing import Any

import pytest

from cpsd import config
from cpsd.config import RunConfig
from cpsd.errors import ConfigError
from cpsd.machine_config import MachineConfig

SECTIONS: dict[str, type] = {
    "data": config.DataConfig,
    "image": config.ImageConfig,
    "partition": config.PartitionConfig,
    "loss": config.LossConfig,
    "distillation": config.DistillationConfig,
    "training": config.TrainingConfig,
    "teachers": config.TeachersConfig,
    "student": config.StudentConfig,
    "evaluation": config.EvaluationConfig,
    "machine": MachineConfig,
}
NAN = math.nan


@pytest.mark.parametrize(
    ("key", "bad", "good"),
    [
        ("data.validation_fraction", [-0.1, 1, NAN], [0, 0.99]),
        ("data.test_fraction", [-0.1, 1.5], [0, 0.5]),
        ("data.separator", [""], [",", " | "]),
        ("data.limit", [0, -1], [None, 1]),
        ("image.size", [0, -3], [1]),
        ("image.cutout", [-0.01, 1.01, NAN], [0, 1]),
        ("partition.strategies", [(), ("random", "random")], [("random",)]),
        ("partition.parts", [0], [None, 1]),
        ("partition.min_labels", [0], [1]),
        ("partition.starts", [0], [1]),
        ("loss.gamma_neg", [-1.0, NAN], [0.0]),
        ("loss.gamma_pos", [-1.0], [0.0, 2.0]),
        ("loss.clip", [-0.1, 1.0], [0.0, 0.2]),
        ("loss.eps", [0.0, 1.0], [1e-5]),
        ("distillation.weight", [-0.1, 1.1, NAN], [0, 1]),
        ("distillation.alpha", [-0.1, 1.1], [0, 1]),
        ("distillation.temperature", [0, -1], [0.5]),
        ("distillation.views", [0], [None, 1]),
        ("training.epochs", [0], [1]),
        ("training.batch_size", [0], [1]),
        ("training.accumulate", [0], [1]),
        ("training.learning_rate", [0.0, -1e-3, NAN], [1e-3]),
        ("training.warmup", [0.0, 1.0], [0.3]),
        ("training.weight_decay", [-1e-4], [0.0]),
        ("training.ema_decay", [1.0, -0.1], [0.0, 0.99]),
        ("training.clip_norm", [0.0, -1.0], [None, 1.0]),
        ("teachers.epochs", [0], [None, 1]),
        ("teachers.learning_rate", [0.0], [None, 0.1]),
        ("student.epochs", [0], [None, 1]),
        ("student.learning_rate", [-0.1], [None, 0.1]),
        ("evaluation.threshold", [0.0, 1.0], [0.8]),
        ("evaluation.top_k", [0], [1]),
        ("machine.workers", [-1], [0]),
        ("machine.inference_batch_size", [0], [1]),
        ("machine.picture_memory", [-0.1, 1.0], [0.0, 0.99]),
    ],
)
def test_a_bad_value_is_refused_by_its_key(key: str, bad: list[Any], good: list[Any]) -> None:
    section, name = key.split(".")
    for value in bad:
        with pytest.raises(ConfigError) as caught:
            SECTIONS[section](**{name: value})
        assert str(caught.value).startswith(f"{key} is {value!r}; it must be ")
    for value in good:
        assert getattr(SECTIONS[section](**{name: value}), name) == value


def test_a_negative_seed_is_refused() -> None:
    with pytest.raises(ConfigError, match="seed is -1; it must be at least 0"):
        RunConfig(seed=-1)


def test_defaults_are_the_papers() -> None:
    run = RunConfig()
    assert (run.loss.gamma_neg, run.loss.gamma_pos, run.loss.clip) == (4.0, 0.0, 0.05)
    assert (run.distillation.weight, run.distillation.alpha) == (0.5, 0.5)
    assert run.distillation.term == "squared-error"
    assert run.partition.strategies == ("co-occurrence", "dis-occurrence")
    assert (run.training.learning_rate, run.training.weight_decay) == (1e-4, 1e-4)
    assert run.training.ema_decay == 0.9997


def test_settings_cannot_be_changed_after_their_check() -> None:
    run = RunConfig()
    for section in dataclasses.fields(RunConfig):
        value = getattr(run, section.name)
        if dataclasses.is_dataclass(value):
            name = dataclasses.fields(value)[0].name
            with pytest.raises(dataclasses.FrozenInstanceError):
                setattr(value, name, None)
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(run, "seed", 1)  # noqa: B010 - the assignment is what mypy refuses
