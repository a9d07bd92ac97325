"""Settings as YAML that ``--config`` takes."""

import dataclasses
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from cpsd.config import RunConfig
from cpsd.yaml_files import YamlFaultError, read_yaml

_CHANGE_NO_RESULT = ("machine", "trainer")


def as_yaml(config: RunConfig) -> str:
    """Return the whole configuration as YAML."""
    plain = dataclasses.asdict(config)
    plain["partition"]["strategies"] = list(config.partition.strategies)
    return yaml.safe_dump(plain, sort_keys=False, allow_unicode=True)


def changed_settings(path: Path, config: str) -> list[str]:
    """Return in words which settings of ``config`` are not those of the file that a run has kept.

    Args:
        path: the file; one that cannot be read tells of none.
        config: a configuration as YAML.
    """
    try:
        plain = read_yaml(path)
    except (OSError, YamlFaultError):
        return []
    if not isinstance(plain, Mapping):
        return []
    kept = dict(_settings(plain))
    now = dict(_settings(yaml.safe_load(config)))
    return [
        f"{name} is {_shown(now.get(name))} and was {_shown(kept.get(name))}"
        for name in sorted({*kept, *now})
        if kept.get(name) != now.get(name)
    ]


def _settings(plain: object, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the dotted name and the value of each setting that results depend on."""
    if not isinstance(plain, Mapping):
        yield prefix, plain
        return
    for key, value in plain.items():
        if prefix or key not in _CHANGE_NO_RESULT:
            yield from _settings(value, f"{prefix}.{key}" if prefix else str(key))


def _shown(value: object) -> str:
    """Return a value as settings have it."""
    text = yaml.safe_dump(value, default_flow_style=True, allow_unicode=True, width=float("inf"))
    return text.removesuffix("...\n").rstrip("\n")
