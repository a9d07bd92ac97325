"""The command line: run, partition, train, distill, evaluate, predict, import, and data."""

import io
import logging
import os
import signal
import sys
import threading
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any

from rich.console import Console

from cpsd.addresses import with_addresses
from cpsd.arguments import parse
from cpsd.errors import EXIT_USER_ERROR, Preempted, UserError
from cpsd.files import refusal
from cpsd.verbs import VERBS

EXIT_UNREAD = 1
"""Nobody reads the output any more (``cpsd predict ... | head``)."""
EXIT_INTERRUPTED = 130
"""What a shell makes of Ctrl-C."""

INTERRUPTED = "Interrupted. Start the same command again; a run goes on where it stopped.\n"
PREEMPTED = "Asked to end. Start the same command again; a run goes on where it stopped.\n"
_SHOW_CURSOR = "\x1b[?25h"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    argv = sys.argv[1:] if argv is None else list(argv)
    with _ended_by_signals() as heard:
        try:
            return _main(argv)
        except KeyboardInterrupt as interrupt:
            # All there is left to do is to end: another Ctrl-C would only interrupt Python's own.
            for number in (signal.SIGINT, signal.SIGTERM):
                signal.signal(number, signal.SIG_IGN)
            # What calls back from compiled code (Ray) raises an interrupt of its own.
            sentence, code = _end_by(heard[0]() if heard else interrupt)
            sys.stderr.write(sentence)
            return code


def _main(argv: Sequence[str]) -> int:
    """Run the command line; what a user can mend becomes a sentence and an exit code."""
    _print_any_file_name()
    logging.basicConfig(format="  %(message)s", level=logging.WARNING, stream=sys.stdout)
    logging.getLogger("cpsd").setLevel(logging.INFO)
    try:
        verb, arguments = parse(argv)
        arguments.argv = argv  # for a verb that starts further processes of itself
        code = VERBS[verb](arguments)
        sys.stdout.flush()
        return code
    except BrokenPipeError:
        _drop_output()
        return EXIT_UNREAD
    except Exception as error:
        interrupt = _interrupt_behind(error)
        if interrupt is not None:
            raise interrupt from error
        sentence = str(error) if isinstance(error, UserError) else _refused(error)
        if sentence is None:
            raise
        if "--debug" in argv:
            traceback.print_exc()
        stderr = Console(stderr=True, highlight=False, soft_wrap=True)
        stderr.print(f"cpsd: {with_addresses(sentence)}", style="red", markup=False)
        return EXIT_USER_ERROR


def _interrupt_behind(error: BaseException | None) -> KeyboardInterrupt | None:
    """Return the interrupt that ``error`` followed: on the way out, processes are seen to end."""
    while error is not None and not isinstance(error, KeyboardInterrupt):
        error = error.__context__
    return error


def _refused(error: Exception) -> str | None:
    """Return a sentence for what the file system has refused, None for any other error."""
    reason = refusal(error)
    if reason is None:
        return None
    with suppress(ValueError):  # of a stream that has no file
        try:
            sys.stdout.flush()
        except OSError:
            _drop_output()
            return f"Cannot write the output: {reason}"
    name = getattr(error, "filename", None)
    return f"Cannot write a file or the output: {reason}" if name is None else f"{name}: {reason}"


def _drop_output() -> None:
    """Send what is left of the output nowhere: Python would fail on it once more at its end."""
    with suppress(ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _print_any_file_name() -> None:
    """Let standard output take file names that are not UTF-8, as the bytes they are."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        exact = sys.stdout.encoding.lower().replace("-", "") == "utf8"
        sys.stdout.reconfigure(errors="surrogateescape" if exact else "backslashreplace")


@contextmanager
def _ended_by_signals() -> Iterator[Sequence[type[KeyboardInterrupt]]]:
    """Make Ctrl-C and SIGTERM raise exceptions, and a second one end the process on the spot.

    Yields a list in which the exception is that was raised.

    So does one that Python would drop, because it came in a destructor. Nothing is lost by that:
    files are whole or not there at any moment.
    """
    owner, hook = os.getpid(), sys.unraisablehook
    heard: list[type[KeyboardInterrupt]] = []
    if threading.current_thread() is not threading.main_thread():
        yield heard
        return
    kinds: dict[int, type[KeyboardInterrupt]] = {
        signal.SIGINT: KeyboardInterrupt,
        signal.SIGTERM: Preempted,
    }
    before = {number: signal.getsignal(number) for number in kinds}
    # A job in the background hears no Ctrl-C.
    heeded = [number for number in kinds if before[number] not in (None, signal.SIG_IGN)]

    def end(number: int, frame: FrameType | None) -> None:
        if os.getpid() != owner:
            # A process that loads pictures: Ctrl-C is for the one that started it, and will end it.
            if number == signal.SIGTERM:
                os._exit(EXIT_INTERRUPTED)
            return
        if heard:
            _end_now(kinds[number]())
        heard.append(kinds[number])
        raise kinds[number]

    def unraisable(fault: Any) -> None:  # noqa: ANN401 - has no public type
        if isinstance(fault.exc_value, KeyboardInterrupt):
            _end_now(fault.exc_value)
        hook(fault)

    for number in heeded:
        signal.signal(number, end)
    sys.unraisablehook = unraisable
    try:
        yield heard
    finally:
        sys.unraisablehook = hook
        for number in heeded:
            if signal.getsignal(number) is end:
                signal.signal(number, before[number])


def _end_by(interrupt: KeyboardInterrupt) -> tuple[str, int]:
    """Return what is said of an interrupt, and the exit code."""
    preempted = isinstance(interrupt, Preempted)
    return (PREEMPTED, 0) if preempted else (INTERRUPTED, EXIT_INTERRUPTED)


def _end_now(interrupt: KeyboardInterrupt) -> None:
    sentence, code = _end_by(interrupt)
    with suppress(ValueError):  # of another thread than the main one
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # once is enough to be told
    with suppress(Exception):  # It may be in the midst of writing.
        sys.stdout.write(_SHOW_CURSOR if sys.stdout.isatty() else "")
        sys.stdout.flush()
    with suppress(OSError):
        os.write(2, sentence.encode())
    os._exit(code)
