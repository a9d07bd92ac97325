"""The arguments of the command line: parsed over the dataclasses, refused with the nearest name."""

import argparse
import dataclasses
import re
import sys
from collections.abc import Callable, Sequence
from functools import partial
from importlib import resources
from pathlib import Path
from typing import Any

import yaml
from jsonargparse import ArgumentError, ArgumentParser, Namespace

from cpsd.argument_errors import in_words
from cpsd.config import DataConfig, MachineConfig, RunConfig
from cpsd.errors import ConfigError, did_you_mean
from cpsd.strategies import CUTS

RUN_VERBS = {
    "run": "the whole method: partition, train, distill, evaluate",
    "partition": "only count the labels and cut them into parts",
    "train": "partition, then train the baseline and the sub-task teachers",
    "distill": "train, then store the soft labels and distil the student",
}
PRINT_CONFIG = "--print_config"
VERBS = (*RUN_VERBS, "evaluate", "predict", "import", "data check", "data demo")
RECIPES = resources.files("cpsd") / "recipes"


def parse(argv: Sequence[str]) -> tuple[str, Namespace]:
    """Return the verb and its arguments, dataclasses instantiated.

    Raises:
        ConfigError: an unknown key (the nearest is named), a bad value, a missing recipe.
        SystemExit: help or the printed configuration was asked for.
    """
    parser = _parser()
    asks_for_settings = PRINT_CONFIG in argv and _verb_in(argv) in RUN_VERBS
    if asks_for_settings:
        argv = [token for token in argv if token != PRINT_CONFIG]
    try:
        namespace = parser.parse_args(_normalized(argv))
        if namespace.verb is None:
            parser.print_help()
            raise SystemExit(0)
        whole = parser.instantiate(namespace)
    except (ArgumentError, argparse.ArgumentError) as error:
        verb = _verb_in(argv)
        raise ConfigError(in_words(str(error), verb, _options_of(verb))) from error
    verb, arguments = namespace.verb, whole[namespace.verb]
    if asks_for_settings:
        # As a recipe that --config takes: the parser's own form has the table beside the data.
        sys.stdout.write(dump(run_config(arguments)))
        raise SystemExit(0)
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
        verbs.add_subcommand(verb, _parser_of(verb), help=purpose)
    verbs.add_subcommand("evaluate", _parser_of("evaluate"), help="score a trained model")
    verbs.add_subcommand("predict", _parser_of("predict"), help="say what is in pictures")
    imported = "make a model of a published checkpoint"
    verbs.add_subcommand("import", _parser_of("import"), help=imported)
    data = _new_parser(description="Look at data before using it, or make the demo's.")
    verbs.add_subcommand("data", data, help="check data, or write the demo data")
    actions = data.add_subcommands(dest="action", required=False)
    checked = "account for every row of a data set"
    actions.add_subcommand("check", _parser_of("data check"), help=checked)
    actions.add_subcommand("demo", _parser_of("data demo"), help="write the embedded demo data")
    return parser


def _parser_of(verb: str) -> ArgumentParser:
    """Return the parser of one verb."""
    makers: dict[str, Callable[[], ArgumentParser]] = {
        **{name: partial(_run_parser, purpose) for name, purpose in RUN_VERBS.items()},
        "evaluate": _evaluate_parser,
        "predict": _predict_parser,
        "import": _import_parser,
        "data check": _check_parser,
        "data demo": _demo_parser,
    }
    return makers[verb]()


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
    parser.add_argument(
        "--threshold",
        type=float | None,
        default=None,
        help="probability to predict from; by default the run's",
    )
    parser.add_argument(
        "--top-k",
        type=int | None,
        default=None,
        help="labels a picture in the top-k scores; by default the run's",
    )
    parser.add_class_arguments(DataConfig, "data")
    return parser


def _predict_parser() -> ArgumentParser:
    parser = _new_parser(description="Say which labels pictures have.")
    _add_model_arguments(parser)
    parser.add_argument("pictures", nargs="+", type=str, help="pictures, and folders of pictures")
    parser.add_argument("--format", choices=("table", "csv", "jsonl"), default="table")
    parser.add_argument(
        "--threshold",
        type=float | None,
        default=None,
        help="probability to predict from; by default the run's",
    )
    for state in ("present", "absent"):
        parser.add_argument(
            f"--{state}",
            type=str | None,
            default=None,
            help=f"labels known to be {state} in all the pictures, as 'dog; cat' (head ctran)",
        )
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
    parser.add_argument("--strategy", choices=CUTS, default=None, help="what the parts were cut by")
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
        _check_recipe(Path(name))
        return name
    packaged = RECIPES / f"{name.removesuffix('.yaml')}.yaml"
    if "/" not in name and packaged.is_file():
        return str(packaged)
    raise ConfigError(
        f"There is no recipe '{name}': neither a file, nor one of the package "
        f"({', '.join(recipe_names())}).{did_you_mean(name, recipe_names())}"
    )


def _check_recipe(path: Path) -> None:
    """Refuse a file that holds no settings; the parser would do so without naming it."""
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.MarkedYAMLError as error:
        line = "" if error.problem_mark is None else f", line {error.problem_mark.line + 1}"
        raise ConfigError(f"The recipe {path} is no YAML{line}: {error.problem}.") from error
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise ConfigError(f"The recipe {path} cannot be read: {error}.") from error
    if not isinstance(content, dict):
        raise ConfigError(f"The recipe {path} holds no settings; write lines such as 'seed: 3'.")
    for entry in dataclasses.fields(RunConfig):
        value = content.get(entry.name, {})
        if dataclasses.is_dataclass(entry.type) and not isinstance(value, dict):
            raise ConfigError(
                f"{entry.name} is {value!r} in the recipe {path}; settings with their names are "
                f"needed there, such as --print_config shows."
            )


def _verb_in(argv: Sequence[str]) -> str:
    """Return the verb that was asked for, ``run`` where there is none or an unknown one."""
    words = [word for word in argv if not word.startswith("-")]
    for verb in (" ".join(words[:2]), *words[:1]):
        if verb in VERBS:
            return verb
    return VERBS[0]


def _options_of(verb: str) -> list[str]:
    """Return the options of a verb without dashes, in their order."""
    actions = _parser_of(verb)._actions
    names = [name for action in actions for name in action.option_strings]
    return [name.removeprefix("--") for name in names if name.startswith("--")]
