"""What is wrong with the arguments, in plain sentences.

jsonargparse's messages name Python types and offer no nearest name; here a message becomes a
sentence with the key, the value that was found, and what is needed. A message of another form
passes as it is.
"""

import ast
import difflib
import mimetypes
import re
from collections.abc import Callable, Sequence

import yaml

from cpsd.errors import did_you_mean

_TYPES = {
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "str": "a text",
    "tuple": "a list such as [a, b]",
    "NoneType": "null",
}


def in_words(message: str, verb: str, options: Sequence[str]) -> str:
    """Return the parser's message as a sentence.

    Args:
        message: of jsonargparse.
        verb: that was asked for, as in ``data check``.
        options: the verb's, without dashes.

    Example:
        >>> in_words("unrecognized arguments: --epocs", "run", ["training.epochs"])
        "There is no setting 'epocs'. Did you mean 'training.epochs'?"
    """
    patterns: dict[str, Callable[..., str]] = {
        r"(?:does not accept option '|unrecognized arguments: -+)([\w.-]+)": (
            lambda key: _unknown(key, verb, options)
        ),
        r"unrecognized arguments: (\S+)": (
            lambda word: f"'{word}' is one word too many; see cpsd {verb} --help."
        ),
        # The last key is the innermost.
        r'.*Parser key "([\w.]+)":\s+Expected an? (.+?)\. Got value: (.*)': _bad_value,
        r'.*Parser key "([\w.]+)":.*Subtypes: \[(.*)\]\n.*Given value: (.*)': _bad_value,
        r"Unable to load config '(.*)'\n.*Parser key \"([\w.]+)\"": (
            lambda value, key: f"{key} is {_shown(value)}; --{key} takes '{{name: value}}'."
        ),
        r"argument (\S+): invalid choice: '(.*)' \(choose from (.*)\)": _bad_choice,
        r"argument (\S+): expected (?:at least )?one argument": "{} needs a value.".format,
        r"argument (\S+): ignored explicit argument (.+)": "{} takes no value, found {}.".format,
        r"arguments are required: (?:\w+\.)*(\w+)": (
            lambda name: f"cpsd {verb} needs '{name}'; see cpsd {verb} --help."
        ),
    }
    for pattern, sentence in patterns.items():
        if found := re.search(pattern, message, re.DOTALL):
            return sentence(*found.groups())
    return message[0].upper() + message[1:]


def _unknown(key: str, verb: str, options: Sequence[str]) -> str:
    if key in options:
        return f"--{key} stands after the verb: cpsd {verb} --{key}."
    nearest = _nearest(key, options)
    hint = f"Did you mean '{nearest}'?" if nearest else f"See cpsd {verb} --help for all of them."
    if not nearest and (mimetypes.guess_type(key)[0] or "").startswith("image/"):
        hint = f"A picture whose name begins with a dash is given as ./-{key}."
    return f"There is no setting '{key}'. {hint}"


def _nearest(key: str, options: Sequence[str]) -> str | None:
    """Return the option meant: with a mistyped section or name, or without its section."""
    section, _, name = key.rpartition(".")
    by_whole = {option.casefold(): option for option in options}
    by_name: dict[str, str] = {}
    for option in options:
        # Of several sections with the name the first is the shared one: training before student.
        by_name.setdefault(option.rpartition(".")[2].casefold(), option)
    for option in options:
        if _letters(option) == _letters(key):
            return option
    if section:
        near = difflib.get_close_matches(key.casefold(), by_whole, n=1)
        return by_whole[near[0]] if near else by_name.get(name.casefold())
    near = difflib.get_close_matches(name.casefold(), by_name, n=1)
    return by_name[near[0]] if near else None


def _letters(name: str) -> str:
    return re.sub(r"[._-]", "", name.casefold())


def _bad_value(key: str, expected: str, value: str) -> str:
    needed: list[str] = []
    choices: list[str] = []
    for literal, name in re.findall(r"Literal(\[.*?\])|<class '(\w+)'>", expected):
        if literal:
            choices += map(str, ast.literal_eval(literal))
            needed.append(_one_of(choices))
        else:
            needed.append(_TYPES.get(name, name))
    value = value.strip()
    return (
        f"{key} is {_shown(value)}; {' or '.join(needed)} is needed.{did_you_mean(value, choices)}"
    )


def _bad_choice(argument: str, value: str, choices: str) -> str:
    names = re.findall(r"[\w-]+", choices)
    hint = did_you_mean(value, names)
    if argument.startswith("-"):
        return f"{argument} is '{value}'; {_one_of(names)} is needed.{hint}"
    return f"There is no {argument} '{value}'; there are {', '.join(names)}.{hint}"


def _one_of(names: Sequence[str]) -> str:
    return f"one of {', '.join(names)}"


def _shown(value: str) -> str:
    """Return a value as a recipe would write it: words in quotes, numbers without."""
    if value == "None":
        return "null"
    try:
        is_word = isinstance(yaml.safe_load(value), str)
    except yaml.YAMLError:
        is_word = True
    return f"'{value}'" if is_word else value
