"""The fast form of a run: what it sets, for networks of several kinds."""

from dataclasses import replace
from pathlib import Path

import pytest

from cpsd.arguments import parse, run_config
from cpsd.cli import main
from cpsd.config import (
    DistillationConfig,
    PartitionConfig,
    RunConfig,
    StudentConfig,
    TeachersConfig,
    TrainingConfig,
)
from cpsd.errors import ModelError
from cpsd.fast import BUDGET, fast
from cpsd.model_config import ModelConfig
from cpsd.models.stage_shares import stage_shares

TINY = ModelConfig(backbone="test_byobnet.r160_in1k", weights="none")


def plain_trainings(config: RunConfig) -> float:
    """Return what a run takes, all of its operations added up by themselves."""
    shares, stages = stage_shares(config.model, config.image.size), config.teachers.shared_stages
    trunk = shares.stages[stages - 1] if stages else 0.0
    teachers = len(config.partition.strategies) * (config.partition.parts or 5)
    epochs, views = config.teachers.epochs, config.distillation.views
    assert epochs is not None
    assert views is not None
    total = 0.0
    for _ in config.partition.strategies:
        total += epochs * trunk
    for _ in range(teachers):
        total += epochs * 3 * (1 - trunk) + views * (1 - trunk)
    total += views * trunk
    if config.distillation.baseline:
        total += views * (1 - trunk)
    return 2 + total / (3 * config.training.epochs)


@pytest.mark.parametrize(
    "backbone", ["mobilenetv2_100", "resnet18", "convnext_atto", "vit_tiny_patch16_224"]
)
@pytest.mark.parametrize("epochs", [20, 80])
def test_three_plain_trainings_are_enough_and_used(backbone: str, epochs: int) -> None:
    config = RunConfig(model=ModelConfig(backbone=backbone), training=TrainingConfig(epochs=epochs))
    form = fast(config)
    assert plain_trainings(form) <= BUDGET
    assert form.teachers.start == "fresh"
    assert form.distillation.baseline == pytest.approx(1 / 3)
    assert form.distillation.views == epochs // 4
    assert form.distillation.weight == 0.8
    shares = stage_shares(form.model, form.image.size)
    shared = form.teachers.shared_stages
    assert shares.stages[shared - 1] >= shares.backbone / 2 > ([0.0, *shares.stages])[shared - 1]
    teachers = form.teachers.epochs
    assert teachers is not None
    longer = replace(form, teachers=replace(form.teachers, epochs=teachers + 1))
    assert teachers == epochs // 4 or plain_trainings(longer) > BUDGET - 0.02


def test_other_settings_stay_and_its_own_are_set_whatever_they_were() -> None:
    config = RunConfig(
        seed=3,
        model=TINY,
        partition=PartitionConfig(parts=2),
        training=TrainingConfig(epochs=24, learning_rate=0.5),
        teachers=TeachersConfig(epochs=90, learning_rate=0.25, seed=7, together=False),
        student=StudentConfig(epochs=70, learning_rate=1e-5),
        distillation=DistillationConfig(views=70, weight=0.3, alpha=0.25),
    )
    form = fast(config)
    teachers = TeachersConfig(
        epochs=6, learning_rate=0.25, seed=7, together=False, shared_stages=3, start="baseline"
    )
    assert form == replace(
        config,
        teachers=teachers,
        student=StudentConfig(learning_rate=1e-5),
        distillation=DistillationConfig(views=6, weight=0.8, alpha=0.25),
    )
    assert fast(form) == form


def test_networks_without_stages_share_none() -> None:
    for model in (ModelConfig(factory="m:f"), ModelConfig(backbone="twins_svt_small")):
        form = fast(RunConfig(model=model))
        assert (form.teachers.shared_stages, form.teachers.start) == (0, "baseline")
        assert form.distillation.baseline == 0
        assert form.teachers.epochs == 1
    with pytest.raises(ModelError, match="timm has no model"):
        fast(RunConfig(model=ModelConfig(backbone="resnet11")))


def test_the_fast_form_has_a_place_of_its_own(
    digits: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    command = ["run", str(digits), "--config", "demo", "--fast", "--dry-run"]
    assert main(command) == 0
    printed = capsys.readouterr().out
    assert "Stages in runs/digits-fast" in printed
    assert "shared_stages: 3" in printed
    assert "teachers-start" in printed


def test_a_recipe_that_builds_on_another_is_given_after_it() -> None:
    def config(*words: str) -> RunConfig:
        return run_config(parse(["run", *words])[1])

    built = config("--config", "photographs-fast")
    assert built == config("--config=photographs-fast")
    assert built == config("--config", "photographs", "--config", "photographs-fast.yaml")
    assert built.image == config("--config", "photographs").image
    assert config("--config", "photographs-fast", "--seed", "4").seed == 4
