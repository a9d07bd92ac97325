"""The arguments of the command line: parsed over the dataclasses, refused with the nearest name."""

import argparse
import dataclasses
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from jsonargparse import ArgumentError, Namespace

from cpsd.argument_errors import in_words
from cpsd.config import DataConfig, RunConfig
from cpsd.config_yaml import as_yaml
from cpsd.errors import ConfigError, did_you_mean
from cpsd.parsers import RECIPES, RUN_VERBS, VERBS, parser_of, recipe_names, whole_parser
from cpsd.yaml_files import YamlFaultError, read_yaml

PRINT_CONFIG = "--print_config"


def parse(argv: Sequence[str]) -> tuple[str, Namespace]:
    """Return the verb and its arguments, dataclasses instantiated.

    Raises:
        ConfigError: an unknown key (the nearest is named), a bad value, a missing recipe.
        SystemExit: help or the printed configuration was asked for.
    """
    parser = whole_parser(argv)
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
        sys.stdout.write(as_yaml(run_config(arguments)))
        raise SystemExit(0)
    if verb == "data":
        if arguments.action is None:
            raise ConfigError(
                "Say what to do with the data: cpsd data check, cpsd data pack, or cpsd data demo."
            )
        verb, arguments = f"data {arguments.action}", arguments[arguments.action]
    return verb, arguments


def run_config(arguments: Namespace) -> RunConfig:
    """Return the run's configuration, with what is said of the data without their section."""
    values = {field.name: arguments[field.name] for field in dataclasses.fields(RunConfig)}
    return RunConfig(**{**values, "data": data_config(arguments)})


def data_config(arguments: Namespace) -> DataConfig:
    """Return the data's settings; a table and ``--on-bad-image`` on their own are among them."""
    said = {
        key: arguments[key] for key in ("table", "on_bad_image") if arguments.get(key) is not None
    }
    data: DataConfig = dataclasses.replace(arguments.data, **said)
    return data


def config_from_yaml(text: str) -> RunConfig:
    """Return the configuration that ``as_yaml`` has written."""
    parser = parser_of(VERBS[0])
    return run_config(parser.instantiate(parser.parse_string(text)))


def _normalized(argv: Sequence[str]) -> list[str]:
    """Return ``argv`` with ``--data.test-split`` as ``--data.test_split`` and recipes as paths."""
    normalized: list[str] = []
    for token in argv:
        if normalized and normalized[-1] == "--config":
            normalized += [*_given_before(token), _recipe_path(token)]
        elif token.startswith("--config="):
            name = token.removeprefix("--config=")
            normalized += ["--config", *_given_before(name), _recipe_path(name)]
        elif match := re.fullmatch(r"--(\w+\.[\w.-]+)(=.*)?", token, re.DOTALL):
            normalized.append(f"--{match[1].replace('-', '_')}{match[2] or ''}")
        else:
            normalized.append(token)
    return normalized


def _given_before(name: str) -> list[str]:
    """Return what has to stand before a recipe of the package that builds on another.

    ``photographs-fast`` says what differs from ``photographs``.
    """
    base = name.removesuffix(".yaml").removesuffix("-fast")
    builds_on = not Path(name).is_file() and {name.removesuffix(".yaml"), base} <= {*recipe_names()}
    return [_recipe_path(base), "--config"] if builds_on and base != name else []


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
        content = read_yaml(path)
    except YamlFaultError as error:
        raise ConfigError(f"The recipe {path} is no YAML of settings ({error}).") from error
    except OSError as error:
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
    actions = parser_of(verb)._actions
    names = [name for action in actions for name in action.option_strings]
    return [name.removeprefix("--") for name in names if name.startswith("--")]
