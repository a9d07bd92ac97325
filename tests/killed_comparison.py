"""A small comparison, and how it is killed on its way."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import cpsd

MEASURED = ("seconds", "peak_memory", "peak_gpu_memory", "plain_trainings_by_the_clock")
"""What two runs of the same have apart."""
PATIENCE = 120
"""Seconds until a process that does not come to its moment is given up."""


def arguments(digits: Path, out: Path) -> list[str]:
    return [
        "compare", str(digits), "--config", "demo", "--image.size", "16", "--partition.parts", "2",
        "--training.epochs", "1", "--teachers.epochs", "1", "--distillation.views", "1",
        "--seeds", "1", "--arms", "psd-c", "--resamples", "20", "--machine.workers", "0",
        "--machine.threads", "1", "--machine.accelerator", "cpu", "--out", str(out),
    ]  # fmt: skip


def kill_when_there(command: list[str], file: Path) -> None:
    """Start the command as a process of its own, and kill it when ``file`` is there."""
    environment = {**os.environ, "PYTHONPATH": str(Path(cpsd.__file__).parents[1])}
    process = subprocess.Popen(
        [sys.executable, "-m", "cpsd", *command], env=environment, stdout=subprocess.DEVNULL
    )
    given_up = time.monotonic() + PATIENCE
    while not file.is_file() and process.poll() is None and time.monotonic() < given_up:
        time.sleep(0.01)
    process.kill()
    assert process.wait() == -signal.SIGKILL
    assert file.is_file()


def without_measured(content: Any) -> Any:
    """Return what a comparison has found, without what was measured on the way."""
    if isinstance(content, dict):
        kept = {key: value for key, value in content.items() if key not in MEASURED}
        return {key: without_measured(value) for key, value in kept.items()}
    return [without_measured(value) for value in content] if isinstance(content, list) else content
