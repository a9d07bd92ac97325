"""What can befall a job: each kind strikes a running attempt, knows how it must end, and is mended.

All are real: signals, a full and a read-only file system, reads that the system answers with an
error, damaged files. Only the clock that jumps is imitated (`jumping_clock`).
"""

import os
import shutil
import signal
import subprocess
import time
from abc import ABC, abstractmethod
from pathlib import Path
from random import Random

from attempts_at_job import Attempt, Job
from jumping_clock import jump

HOURS = 3600.0
UNMET = "met nothing"
"""What it was to hit was not needed any more, as a worker at the end of a loader's life."""


class Fault(ABC):
    """Something that befalls an attempt.

    Args:
        random: draws what there is to choose.
    """

    kind = ""
    stops = True
    """Whether the attempt ends by it."""
    codes: tuple[int, ...] = (2,)
    sentence = ""
    """What a stopped attempt must say."""
    outcome = "refused in words"
    needs_mounts = False

    def __init__(self, random: Random) -> None:
        self.random = random

    def can_strike(self, attempt: Attempt) -> bool:
        """Return whether there is something to hit now."""
        return True

    @abstractmethod
    def strike(self, attempt: Attempt) -> str:
        """Strike; return an outcome that is known at once, or ""."""

    def ended(self, attempt: Attempt) -> tuple[str, list[str]]:
        """Return the outcome and the failures, seen from how the attempt ended."""
        code, said = attempt.code, attempt.said
        if code == 0 and not (0 in self.codes and self.sentence in said):
            return UNMET, []
        failures = [] if code in self.codes else [f"exit code {code}, not {self.codes}"]
        if self.sentence not in said:
            failures.append(f"'{self.sentence}' was not said")
        # Processes that load pictures may tell of a parent that was killed.
        if "Traceback" in said and code != -signal.SIGKILL:
            failures.append("a traceback was shown")
        if failures:
            failures.append(f"said: ...{said[-1500:]}")
        return self.outcome, failures

    def mend(self, job: Job) -> None:  # noqa: B027 - most leave nothing to take away
        """Take away what would befall the next attempt too."""


class KilledMain(Fault):
    """The process of the run is killed, as by `kill -9` or a machine without memory."""

    kind = "kill -9 of the main process"
    codes = (-signal.SIGKILL,)
    outcome = "killed"

    def strike(self, attempt: Attempt) -> str:
        """Kill it."""
        attempt.kill()
        return ""


class KilledLoader(Fault):
    """A process that loads pictures is killed."""

    kind = "kill -9 of a loader worker"
    sentence = "A process that loads pictures was killed"

    def can_strike(self, attempt: Attempt) -> bool:
        """Return whether one is there."""
        return bool(attempt.children())

    def strike(self, attempt: Attempt) -> str:
        """Kill one of them."""
        children = attempt.children()
        if children:
            os.kill(self.random.choice(children), signal.SIGKILL)
        return ""


class Preempted(Fault):
    """The system asks the run to end."""

    kind = "SIGTERM"
    codes = (0,)
    sentence = "Asked to end. Start the same command again"
    outcome = "ended with 0 and a message"

    def strike(self, attempt: Attempt) -> str:
        """Send SIGTERM."""
        attempt.kill(signal.SIGTERM)
        return ""


class FullDisk(Fault):
    """Others fill the file system of the run: a tmpfs of its own."""

    kind = "disk full"
    sentence = "the disk is full"
    needs_mounts = True

    def strike(self, attempt: Attempt) -> str:
        """Take all blocks that are free."""
        ballast = attempt.job.folder / "ballast"
        with ballast.open("wb") as file:
            block = 2**22
            while block >= 1:
                try:
                    os.posix_fallocate(file.fileno(), os.fstat(file.fileno()).st_size, block)
                except OSError:
                    block //= 2
        return ""

    def mend(self, job: Job) -> None:
        """Free them."""
        (job.folder / "ballast").unlink(missing_ok=True)


class UnreadablePicture(Fault):
    """The disk answers every read of one picture with EIO.

    A file whose reads the kernel answers so is laid over it: the memory of a process at address 0.
    """

    kind = "read error on one picture"
    sentence = "cannot be read (Input/output error)"
    needs_mounts = True

    def __init__(self, random: Random) -> None:
        super().__init__(random)
        self.picture: Path | None = None

    def strike(self, attempt: Attempt) -> str:
        """Lay it over a picture."""
        pictures = sorted((attempt.job.table.parent / "images").iterdir())
        self.picture = self.random.choice(pictures)
        mount("--bind", f"/proc/{os.getpid()}/mem", str(self.picture))
        return ""

    def ended(self, attempt: Attempt) -> tuple[str, list[str]]:
        """Hold the message to name the picture."""
        if attempt.code == 2 and "Settings or data have changed" in attempt.said:
            # What is laid over it has another length, as no bad disk gives it. It was seen between
            # the look at all pictures and the fingerprint of the data, which is of their lengths.
            return "refused as changed data", []
        outcome, failures = super().ended(attempt)
        if outcome != UNMET and self.picture is not None and self.picture.name not in attempt.said:
            failures.append("the message does not name the picture")
        return outcome, failures

    def mend(self, job: Job) -> None:
        """Take it away, and with it a run that has taken its length for that of the data."""
        if self.picture is not None:
            unmount(self.picture)
        if job.has_other_data():
            shutil.rmtree(job.run)


class ReadOnly(Fault):
    """The run directory becomes read-only: a bind mount of itself, remounted.

    The kernel refuses to remount what somebody has open to write, so that is waited for.
    """

    kind = "run directory remounted read-only"
    sentence = "the file system is read-only"
    needs_mounts = True

    def can_strike(self, attempt: Attempt) -> bool:
        """Return whether there is a run directory."""
        return attempt.job.run.is_dir()

    def strike(self, attempt: Attempt) -> str:
        """Remount it."""
        run = str(attempt.job.run)
        mount("--bind", run, run)
        while subprocess.run(
            ["mount", "-o", "remount,bind,ro", run], capture_output=True
        ).returncode:
            if attempt.is_over():
                return UNMET
        return ""

    def mend(self, job: Job) -> None:
        """Make it writable again."""
        unmount(job.run)


class SecondRun(Fault):
    """The same command is started once more while it runs."""

    kind = "two runs on one directory"
    stops = False

    def can_strike(self, attempt: Attempt) -> bool:
        """Return whether the first has its lock by now."""
        return attempt.is_at_work()

    def strike(self, attempt: Attempt) -> str:
        """Start it, and hold it to be refused."""
        second = attempt.job.start()
        code = second.wait()
        if attempt.is_over() and code == 0:
            return UNMET  # the first was through before the second looked
        assert code == 2, f"the second run ended with {code}:\n{second.said[-1500:]}"
        assert "is in use by another process" in second.said, second.said[-1500:]
        return "second refused, first undisturbed"


class ClockJump(Fault):
    """The wall clock is set hours or days forward or back, and files are dated by the wrong one."""

    kind = "clock jump"
    stops = False

    def strike(self, attempt: Attempt) -> str:
        """Set the clock, and date some of the run's files by it."""
        seconds = self.random.choice([-400 * 24, -1, 1, 400 * 24]) * HOURS * self.random.random()
        jump(seconds)
        now = time.time()
        files = [path for path in attempt.job.run.rglob("*") if path.is_file()]
        for path in self.random.sample(files, min(10, len(files))):
            try:
                os.utime(path, (now, now))
            except FileNotFoundError:  # renamed meanwhile
                continue
        return "undisturbed"


def mount(*arguments: str) -> None:
    """Mount, seen by this process and its children alone."""
    subprocess.run(["mount", *arguments], check=True)


def unmount(place: Path) -> None:
    """Take away what is mounted at ``place``; a process that still holds a file of it may end."""
    subprocess.run(["umount", "--lazy", str(place)], check=True)


STRIKES: tuple[type[Fault], ...] = (
    KilledMain, KilledLoader, Preempted, FullDisk, UnreadablePicture, ReadOnly, SecondRun,
    ClockJump,
)  # fmt: skip
"""The kinds that befall a running process."""
