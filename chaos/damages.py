"""Damage of files that a run goes on from: it must be seen, or do no harm."""

import re
import signal
import subprocess
from abc import abstractmethod
from collections.abc import Sequence
from pathlib import Path
from random import Random

from attempts_at_job import Attempt, Job
from faults import UNMET, Fault


class Damage(Fault):
    """A file that the next attempt reads is damaged while nobody runs.

    The attempt that wrote it is killed first. The next one must say so in words, whose remedy is
    followed, or make the file anew; what it took for whole would show in the results.
    """

    outcome = "refused, remedy followed"
    codes = (-signal.SIGKILL,)

    def __init__(self, random: Random) -> None:
        super().__init__(random)
        self.file: Path | None = None
        self._was: tuple[int, int, int] | None = None

    @abstractmethod
    def files(self, job: Job) -> Sequence[Path]:
        """Return the files that can be damaged now."""

    def can_strike(self, attempt: Attempt) -> bool:
        """Return whether there is such a file."""
        return bool(self.files(attempt.job))

    def strike(self, attempt: Attempt) -> str:
        """Kill the attempt and damage a file."""
        attempt.kill()
        attempt.wait()
        files = self.files(attempt.job)
        if files:
            self.file = self.random.choice(files)
            content = self.file.read_bytes()
            self.file.write_bytes(self.damaged(content))
            self._was = self._state()
        return ""

    def damaged(self, content: bytes) -> bytes:
        """Return ``content`` with some of its bytes flipped."""
        if not content:
            return content
        mangled = bytearray(content)
        for _ in range(self.random.choice([1, 1, 8, 64])):
            mangled[self.random.randrange(len(mangled))] ^= self.random.randrange(1, 256)
        return bytes(mangled)

    def settled(self, attempt: Attempt) -> str | None:
        """Return what has come of the damage in the next attempt, None while that is not seen."""
        if attempt.code not in (None, 0):
            return "refused, remedy followed"
        if "so this training starts over" in attempt.said:
            return "seen, training started over"
        if self._state() != self._was:
            return "made anew"
        return None if attempt.code is None else UNMET

    def failures(self, attempt: Attempt) -> list[str]:
        """Return what is wrong with how the next attempt has ended, if it has."""
        if attempt.code in (None, 0):
            return []
        assert self.file is not None
        said = " ".join(attempt.said.split())
        failures = [] if attempt.code == 2 else [f"exit code {attempt.code}, not 2"]
        if "Traceback" in said:
            failures.append("a traceback was shown")
        if self._remedy(attempt) is None:
            failures.append(f"no remedy was said for {self.file}")
        return [*failures, f"said: ...{said[-1500:]}"] if failures else []

    def follow_remedy(self, attempt: Attempt) -> None:
        """Do what the message says."""
        place = self._remedy(attempt)
        subprocess.run(["rm", "-r", str(place or self.file)], check=True)

    def _remedy(self, attempt: Attempt) -> Path | None:
        """Return what the message says to remove."""
        assert self.file is not None
        said = " ".join(attempt.said.split())
        remedy = re.search(r"Remove (this file|the folder (\S+)) ", said)
        if remedy is None or not str(self.file).startswith(remedy[2] or str(self.file)):
            return None
        return Path(remedy[2]) if remedy[2] else self.file if str(self.file) in said else None

    def _state(self) -> tuple[int, int, int] | None:
        assert self.file is not None
        try:
            found = self.file.stat()
        except OSError:
            return None
        return found.st_ino, found.st_mtime_ns, found.st_size


class CutCheckpoint(Damage):
    """A checkpoint is cut short."""

    kind = "checkpoint cut short"

    def files(self, job: Job) -> Sequence[Path]:
        """Return checkpoints, and the weights of best epochs that belong to them."""
        return checkpoints(job)

    def damaged(self, content: bytes) -> bytes:
        """Return the beginning of ``content``."""
        return content[: self.random.randrange(len(content))] if content else content


class FlippedCheckpoint(Damage):
    """Bytes of a checkpoint are flipped."""

    kind = "checkpoint with flipped bytes"

    def files(self, job: Job) -> Sequence[Path]:
        """Return checkpoints, and the weights of best epochs that belong to them."""
        return checkpoints(job)


class FlippedSoftLabels(Damage):
    """Bytes of stored soft labels are flipped, half made or whole."""

    kind = "soft-label chunk with flipped bytes"

    def files(self, job: Job) -> Sequence[Path]:
        """Return the chunks, while a student is to learn from them."""
        if is_done(job, "student"):
            return []
        folders = (job.run / ".partial/soft-labels/soft_labels", job.run / "soft_labels")
        return [path for folder in folders for path in sorted(folder.glob("[0-9]*.npy"))]


class FlippedWeights(Damage):
    """Bytes of the weights of a finished stage are flipped that another stage is to read."""

    kind = "finished weights with flipped bytes"

    def files(self, job: Job) -> Sequence[Path]:
        """Return the weights; explanations are the last that read them."""
        if is_done(job, "explanations"):
            return []
        places = (job.run / name for name in ("baseline", "teachers", "student"))
        return [path for place in places for path in sorted(place.rglob("model.safetensors"))]


class FlippedMark(Damage):
    """Bytes of what says how far a stage is, and what it took, are flipped."""

    kind = "mark of a stage with flipped bytes"

    def files(self, job: Job) -> Sequence[Path]:
        """Return completion marks, and costs of what is done of unfinished stages."""
        done = sorted((job.run / ".partial").glob("*/[0-9]*.json"))
        finished = sorted((job.run / ".partial").glob("*/finished.json"))
        return [*sorted((job.run / ".stages").glob("*.json")), *done, *finished]


def checkpoints(job: Job) -> list[Path]:
    """Return the files of unfinished trainings that are gone on from, where one can be."""
    found = sorted((job.run / ".partial").glob("*/*.ckpt"))
    best = [path for ckpt in found for path in sorted(ckpt.parent.rglob("model.safetensors"))]
    return found + best


def is_done(job: Job, stage: str) -> bool:
    """Return whether a stage is through."""
    return (job.run / ".stages" / f"{stage}.json").exists()


DAMAGES: tuple[type[Fault], ...] = (
    CutCheckpoint, FlippedCheckpoint, FlippedSoftLabels, FlippedWeights,
    FlippedMark,
)  # fmt: skip
"""All of them."""
