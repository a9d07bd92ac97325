"""Model cards: what a saved model is, as JSON beside its weights.

A card is untrusted input: nothing in it is run, downloaded or imported.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeVar, cast

from cpsd.errors import DataError, ModelError, did_you_mean
from cpsd.labels import LabelSpace

CARD_FILE = "model.json"
FORMAT_VERSION = 1
_MOST, _MOST_LAYERS = 1_000_000, 200
"""What a card may ask for: beyond it, making a network takes longer than anybody waits."""

T = TypeVar("T")


@dataclass(frozen=True)
class PartCard:
    """Which part of which partition a sub-task teacher was trained for.

    Args:
        strategy: of the partition.
        index: of the part in it.
        partition_hash: of the partition.
        shared_stages: first stages of its backbone that it shares with the other teachers.
    """

    strategy: str
    index: int
    partition_hash: str
    shared_stages: int = 0


@dataclass(frozen=True)
class ModelCard:
    """What a saved model is and what predicting with it takes.

    Args:
        labels: names of its logits, in order.
        model: its ``ModelConfig`` as a plain dict.
        image: its ``ImageConfig`` as a plain dict.
        part: for a sub-task teacher, its part.
        training: how it came about, such as epoch, raw or EMA weights, validation score.
        cpsd_version: of the package that saved it.
        format_version: of the folder's layout.
    """

    labels: tuple[str, ...]
    model: dict[str, Any]
    image: dict[str, Any]
    part: PartCard | None = None
    training: dict[str, Any] = field(default_factory=dict)
    cpsd_version: str = field(default_factory=lambda: version("cpsd"))
    format_version: int = FORMAT_VERSION


def read_card(folder: Path) -> ModelCard:
    """Return the card of the model in ``folder``.

    Raises:
        ModelError: there is no finished model, or the card is damaged or of an unknown format.
    """
    path = folder / CARD_FILE
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ModelError(f"There is no finished model in {folder}: {path} is missing.") from error
    # Deep nesting is a RecursionError; bad JSON and bad UTF-8 are ValueErrors.
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(f"{path} cannot be read as JSON ({error}).") from error
    if not isinstance(content, dict):
        raise ModelError(f"{path} is no model card: it holds {type(content).__name__}.")
    found = content.get("format_version")
    if found != FORMAT_VERSION:
        raise ModelError(
            f"{path} has format_version {found!r}; this version of cpsd reads {FORMAT_VERSION}. "
            "Update cpsd, or save the model again."
        )
    kinds = {"labels": list, "model": dict, "image": dict, "training": dict, "cpsd_version": str}
    for key, kind in kinds.items():
        _require_kind(content, key, kind, path)
    try:
        labels = LabelSpace(tuple(_each(str, content["labels"], "labels", path)))
    except DataError as error:
        raise ModelError(f"{path}: {error}") from error
    part = None if content.get("part") is None else _read_part(content["part"], path)
    known = {key: content[key] for key in kinds if key != "labels"}
    return ModelCard(labels=labels.names, part=part, **known)


def _read_part(content: object, path: Path) -> PartCard:
    if not isinstance(content, dict):
        raise ModelError(f"{path}: 'part' holds {type(content).__name__}, not an object.")
    for key, kind in {"strategy": str, "index": int, "partition_hash": str}.items():
        _require_kind(content, key, kind, path)
    known = {"shared_stages": 0, **content}  # of later versions
    _require_kind(known, "shared_stages", int, path)
    if known["shared_stages"] < 0:
        raise ModelError(f"{path}: 'shared_stages' is {known['shared_stages']}, not 0 or more.")
    return PartCard(*(known[entry.name] for entry in fields(PartCard)))


def _require_kind(content: Mapping[str, Any], key: str, kind: type, path: Path) -> None:
    if not isinstance(content.get(key), kind):
        found = type(content[key]).__name__ if key in content else "nothing"
        raise ModelError(f"{path}: '{key}' must hold {kind.__name__}, found {found}.")


def _each(kind: type[str], values: list[object], key: str, path: Path) -> list[str]:
    for value in values:
        if not isinstance(value, kind):
            raise ModelError(f"{path}: '{key}' holds {value!r}, which is no name.")
    return cast(list[str], values)


def settings_of(kind: type[T], content: Mapping[str, Any], name: str) -> T:
    """Return ``kind(**content)``, sections of options included.

    Args:
        kind: a dataclass of settings, all with defaults.
        content: values by key, from a file that is not trusted.
        name: how messages call it.

    Raises:
        ModelError: an unknown key, or a value of another type than the setting's default.
        ConfigError: a value that the settings themselves refuse.
    """
    defaults = kind()
    known = list(vars(defaults))
    values: dict[str, Any] = {}
    for key, value in content.items():
        if key not in known:
            raise ModelError(f"'{name}' has no setting '{key}'.{did_you_mean(key, known)}")
        default = getattr(defaults, key)
        if is_dataclass(default) and isinstance(value, dict):
            values[key] = settings_of(type(default), value, f"{name}.{key}")
        elif value is None or default is None:
            if default is not None or not isinstance(value, str | None):
                raise ModelError(f"{name}.{key} is {value!r}, not a {type(default).__name__}.")
            values[key] = value
        elif type(value) is not type(default) and (type(value), type(default)) != (int, float):
            raise ModelError(f"{name}.{key} is {value!r}, not a {type(default).__name__}.")
        else:
            most = _MOST_LAYERS if key.endswith("layers") else _MOST
            if isinstance(value, int) and abs(value) > most:
                raise ModelError(f"{name}.{key} is {value!s:.40}; no network has more than {most}.")
            values[key] = value
    return kind(**values)
