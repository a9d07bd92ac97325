"""When a process that loads pictures is lost, or the one that it loads for."""

import multiprocessing
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Thread
from types import TracebackType

from cpsd.errors import CpsdError, TrainingError, is_of_killed_loader


@contextmanager
def plain_loader_errors() -> Iterator[None]:
    """Say in a sentence that a process that loads pictures was killed.

    torch raises that wherever this process is at the moment, not only where it waits for a batch,
    so that other libraries may have made another error of it.

    Raises:
        TrainingError: a loader's process was killed while the block used it.
    """
    try:
        yield
    except CpsdError:
        raise
    except Exception as error:
        if not any(is_of_killed_loader(seen) for seen in _with_causes(error)):
            raise
        raise TrainingError(
            "A process that loads pictures was killed, most likely because memory ran out; "
            "lower machine.workers or training.batch_size, and start the same command again."
        ) from error


def _with_causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def end_with_parent(worker: int) -> None:
    """Have this process, which loads, end when the one that it loads for does, without a word.

    torch looks every five seconds whether its parent is another one than at first, so that of a
    parent that was killed before the first look nothing is ever seen. And the thread that hands
    batches over would print that nobody takes them any more.
    """
    parent = multiprocessing.parent_process()
    if parent is None:  # without processes
        return

    def end() -> None:
        parent.join()
        os._exit(1)

    Thread(target=end, name="end with parent", daemon=True).start()
    sys.excepthook = _say_unless_left


def _say_unless_left(
    kind: type[BaseException], error: BaseException, where: TracebackType | None
) -> None:
    """Print an error that nobody has caught, unless it is that the other end has gone."""
    if not isinstance(error, ConnectionError | EOFError):
        sys.__excepthook__(kind, error, where)
