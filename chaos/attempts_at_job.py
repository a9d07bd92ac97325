"""The small job that faults strike, and attempts at it: each a process that runs `cpsd run`."""

import atexit
import importlib
import json
import os
import pkgutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from jumping_clock import JumpingDatetime, jump, real_time

import cpsd
import cpsd.stage_files
from cpsd.cli import main
from cpsd.data.digits import write_digits

TICK = os.sysconf("SC_CLK_TCK")
PATIENCE = 180.0
"""Seconds until an attempt that does not end counts as one that hangs."""
LOOK = 0.01
SOURCES = str(Path(cpsd.__file__).parents[1])
SETTINGS = (
    "--config", "demo", "--image.size", "24", "--partition.parts", "2",
    "--training.batch_size", "16", "--training.epochs", "4", "--teachers.epochs", "3",
    "--distillation.views", "2",
    "--machine.workers", "1", "--machine.threads", "1", "--machine.accelerator", "cpu",
    "--machine.picture_memory", "0",
)  # fmt: skip
"""The whole method in seconds. No picture stays in memory, so that each is read again and again."""
KEPT = ("last.ckpt", "[0-9]*.ckpt", "*.npy", "*.json")
"""Files that an attempt goes on from."""


class HangingError(Exception):
    """An attempt did not end in time."""


@dataclass
class Job:
    """A run directory with all that attempts at it share.

    Args:
        folder: of the run; its file system may become full or read-only.
        beside: for what attempts say, which a full disk must not swallow.
        table: the data.
        options: of `cpsd run`, beside the settings.
        data: fingerprint of the undisturbed run's label graph; "" while there is none.
    """

    folder: Path
    beside: Path
    table: Path
    options: tuple[str, ...] = ()
    data: str = ""
    sessions: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True)
        self.temporary.mkdir()
        self.beside.mkdir(parents=True)

    @property
    def run(self) -> Path:
        """The run directory."""
        return self.folder / "run"

    @property
    def temporary(self) -> Path:
        """Where the system's temporary files go."""
        return self.folder / "tmp"

    @property
    def command(self) -> list[str]:
        """The arguments of `cpsd`."""
        return ["run", str(self.table), *SETTINGS, *self.options, "--out", str(self.run)]

    def start(self, *, fresh: bool = False) -> "Attempt":
        """Start an attempt.

        Args:
            fresh: as a shell does it; by default forked from this process, which has imported
                everything, so that an attempt costs no four seconds before it begins.
        """
        place = self.beside / f"said-{len(self.sessions):03d}"
        began = real_time()
        process = self._spawned(place) if fresh else self._forked(place)
        self.sessions.append(process)
        return Attempt(self, process, place, began)

    def _spawned(self, place: Path) -> int:
        environment = {**os.environ, "TMPDIR": str(self.temporary), "PYTHONPATH": SOURCES}
        said = (os.POSIX_SPAWN_OPEN, 1, str(place), os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        return os.posix_spawn(
            sys.executable,
            [sys.executable, "-m", "cpsd", *self.command],
            environment,
            file_actions=[said, (os.POSIX_SPAWN_DUP2, 1, 2)],
            setsid=True,
        )

    def _forked(self, place: Path) -> int:
        sys.stdout.flush()
        process = os.fork()
        if process != 0:
            return process
        code = 1
        try:
            os.setsid()
            said = os.open(place, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            os.dup2(said, 1)
            os.dup2(said, 2)
            os.environ["TMPDIR"], tempfile.tempdir = str(self.temporary), None
            code = main(self.command)
        except BaseException:
            traceback.print_exc()
        finally:
            # As the interpreter ends, but for the frames of the process that this is a copy of.
            with suppress(BaseException):
                atexit._run_exitfuncs()
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)

    def orphans(self) -> list[int]:
        """Return the processes that attempts have left."""
        return [process for process in processes() if session_of(process) in self.sessions]

    def kill_all(self) -> None:
        """Kill the processes that attempts have left."""
        for process in self.orphans():
            with suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)

    def has_other_data(self) -> bool:
        """Return whether the run was begun with other data than the undisturbed one."""
        try:
            mark = json.loads((self.run / ".stages" / "label-graph.json").read_text())
        except (OSError, ValueError):  # not that far, or damaged by another fault
            return False
        return self.data not in ("", mark.get("fingerprint", self.data))

    def last_progress(self) -> float:
        """Return when the last file was written that an attempt goes on from."""
        folders = [self.run / ".stages", *(self.run / ".partial").glob("*"), self.run]
        times = [0.0]
        for path in (path for folder in folders for kind in KEPT for path in folder.glob(kind)):
            with suppress(OSError):
                times.append(path.stat().st_ctime)
        return max(times)


@dataclass
class Attempt:
    """A process that runs the job.

    Args:
        job: what it runs.
        process: its number.
        output: file with all that it says.
        began: seconds since 1970.
    """

    job: Job
    process: int
    output: Path
    began: float
    code: int | None = None
    ended: float | None = None

    @property
    def said(self) -> str:
        """What it has said so far."""
        return self.output.read_text(errors="replace") if self.output.exists() else ""

    def is_over(self) -> bool:
        """Return whether it has ended; ``code`` is then its exit code, minus a signal's number."""
        if self.code is None:
            process, status = os.waitpid(self.process, os.WNOHANG)
            if process != 0:
                self.code, self.ended = os.waitstatus_to_exitcode(status), real_time()
        return self.code is not None

    def wait(self) -> int:
        """Wait for its end and return its exit code.

        Raises:
            HangingError: it does not end.
        """
        wait_until(self, lambda: False)
        assert self.code is not None
        return self.code

    def kill(self, number: int = signal.SIGKILL) -> None:
        """Send it a signal."""
        if not self.is_over():
            os.kill(self.process, number)

    def processor_time(self) -> float:
        """Return its own processor seconds so far: a measure of how far it is on a busy machine."""
        fields = stat_of(self.process)
        return 0.0 if fields is None else (int(fields[11]) + int(fields[12])) / TICK

    def children(self) -> list[int]:
        """Return the processes that it has started."""
        return [
            process
            for process in processes()
            if (fields := stat_of(process)) is not None
            and int(fields[1]) == self.process
            and fields[0] != "Z"
        ]

    def is_at_work(self) -> bool:
        """Return whether it has begun to work at a stage."""
        for path in (self.job.run / ".partial").glob("*/attempts.json"):
            with suppress(OSError):
                if path.stat().st_ctime >= self.began:
                    return True
        return False


def wait_until(attempt: Attempt, ready: Callable[[], bool]) -> bool:
    """Wait until it is ready, and return whether that was before the attempt's end.

    Raises:
        HangingError: neither comes.
    """
    given_up = time.monotonic() + PATIENCE
    while not attempt.is_over():
        if ready():
            return True
        if time.monotonic() > given_up:
            attempt.kill()
            raise HangingError(f"no end after {PATIENCE:.0f} s:\n{attempt.said[-1000:]}")
        time.sleep(LOOK)
    return False


def stat_of(process: int) -> list[str] | None:
    """Return what the system says of a process, from its state on; None where it is gone."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None


def session_of(process: int) -> int:
    """Return the session of a process that lives, or 0."""
    fields = stat_of(process)
    return 0 if fields is None or fields[0] == "Z" else int(fields[3])


def described(process: int) -> str:
    """Return the number of a process, its state, and what each of its threads waits for."""
    folder = Path(f"/proc/{process}")
    try:
        state = (stat_of(process) or ["gone"])[0]
        threads = [
            f"{(task / 'comm').read_text().strip()} in {(task / 'wchan').read_text()}"
            for task in (folder / "task").iterdir()
        ]
        command = (folder / "cmdline").read_text().replace("\0", " ").strip()
    except OSError as error:
        return f"{process} ({error.strerror})"
    return f"{process}, {state}: {', '.join(threads)}; {command}"


def processes() -> list[int]:
    """Return the numbers of all processes."""
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]  # noqa: PTH208


def make_data(folder: Path) -> Path:
    """Write the job's pictures and return their table."""
    return write_digits(folder, seed=0, train=48, validation=24, test=24, test_unseen=0)


def import_everything() -> None:
    """Import all that a run imports, so that forked attempts need not."""
    for module in pkgutil.walk_packages(cpsd.__path__, "cpsd."):
        if module.name != "cpsd.__main__" and not module.name.startswith("cpsd.cluster"):
            importlib.import_module(module.name)
    vars(cpsd.stage_files)["datetime"] = JumpingDatetime
    jump(0.0)
