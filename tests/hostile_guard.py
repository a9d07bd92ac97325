"""A fence around a reader of hostile files: what it may raise, take and open."""

import os
import re
import resource
import signal
import sys
import sysconfig
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import cpsd
from cpsd.errors import UserError

MOST_MEMORY = 1_000_000_000
"""Bytes that reading may take beyond what the process has already."""
MOST_SECONDS = 60.0
"""From then on it counts as hanging: the slowest takes a tenth of a second."""

_OWN = (
    *{os.path.realpath(path) for path in (sys.prefix, sys.base_prefix, sys.exec_prefix)},
    *{os.path.realpath(path) for path in sysconfig.get_paths().values()},
    os.path.realpath(Path(cpsd.__file__).parent),
    "/proc",
    "/sys",
    "/dev/null",
    "/dev/urandom",
    "/etc/localtime",
    "/usr/share/zoneinfo",
)
"""Where Python and its libraries open files of their own accord."""


class BrokenFenceError(AssertionError):
    """A reader did what no file may make it do."""


class _Watch:
    """Notes the files that are opened outside the allowed folders, while it is told to."""

    def __init__(self) -> None:
        self.allowed: tuple[str, ...] | None = None
        self.opened: list[str] = []

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event != "open" or self.allowed is None:
            return
        path = arguments[0]
        if not isinstance(path, str | bytes | os.PathLike):
            return  # a number: the file is open already
        place = os.path.realpath(os.fsdecode(path))
        if not any(place == own or place.startswith(f"{own}/") for own in self.allowed):
            self.opened.append(place)


_watch = _Watch()
_hooked = False


def fenced(folder: Path, read: Callable[[], object]) -> object:
    """Return what ``read`` returns or the ``UserError`` that it raises.

    Args:
        folder: the only place where it may open files.
        read: what is held to the fence.

    Raises:
        BrokenFenceError: any other error, a file elsewhere, a gigabyte or a minute.
    """
    global _hooked
    if not _hooked:
        sys.addaudithook(_watch)
        _hooked = True
    _watch.allowed, _watch.opened = (*_OWN, os.path.realpath(folder)), []
    try:
        with _at_most(MOST_MEMORY), _within(MOST_SECONDS):
            result = read()
    except UserError as error:
        if not str(error).strip() or len(str(error)) > 20_000:
            raise BrokenFenceError(f"a message of {len(str(error))} characters") from error
        result = error
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt | SystemExit):
            raise
        raise BrokenFenceError(f"{type(error).__name__}: {error}") from error
    finally:
        _watch.allowed = None
    if _watch.opened:
        raise BrokenFenceError(f"opened {_watch.opened}")
    return result


@contextmanager
def _at_most(size: int) -> Iterator[None]:
    """Let the process have ``size`` bytes more than it has; what wants more fails."""
    before = resource.getrlimit(resource.RLIMIT_AS)
    status = Path("/proc/self/status")
    if not status.is_file():
        yield
        return
    there = re.search(r"VmSize:\s+(\d+) kB", status.read_text())
    assert there is not None
    resource.setrlimit(resource.RLIMIT_AS, (int(there[1]) * 1024 + size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


@contextmanager
def _within(seconds: float) -> Iterator[None]:
    """Interrupt what takes longer."""

    def late(number: int, frame: FrameType | None) -> None:
        where = "".join(traceback.format_stack(frame, limit=3))
        raise TimeoutError(f"still at it after {seconds:g} s:\n{where}")

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
