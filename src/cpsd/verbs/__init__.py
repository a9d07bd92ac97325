"""The verbs: what each command does, and what it prints."""

import importlib
from collections.abc import Callable
from functools import partial

from jsonargparse import Namespace


def _performed(module: str, function: str, arguments: Namespace) -> int:
    """Perform a verb; its module is imported when it is asked for, since torch takes seconds."""
    code: int = getattr(importlib.import_module(f"cpsd.verbs.{module}"), function)(arguments)
    return code


VERBS: dict[str, Callable[[Namespace], int]] = {
    verb: partial(_performed, module, function)
    for verb, module, function in (
        ("run", "runs", "run"),
        ("partition", "runs", "partition"),
        ("train", "runs", "train"),
        ("distill", "runs", "distill"),
        ("compare", "compare", "compare"),
        ("evaluate", "models", "evaluate"),
        ("predict", "models", "predict"),
        ("explain", "explain", "explain"),
        ("report", "report", "report"),
        ("import", "models", "import_published"),
        ("data check", "data", "check"),
        ("data demo", "data", "demo"),
        ("data pack", "pack", "pack"),
    )
}
