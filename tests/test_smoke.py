"""Smoke runs: small settings, and recipes from end to end."""

import json
from dataclasses import asdict, replace
from functools import cache
from pathlib import Path

import pytest
import yaml

from cpsd.arguments import parse, run_config
from cpsd.cli import main
from cpsd.config import DataConfig, RunConfig, StudentConfig, TeachersConfig, TrainingConfig
from cpsd.model_config import ModelConfig
from cpsd.parsers import recipe_names
from cpsd.smoke import data_are_there, smoke, with_smoke_data

TINY = ["--model.backbone", "test_byobnet.r160_in1k"]


@cache
def recipe(name: str) -> RunConfig:
    return run_config(parse(["run", "--config", name])[1])


@pytest.mark.parametrize("name", recipe_names())
def test_what_is_tested_of_a_recipe_stays(name: str) -> None:
    config = recipe(name)
    small = smoke(config)
    assert small.model.backbone == config.model.backbone
    assert small.model.head == config.model.head
    assert small.model.freeze_batch_norm == config.model.freeze_batch_norm
    assert (small.loss, small.distillation.weight) == (config.loss, config.distillation.weight)
    assert small.partition.strategies == config.partition.strategies
    for key in ("decay", "weight_decay", "ema_decay", "warmup", "learning_rate"):
        assert getattr(small.training, key) == getattr(config.training, key)
    assert (small.data.format, small.data.year) == (config.data.format, config.data.year)
    assert (small.model.weights, small.training.epochs, small.machine.workers) == ("none", 1, 0)
    assert smoke(small) == small


def test_what_costs_time_becomes_small_whatever_it_was() -> None:
    long = RunConfig(
        training=TrainingConfig(epochs=80, accumulate=4, precision="16-mixed"),
        teachers=TeachersConfig(epochs=90),
        student=StudentConfig(epochs=70, learning_rate=1e-5),
    )
    small = smoke(long)
    assert (small.teachers.epochs, small.student.epochs) == (None, None)
    assert small.student.learning_rate == 1e-5
    assert (small.training.accumulate, small.training.precision) == (1, "32")
    assert (small.machine.accelerator, small.distillation.views) == ("cpu", 1)
    for head in ("transformer", "query", "ml_decoder", "ctran"):
        assert getattr(small.model, head).width == 32
    assert small.model.query.decoder_layers == long.model.query.decoder_layers


def test_data_are_there_or_made_up(tmp_path: Path) -> None:
    table = tmp_path / "labels.csv"
    assert not data_are_there(DataConfig())
    assert not data_are_there(DataConfig(table=str(table)))
    table.touch()
    assert data_are_there(DataConfig(table=str(table)))
    assert not data_are_there(DataConfig(format="coco", table=str(table)))
    assert data_are_there(DataConfig(format="coco", root=str(tmp_path)))
    config = RunConfig(model=ModelConfig(label_embeddings="glove.txt", label_embedding_width=50))
    made_up = with_smoke_data(config, tmp_path / "made-up")
    assert data_are_there(made_up.data)
    # The vectors are of the recipe's labels, not of digits.
    assert made_up.model == replace(config.model, label_embeddings=None)


@pytest.mark.parametrize(
    ("name", "head", "settings"),
    [
        ("photographs", "linear", []),  # as it is; the others with a backbone of seconds
        ("coco-q2l-resnet101", "query", TINY),
        ("nus-wide-resnet101-tf", "transformer", TINY),
        ("voc2007-resnet101", "linear", TINY),
        ("photographs-fast", "linear", TINY),
    ],
)
def test_recipes_run_from_end_to_end(
    name: str, head: str, settings: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / name
    arguments = ["run", "--config", name, "--smoke", "--out", str(out), *settings]
    assert main(arguments) == 0, capsys.readouterr()
    assert "The data are not there" in capsys.readouterr().out
    board = json.loads((out / "evaluation/test.json").read_text())
    assert {"baseline", "student", "teachers"} <= board["predictors"].keys()
    card = json.loads((out / "student/model.json").read_text())
    assert card["model"]["head"] == head
    expected = smoke(recipe(name))
    stated = yaml.safe_load((out / "config.yaml").read_text())
    assert stated["training"] == asdict(expected.training)
    assert stated["data"]["format"] == expected.data.format
    assert Path(stated["data"]["root"]) == tmp_path / f"{name}-data"


def test_ones_own_data_are_used_where_they_are(
    digits: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["partition", str(digits), "--smoke"]) == 0
    printed = capsys.readouterr().out
    assert "not there" not in printed
    assert "16 of 96 pictures" in printed
    # Not where the run itself would be.
    assert (tmp_path / "runs/smoke/digits/partitions/co-occurrence.json").is_file()
    assert [path.name for path in (tmp_path / "runs").iterdir()] == ["smoke"]


def test_a_smoke_run_goes_on_where_it_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    command = ["partition", "--config", "coco-resnet101", "--smoke"]
    assert main(command) == 0
    capsys.readouterr()
    assert main(command) == 0
    assert capsys.readouterr().out.count("done before, kept") == 3
    assert sorted(path.name for path in (tmp_path / "runs/smoke").iterdir()) == [
        "coco-resnet101",
        "coco-resnet101-data",
    ]
