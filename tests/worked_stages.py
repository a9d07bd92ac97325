"""Stages that count their calls, write what they are told and can be killed; runs of them."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cpsd.attempts import ATTEMPTS_FILE
from cpsd.cost import Cost
from cpsd.execution import LocalExecutor, RunWork
from cpsd.run import RunDirectory
from cpsd.stage import Stage, StageState

HOLD_THE_LOCK = """
import sys
from pathlib import Path
from cpsd.run import RunDirectory
with RunDirectory(Path(sys.argv[1])).locked():
    print("held", flush=True)
    sys.stdin.read()
"""


class Killed(BaseException):
    """Stands for the end of the process: no `except Exception` may catch it."""


class Work:
    """The work of a stage: counts its calls and writes what it is told."""

    def __init__(self, *outputs: str, text: str = "result", cost: Cost | None = None) -> None:
        self.outputs = outputs
        self.text = text
        self.cost = cost or Cost()
        self.calls = 0
        self.killed_after: str | None = None
        self.found: list[list[str]] = []

    def __call__(self, folder: Path) -> Cost:
        self.calls += 1
        own = {"fingerprint", ATTEMPTS_FILE}
        self.found.append(sorted({p.name for p in folder.iterdir()} - own))
        for output in self.outputs:
            path = folder / output
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(self.text)
            if output == self.killed_after:
                raise Killed
        return self.cost

    def stage(self, name: str = "student", fingerprint: str = "f1") -> Stage:
        return Stage(name, fingerprint, self.outputs, self)


def run_all(
    directory: RunDirectory,
    *stages: Stage,
    until: int | None = None,
    redo: bool = False,
    facts: dict[str, Any] | None = None,
) -> list[tuple[str, StageState]]:
    said: list[tuple[str, StageState]] = []
    with directory.locked():
        work = RunWork(
            stages,
            directory,
            wanted=stages[:until],
            redo=redo,
            config="seed: 0\n",
            facts=facts or {},
            announce=lambda stage, state: said.append((stage.name, state)),
        )
        LocalExecutor().begin(work)
        LocalExecutor().finish(work)
    return said


@contextmanager
def held_by_another_process(path: Path) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        [sys.executable, "-c", HOLD_THE_LOCK, str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        try:
            assert process.stdout.readline() == "held\n"
            yield process
        finally:
            process.kill()
