"""How long Python takes to import the package, and the command to print help."""

import subprocess
import sys
from collections.abc import Callable, Mapping
from functools import partial

from harness import Row, alternate

_COMMAND = "import sys; from cpsd.cli import main; main(sys.argv[1:])"
_ARMS = {
    "import of cpsd": ("import cpsd",),
    "cpsd --help": (_COMMAND, "--help"),
    "cpsd run --help": (_COMMAND, "run", "--help"),
}
_BOUNDS = {
    "Python": ("pass",),
    "Python and the parser of arguments": ("import jsonargparse, rich.console",),
}
_BESIDE = {"import of all that a run needs, torch among it": ("import cpsd.verbs.runs",)}


def measure(*, smoke: bool) -> list[Row]:
    """Return the seconds of new processes, from their start to their end."""
    rounds = 1 if smoke else 7
    seconds = alternate(_arms({**_ARMS, **_BOUNDS}), rounds)
    if not smoke:
        seconds |= alternate(_arms(_BESIDE), 2)
    python, parser = (seconds[name] for name in _BOUNDS)
    bounds = [("starting Python", python), *[("Python, jsonargparse and rich", parser)] * 2]
    rows = [
        Row(name, seconds[name], "s", must, f"{what}: {bound:.2f} s", bound / seconds[name])
        for name, must, (what, bound) in zip(_ARMS, ("<= 0.3", "<= 0.7", None), bounds, strict=True)
    ]
    return rows + [Row(name, seconds[name], "s") for name in _BESIDE if name in seconds]


def _arms(commands: Mapping[str, tuple[str, ...]]) -> dict[str, Callable[[], None]]:
    return {name: partial(_started, words) for name, words in commands.items()}


def _started(words: tuple[str, ...]) -> None:
    subprocess.run([sys.executable, "-c", *words], stdout=subprocess.DEVNULL, check=True)
