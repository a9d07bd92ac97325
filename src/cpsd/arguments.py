"""The arguments of the command line: parsed over the dataclasses, refused with the nearest name."""

import argparse
import dataclasses
import re
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import yaml
from jsonargparse import ArgumentError, ArgumentParser, Namespace

from cpsd.config import DataConfig, MachineConfig, RunConfig, Strategy
from cpsd.errors import ConfigError, did_you_mean

RUN_VERBS = {
    "run": "the whole method: partition, train, distill, evaluate",
    "partition": "only count the labels and cut them into parts",
    "train": "partition, then train the baseline and the sub-task teachers",
    "distill": "train, then store the soft labels and distil the student",
}
RECIPES = resources.files("cpsd") / "recipes"


def parse(argv: Sequence[str]) -> tuple[str, Namespace]:
    """Return the verb and its arguments, dataclasses instantiated.

    Raises:
        ConfigError: an unknown key (the nearest is named), a bad value, a missing recipe.
        SystemExit: help or the printed configuration was asked for.
    """
    parser = _parser()
    try:
        namespace = parser.parse_args(_normalized(argv))
        if namespace.verb is None:
            parser.print_help()
            raise SystemExit(0)
        whole = parser.instantiate(namespace)
    except (ArgumentError, argparse.ArgumentError) as error:
        raise ConfigError(_plain(str(error))) from error
    verb, arguments = namespace.verb, whole[namespace.verb]
    if verb == "data":
        if arguments.action is None:
            raise ConfigError("Say what to do with the data: cpsd data check, or cpsd data demo.")
        verb, arguments = f"data {arguments.action}", arguments[arguments.action]
    return verb, arguments


def run_config(arguments: Namespace) -> RunConfig:
    """Return the run's configuration; a table named on its own goes into ``data.table``."""
    values = {field.name: arguments[field.name] for field in dataclasses.fields(RunConfig)}
    config = RunConfig(**values)
    if arguments.table is not None:
        config = dataclasses.replace(
            config, data=dataclasses.replace(config.data, table=arguments.table)
        )
    return config


def dump(config: RunConfig) -> str:
    """Return the configuration as YAML that ``--config`` takes."""
    plain = dataclasses.asdict(config)
    plain["partition"]["strategies"] = list(config.partition.strategies)
    return yaml.safe_dump(plain, sort_keys=False, allow_unicode=True)


def recipe_names() -> list[str]:
    """Return the recipes inside the package, by name."""
    return sorted(p.name.removesuffix(".yaml") for p in RECIPES.iterdir() if p.name[-5:] == ".yaml")


def _parser() -> ArgumentParser:
    parser = _new_parser(
        prog="cpsd",
        description="Multi-label image classification by complementary parallel self-distillation.",
        epilog="Recipes: " + ", ".join(recipe_names()) + ". Each verb has its own --help.",
    )
    verbs = parser.add_subcommands(dest="verb", required=False)
    for verb, purpose in RUN_VERBS.items():
        verbs.add_subcommand(verb, _run_parser(purpose), help=purpose)
    verbs.add_subcommand("evaluate", _evaluate_parser(), help="score a trained model")
    verbs.add_subcommand("predict", _predict_parser(), help="say what is in pictures")
    verbs.add_subcommand("import", _import_parser(), help="make a model of a published checkpoint")
    data = _new_parser(description="Look at data before using it, or make the demo's.")
    verbs.add_subcommand("data", data, help="check data, or write the demo data")
    actions = data.add_subcommands(dest="action", required=False)
    actions.add_subcommand("check", _check_parser(), help="account for every row of a data set")
    actions.add_subcommand("demo", _demo_parser(), help="write the embedded demo data")
    return parser


def _new_parser(**texts: Any) -> ArgumentParser:  # noqa: ANN401 - argparse's own keywords
    return ArgumentParser(exit_on_error=False, allow_abbrev=False, **texts)


def _add_debug(parser: ArgumentParser) -> None:
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")


def _run_parser(purpose: str) -> ArgumentParser:
    parser = _new_parser(description=f"{purpose[0].upper()}{purpose[1:]}.")
    parser.add_argument(
        "table", nargs="?", type=str | None, default=None, help="CSV or JSONL file, a row a picture"
    )
    parser.add_argument("--config", action="config", help="recipe by name or path (YAML)")
    parser.add_argument("--out", type=str | None, default=None, help="run directory")
    parser.add_argument("--dry-run", action="store_true", help="print configuration and stages")
    parser.add_argument("--redo", action="store_true", help="do stages with changed settings again")
    parser.add_argument(
        "--smoke",
        action="store_true",
        help="tiny pictures, few steps, random weights: every stage in about a minute, on a CPU",
    )
    _add_debug(parser)
    parser.add_class_arguments(RunConfig, as_group=False)
    return parser


def _add_model_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("run", type=str, help="run directory, or the folder of one model")
    parser.add_argument(
        "--predictor",
        type=str,
        default="student",
        help="student, baseline, teachers/<strategy> or teachers (all together)",
    )
    parser.add_argument(
        "--factory", type=str | None, default=None, help="package.module:function of your own model"
    )
    _add_debug(parser)
    parser.add_class_arguments(MachineConfig, "machine")


def _evaluate_parser() -> ArgumentParser:
    parser = _new_parser(description="Score a trained model; without data, show the run's scores.")
    _add_model_arguments(parser)
    parser.add_argument(
        "table", nargs="?", type=str | None, default=None, help="other data to score on"
    )
    parser.add_argument("--split", type=str | None, default=None, help="only this split of it")
    parser.add_argument("--out", type=str | None, default=None, help="folder for scores")
    parser.add_argument("--threshold", type=float, default=0.5, help="probability to predict from")
    parser.add_argument("--top-k", type=int, default=3, help="labels a picture in the top-k scores")
    parser.add_class_arguments(DataConfig, "data")
    return parser


def _predict_parser() -> ArgumentParser:
    parser = _new_parser(description="Say which labels pictures have.")
    _add_model_arguments(parser)
    parser.add_argument("pictures", nargs="+", type=str, help="pictures, and folders of pictures")
    parser.add_argument("--format", choices=("table", "csv", "jsonl"), default="table")
    parser.add_argument("--threshold", type=float, default=0.5, help="probability to predict from")
    return parser


def _import_parser() -> ArgumentParser:
    parser = _new_parser(
        description="Make a model folder of a checkpoint that the authors of CPSD published."
    )
    parser.add_argument("file", type=str, help="the checkpoint: .ckpt, .pth, .pt or .safetensors")
    architectures = "resnet101, resnet101-tf, q2l-resnet101, tresnet-l or resnext50-swsl"
    parser.add_argument("--arch", type=str, required=True, help=architectures)
    parser.add_argument(
        "--labels", type=str, required=True, help="coco, nuswide, or a file with a label a line"
    )
    parser.add_argument("--out", type=str, required=True, help="model folder")
    parser.add_argument(
        "--label-embeddings", type=str | None, default=None, help="for resnet101-tf: .npy or .pkl"
    )
    parser.add_argument("--image-size", type=int, default=448, help="of pictures it is given")
    parser.add_argument(
        "--part-file", type=str | None, default=None, help="for a teacher: the published partition"
    )
    parser.add_argument("--part", type=int | None, default=None, help="for a teacher: its part")
    parser.add_argument(
        "--strategy", type=Strategy | None, default=None, help="what the parts were cut by"
    )
    _add_debug(parser)
    return parser


def _check_parser() -> ArgumentParser:
    parser = _new_parser(description="Account for every row of a data set; exit code 1 if wrong.")
    parser.add_argument("table", nargs="?", type=str | None, default=None, help="CSV or JSONL file")
    parser.add_argument("--config", action="config", help="recipe by name or path (YAML)")
    parser.add_argument("--seed", type=int, default=0, help="of the splits that are drawn")
    _add_debug(parser)
    parser.add_class_arguments(DataConfig, "data")
    return parser


def _demo_parser() -> ArgumentParser:
    parser = _new_parser(description="Write the embedded demo data: pictures and labels.csv.")
    parser.add_argument("folder", type=str, help="where to")
    parser.add_argument("--seed", type=int, default=0, help="of the pictures")
    _add_debug(parser)
    return parser


def _normalized(argv: Sequence[str]) -> list[str]:
    """Return ``argv`` with ``--data.test-split`` as ``--data.test_split`` and recipes as paths."""
    normalized: list[str] = []
    for token in argv:
        if normalized and normalized[-1] == "--config":
            normalized.append(_recipe_path(token))
        elif token.startswith("--config="):
            normalized.append(f"--config={_recipe_path(token.removeprefix('--config='))}")
        elif match := re.fullmatch(r"--(\w+\.[\w.-]+)(=.*)?", token, re.DOTALL):
            normalized.append(f"--{match[1].replace('-', '_')}{match[2] or ''}")
        else:
            normalized.append(token)
    return normalized


def _recipe_path(name: str) -> str:
    """Return the file of a recipe that is named by path, or by its name inside the package."""
    if Path(name).is_file():
        return name
    packaged = RECIPES / f"{name.removesuffix('.yaml')}.yaml"
    if "/" not in name and packaged.is_file():
        return str(packaged)
    raise ConfigError(
        f"There is no recipe '{name}': neither a file, nor one of the package "
        f"({', '.join(recipe_names())}).{did_you_mean(name, recipe_names())}"
    )


def _plain(message: str) -> str:
    """Return jsonargparse's message as a sentence that names the key and the nearest valid one."""
    unknown = re.search(r"does not accept option '([\w.-]+)'", message)
    unknown = unknown or re.search(r"unrecognized arguments: --([\w.-]+)", message)
    if unknown:
        key = unknown[1]
        return f"There is no setting '{key}'.{_nearest_key(key)}"
    value = re.match(r'Parser key "([\w.]+)":\s*(.*)', message, re.DOTALL)
    if value:
        return f"{value[1]}: {' '.join(value[2].split())}"
    return message[0].upper() + message[1:]


def _nearest_key(key: str) -> str:
    """Return a hint at the setting meant: a mistyped section or name, or a missing section."""
    keys = _keys(RunConfig)
    section, _, name = key.rpartition(".")
    # Of several sections with the name the first is the shared one: training before student.
    same_name = [known for known in keys if known.rpartition(".")[2] == name]
    if same_name and not section:
        return f" Did you mean '{same_name[0]}'?"
    hint = did_you_mean(key, keys)
    if not hint and same_name:
        hint = f" Did you mean '{same_name[0]}'?"
    return hint or " See cpsd run --help for all of them."


def _keys(cls: type, prefix: str = "") -> list[str]:
    """Return the dotted names of all settings of a configuration class."""
    keys = []
    for field in dataclasses.fields(cls):
        if dataclasses.is_dataclass(field.type) and isinstance(field.type, type):
            keys += _keys(field.type, f"{prefix}{field.name}.")
        else:
            keys.append(f"{prefix}{field.name}")
    return keys
