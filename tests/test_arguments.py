import dataclasses
from pathlib import Path

import pytest
import yaml

from cpsd.arguments import parse, run_config
from cpsd.config import (
    DataConfig,
    DistillationConfig,
    PartitionConfig,
    RunConfig,
    TeachersConfig,
    TrainingConfig,
)
from cpsd.config_yaml import as_yaml
from cpsd.errors import ConfigError
from cpsd.machine_config import MachineConfig
from cpsd.model_config import ModelConfig
from cpsd.parsers import recipe_names


def parsed_run(*argv: str) -> RunConfig:
    verb, arguments = parse(["run", *argv])
    assert verb == "run"
    return run_config(arguments)


def recipe(folder: Path, text: str) -> str:
    path = folder / "recipe.yaml"
    path.write_text(text, encoding="utf-8")
    return str(path)


def test_without_arguments_a_run_has_the_defaults() -> None:
    assert parsed_run() == RunConfig()


def test_the_command_line_wins_over_the_recipe_and_this_over_defaults(tmp_path: Path) -> None:
    path = recipe(tmp_path, "seed: 4\ntraining:\n  epochs: 7\n  batch_size: 5\n")
    config = parsed_run("--config", path, "--training.epochs=9", "--partition.parts", "3")
    expected = RunConfig(
        seed=4,
        training=TrainingConfig(epochs=9, batch_size=5),
        partition=PartitionConfig(parts=3),
    )
    assert config == expected


def test_a_table_named_on_its_own_is_the_data_table(tmp_path: Path) -> None:
    path = recipe(tmp_path, "data:\n  table: other.csv\n  separator: '|'\n")
    config = parsed_run("photos/labels.csv", "--config", path)
    assert config.data == DataConfig(table="photos/labels.csv", separator="|")
    assert parsed_run("--config", path).data.table == "other.csv"


@pytest.mark.parametrize(
    "argv",
    [("--data.test-split", "val-2"), ("--data.test-split=val-2",), ("--data.test_split=val-2",)],
)
def test_keys_may_be_spelled_with_dashes(argv: tuple[str, ...]) -> None:
    assert parsed_run(*argv).data.test_split == "val-2"


def test_strategies_are_a_tuple_of_names() -> None:
    config = parsed_run("--partition.strategies", "[dis-occurrence, random]")
    assert config.partition.strategies == ("dis-occurrence", "random")


@pytest.mark.parametrize("name", recipe_names())
def test_every_packaged_recipe_is_found_by_name_and_parses(name: str) -> None:
    by_name = parsed_run("--config", name)
    assert by_name == parsed_run(f"--config={name}.yaml")
    assert by_name != RunConfig()


def test_the_demo_recipe_is_there_and_a_file_of_that_name_goes_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "demo" in recipe_names()
    assert parsed_run("--config", "demo").model.weights == "none"
    (tmp_path / "demo").write_text("seed: 11\n")
    monkeypatch.chdir(tmp_path)
    assert parsed_run("--config", "demo") == RunConfig(seed=11)


@pytest.mark.parametrize(
    ("name", "hint"),
    [("demoo", "Did you mean 'demo'"), ("runs/none.yaml", r"\(.*demo.*\)")],
)
def test_a_missing_recipe_is_refused_with_those_there_are(name: str, hint: str) -> None:
    for argv in (["--config", name], [f"--config={name}"]):
        with pytest.raises(ConfigError, match=rf"no recipe '{name}'.*{hint}"):
            parsed_run(*argv)


@pytest.mark.parametrize(
    ("key", "nearest"),
    [
        ("training.epocs", "training.epochs"),  # a mistyped name
        ("trainin.epochs", "training.epochs"),  # a mistyped section
        ("epochs", "training.epochs"),  # a missing section: the shared one, not the student's
        ("backbone", "model.backbone"),
        ("sed", "seed"),
        ("Data.Table", "data.table"),
    ],
)
def test_an_unknown_key_gets_the_nearest_name(tmp_path: Path, key: str, nearest: str) -> None:
    message = rf"^There is no setting '{key}'\. Did you mean '{nearest}'\?$"
    with pytest.raises(ConfigError, match=message):
        parsed_run(f"--{key}", "3")
    section, _, name = key.rpartition(".")
    text = f"{section}:\n  {name}: 3\n" if section else f"{name}: 3\n"
    with pytest.raises(ConfigError, match=message):
        parsed_run("--config", recipe(tmp_path, text))


def test_a_key_like_no_other_is_sent_to_the_help() -> None:
    with pytest.raises(ConfigError, match=r"no setting 'zzz'\. See cpsd run --help"):
        parsed_run("--zzz", "1")


@pytest.mark.parametrize(
    ("argv", "key", "value"),
    [
        (("--training.epochs", "many"), "training.epochs", "many"),
        (("--model.normalization", "vgg"), "model.normalization", "vgg"),
        (("--teachers.together", "maybe"), "teachers.together", "maybe"),
        (("--partition.strategies", "[co-ocurrence]"), "partition.strategies", "co-ocurrence"),
        (("--distillation.weight", "2"), "distillation.weight", "2"),  # the right type, too large
    ],
)
def test_a_bad_value_is_refused_by_key_and_value(
    tmp_path: Path, argv: tuple[str, str], key: str, value: str
) -> None:
    with pytest.raises(ConfigError, match=rf"^{key}\b.*{value}"):
        parsed_run(*argv)
    section, name = key.split(".")
    with pytest.raises(ConfigError, match=rf"^{key}\b.*{value}"):
        parsed_run("--config", recipe(tmp_path, f"{section}:\n  {name}: {argv[1]}\n"))


@pytest.mark.parametrize(
    ("argv", "sentence"),
    [
        ("run --training.epochs ten", "training.epochs is 'ten'; a whole number is needed."),
        (
            "run --training.clip_norm big",
            "training.clip_norm is 'big'; a number or null is needed.",
        ),
        ("run --teachers.together maybe", "teachers.together is 'maybe'; true or false is needed."),
        (
            "run --partition.strategies random",
            "partition.strategies is 'random'; a list such as [a, b] is needed.",
        ),
        (
            "run --model.normalization bakbone",
            "model.normalization is 'bakbone'; one of backbone, symmetric, none is needed. "
            "Did you mean 'backbone'?",
        ),
        ("run --training 5", "training is 5; --training takes '{name: value}'."),
        ("predict a b --threshold x", "threshold is 'x'; a number or null is needed."),
        ("predict a b --format xml", "--format is 'xml'; one of table, csv, jsonl is needed."),
        ("predict a b --formt csv", "There is no setting 'formt'. Did you mean 'format'?"),
        ("predict a", "cpsd predict needs 'pictures'; see cpsd predict --help."),
        ("evaluate a --topk 3", "There is no setting 'topk'. Did you mean 'top-k'?"),
        ("run --dryrun", "There is no setting 'dryrun'. Did you mean 'dry-run'?"),
        ("run t.csv --ot x", "There is no setting 'ot'. Did you mean 'out'?"),
        ("run --out", "--out needs a value."),
        ("run --dry-run=yes", "--dry-run takes no value, found 'yes'."),
        ("data demo f --sed 1", "There is no setting 'sed'. Did you mean 'seed'?"),
        (
            "data chek",
            "There is no action 'chek'; there are check, demo, pack. Did you mean 'check'?",
        ),
        ("--debug run", "--debug stands after the verb: cpsd run --debug."),
    ],
)
def test_what_is_wrong_is_said_in_plain_words(argv: str, sentence: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(argv.split())
    assert str(caught.value).startswith(sentence)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"seed: 3\ndata: [\n", r"no YAML of settings \(line 3: "),
        (b"", "holds no settings; "),
        (b"- seed\n", "holds no settings; "),
        (b"\xff\xfe", "no YAML of settings "),
        (b"training: 5\n", "training is 5 in the recipe "),
        (b"training:\n", "training is None in the recipe "),
    ],
)
def test_a_recipe_without_settings_is_refused_by_name(
    tmp_path: Path, content: bytes, sentence: str
) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=sentence) as caught:
        parsed_run("--config", str(path))
    assert str(path) in str(caught.value)


def test_a_word_too_many_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"u\.csv"):
        parsed_run("t.csv", "u.csv")


@pytest.mark.parametrize(
    "config",
    [
        RunConfig(),
        RunConfig(
            seed=3,
            data=DataConfig(table="Übung/labels.csv", separator="|", test_split="no", year=2007),
            model=ModelConfig(backbone="resnet10t", weights="none", freeze_batch_norm=True),
            partition=PartitionConfig(strategies=("random", "co-occurrence"), parts=7),
            training=TrainingConfig(learning_rate=1e-8, clip_norm=0.1, precision="bf16-mixed"),
            teachers=TeachersConfig(epochs=2, together=False),
            distillation=DistillationConfig(views=1, alpha=1 / 3),
            machine=MachineConfig(accelerator="cpu", workers=0),
        ),
    ],
)
def test_a_dumped_configuration_parses_to_itself(tmp_path: Path, config: RunConfig) -> None:
    text = as_yaml(config)
    assert parsed_run("--config", recipe(tmp_path, text)) == config
    # Every setting stands in it, so that later defaults do not change what a run was.
    sections = [f.name for f in dataclasses.fields(RunConfig)]
    assert list(yaml.safe_load(text)) == sections


def test_print_config_shows_the_settings_and_ends_well(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        parse(["run", "--config", "demo", "--training.epochs", "3", "--print_config"])
    assert caught.value.code == 0
    printed = yaml.safe_load(capsys.readouterr().out)
    assert printed["training"]["epochs"] == 3
    assert printed["model"]["backbone"] == parsed_run("--config", "demo").model.backbone


def test_printed_settings_are_a_recipe(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    argv = ["photos/labels.csv", "--config", "demo", "--partition.parts", "3"]
    with pytest.raises(SystemExit):
        parse(["run", *argv, "--print_config"])
    recipe = tmp_path / "printed.yaml"
    recipe.write_text(capsys.readouterr().out)
    again = parsed_run("--config", str(recipe))
    assert again == parsed_run(*argv)
    assert again.data.table == "photos/labels.csv"


@pytest.mark.parametrize(
    "argv", [[], ["--help"], ["run", "--help"], ["data", "check", "--help"], ["predict", "--help"]]
)
def test_help_ends_well(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        parse(argv)
    assert caught.value.code == 0
    assert "usage:" in capsys.readouterr().out


@pytest.mark.parametrize("verb", ["run", "partition", "train", "distill"])
def test_the_verbs_of_a_run_take_the_same_settings(verb: str) -> None:
    found, arguments = parse([verb, "t.csv", "--out", "o", "--redo", "--dry-run", "--seed", "2"])
    assert found == verb
    assert run_config(arguments) == RunConfig(seed=2, data=DataConfig(table="t.csv"))
    assert (arguments.out, arguments.redo, arguments.dry_run) == ("o", True, True)


def test_evaluate_takes_a_run_and_other_data() -> None:
    verb, arguments = parse(["evaluate", "runs/a", "t.csv", "--split", "test", "--top-k", "1"])
    assert verb == "evaluate"
    assert (arguments.run, arguments.table, arguments.split) == ("runs/a", "t.csv", "test")
    assert (arguments.top_k, arguments.predictor, arguments.data) == (1, "student", DataConfig())


def test_predict_takes_a_model_and_pictures() -> None:
    verb, arguments = parse(
        ["predict", "runs/a", "x.png", "folder", "--format", "csv", "--machine.workers", "0"]
    )
    assert verb == "predict"
    assert (arguments.run, list(arguments.pictures)) == ("runs/a", ["x.png", "folder"])
    assert (arguments.format, arguments.machine) == ("csv", MachineConfig(workers=0))
    with pytest.raises(ConfigError, match="pictures"):
        parse(["predict", "runs/a"])


def test_data_has_two_actions() -> None:
    verb, arguments = parse(["data", "check", "t.csv", "--data.difficult", "absent"])
    assert (verb, arguments.table) == ("data check", "t.csv")
    assert arguments.data == DataConfig(difficult="absent")
    verb, arguments = parse(["data", "demo", "folder", "--seed", "5"])
    assert (verb, arguments.folder, arguments.seed) == ("data demo", "folder", 5)
    with pytest.raises(ConfigError, match="cpsd data check, cpsd data pack, or cpsd data demo"):
        parse(["data"])


def test_an_unknown_verb_is_refused_with_the_verbs_there_are() -> None:
    with pytest.raises(ConfigError, match=r"'trian'.*train"):
        parse(["trian"])


def test_the_words_of_other_arguments_may_be_verbs() -> None:
    verb, arguments = parse(["predict", "report", "compare", "--format", "csv"])
    assert verb == "predict"
    assert (arguments.run, list(arguments.pictures)) == ("report", ["compare"])


def test_an_option_before_its_verb_is_told_where_it_stands() -> None:
    with pytest.raises(ConfigError, match="--split stands after the verb: cpsd evaluate --split"):
        parse(["--split=test", "evaluate", "runs/a"])
