"""YAML from anywhere, read as plain values: no tag makes an object of anything.

A file of a kilobyte can stand for more values than there is memory by naming parts of itself, so
these are counted first.
"""

from pathlib import Path
from typing import Any

import yaml

MOST_BYTES = 200_000
"""Of a file of settings; what is written here has three thousand."""
MOST_VALUES = 50_000
MOST_DEPTH = 40


class YamlFaultError(ValueError):
    """A file is no YAML, or more than settings can be."""


def read_yaml(path: Path) -> Any:  # noqa: ANN401 - YAML has no narrower type
    """Return the plain values of a YAML file.

    Raises:
        YamlFaultError: it is no YAML, holds objects, or is too large, too deep or refers to itself.
        OSError: it cannot be read.
    """
    if path.stat().st_size > MOST_BYTES:
        raise YamlFaultError(f"it has more than {MOST_BYTES:,} bytes, which settings never have")
    try:
        text = path.read_text(encoding="utf-8")
        _require_shallow(text)
        _require_few(yaml.compose(text, yaml.SafeLoader))
        return yaml.safe_load(text)
    except yaml.MarkedYAMLError as error:
        line = "" if error.problem_mark is None else f"line {error.problem_mark.line + 1}: "
        raise YamlFaultError(f"{line}{error.problem}") from error
    except RecursionError as error:
        raise YamlFaultError("its values are nested too deeply") from error
    # Dates and numbers that there are none of fail as Python's do.
    except (yaml.YAMLError, ValueError, TypeError, OverflowError) as error:
        raise YamlFaultError(str(error)) from error


def _require_shallow(text: str) -> None:
    """Refuse deep nesting before it is parsed whole, which takes time in its square."""
    depth = 0
    for event in yaml.parse(text, yaml.SafeLoader):
        depth += isinstance(event, yaml.CollectionStartEvent)
        depth -= isinstance(event, yaml.CollectionEndEvent)
        if depth > MOST_DEPTH:
            raise YamlFaultError("its values are nested too deeply")


def _require_few(root: yaml.Node | None) -> None:
    """Refuse a tree that would be too large once every alias is what it stands for."""
    sizes: dict[int, int] = {}

    def size(node: yaml.Node, depth: int) -> int:
        if depth > MOST_DEPTH:  # also one that holds itself
            raise YamlFaultError("its values are nested too deeply")
        if id(node) not in sizes:
            children: list[yaml.Node] = []
            if isinstance(node, yaml.SequenceNode):
                children = list(node.value)
            elif isinstance(node, yaml.MappingNode):
                children = [part for pair in node.value for part in pair]
            sizes[id(node)] = 1 + sum(size(child, depth + 1) for child in children)
        return sizes[id(node)]

    if root is not None and size(root, 0) > MOST_VALUES:
        raise YamlFaultError(f"it stands for more than {MOST_VALUES:,} values")
