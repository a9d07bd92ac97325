"""The JSON form of a label partition, before its label names are looked up.

It has label names, to be read and written by people too:

    {
      "strategy": "co-occurrence",     one of those in cpsd.strategies
      "num_parts": 2,
      "seed": 0,                       of the cut; null where there was none
      "normalized_cut": 0.571,         null where it was not computed
      "hash": "9f86...",               of labels and parts; a hand-made file leaves it out
      "labels": ["cat", "dog", ...],   all labels in their order; may be left out
      "parts": [["cat", ...], ["dog", ...]]      their order numbers the teachers
    }
"""

import json
from pathlib import Path
from typing import Any

from cpsd.errors import PartitionError, did_you_mean
from cpsd.strategies import CONTROLS, CUTS, strategy_fault

_REQUIRED_KEYS = ("strategy", "parts")
_KEYS = (*_REQUIRED_KEYS, "num_parts", "seed", "normalized_cut", "hash", "labels")


def read_content(path: Path) -> Any:  # noqa: ANN401 - JSON has no narrower type
    """Return the JSON content of a file.

    Raises:
        PartitionError: there is no such file, or it is not JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise PartitionError(f"There is no partition file {path}.") from error
    except (OSError, ValueError, RecursionError) as error:
        raise PartitionError(f"{path} cannot be read as JSON: {error}.") from error


def checked_content(content: Any, path: Path) -> dict[str, Any]:  # noqa: ANN401 - JSON
    """Return the content of a partition file once its keys and their types are right.

    Raises:
        PartitionError: a key is unknown, missing, or has a value that it cannot have.
    """
    if not isinstance(content, dict):
        raise PartitionError(f"{path} is not a partition: it must be an object with 'parts'.")
    for key in content:
        if key not in _KEYS:
            raise PartitionError(f"{path} has an unknown key '{key}'." + did_you_mean(key, _KEYS))
    for key in _REQUIRED_KEYS:
        if key not in content:
            raise PartitionError(f"{path} has no '{key}'; a partition needs it.")
    parts = content["parts"]
    if not isinstance(parts, list) or not all(map(_are_names, parts)):
        raise PartitionError(f"{path}: 'parts' must be a list of lists of label names.")
    strategy, seed, cut = content["strategy"], content.get("seed"), content.get("normalized_cut")
    for key, right, needed in (
        ("strategy", _is_strategy(strategy), f"one of {', '.join((*CUTS, *CONTROLS))}"),
        ("num_parts", content.get("num_parts", len(parts)) == len(parts), f"{len(parts)}, as many"),
        ("seed", seed is None or type(seed) is int, "a whole number or null"),
        ("normalized_cut", cut is None or type(cut) in (int, float), "a number or null"),
        ("labels", "labels" not in content or _are_names(content["labels"]), "a list of names"),
    ):
        if not right:
            raise PartitionError(f"{path}: '{key}' is {content[key]!r}; it must be {needed}.")
    return content


def _is_strategy(value: object) -> bool:
    return isinstance(value, str) and strategy_fault(value) is None


def _are_names(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(name, str) for name in value)
