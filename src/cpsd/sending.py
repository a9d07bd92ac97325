"""Sending what changes in a folder to an address, beside the work that changes it."""

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from cpsd.errors import CpsdError
from cpsd.files import watched
from cpsd.stage import PARTIAL

SHARE_OF_TIME = 10
"""Sending what unfinished stages have takes about a tenth of the time at most."""
SECONDS_BETWEEN = 1.0
_TRIES = 5
Send = Callable[[], bool]
Told = Callable[[Exception], str]

logger = logging.getLogger(__name__)


@contextmanager
def sending(folder: Path, send: Send, told: Told) -> Iterator[None]:
    """Send what changes in a folder while the block goes on, and the rest at its end.

    Args:
        folder: what is written whole in it by this process is seen.
        send: sends what has changed; returns whether that could be done, as it cannot if files
            change meanwhile.
        told: says what it means that something cannot be sent.

    Raises:
        CpsdError: what ``send`` raises.
    """
    along = _Sending(folder, send, told)
    with along, watched(along.wrote):
        yield


class _Sending:
    """Sends what changes in a folder while the block goes on, and the rest at its end."""

    def __init__(self, folder: Path, send: Send, told: Told) -> None:
        self._folder = folder
        self._send_once = send
        self._told = told
        self._written = threading.Event()
        self._ended = False
        self._one = threading.Lock()
        self._failed: Exception | None = None
        self._thread = threading.Thread(target=self._send_along, name="cpsd sending", daemon=True)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        self._ended = True
        self._written.set()
        self._thread.join()
        if error is None:
            self._raise()
            self._send()
        elif self._failed is None:
            try:
                self._send()
            except CpsdError as failed:
                logger.warning("%s", self._told(failed))

    def wrote(self, path: Path) -> None:
        """Take note that a file of the run was written; what a stage has done is sent at once.

        Raises:
            RunError: another process has gone on with the run.
            AddressError: what was written before could not be sent.
        """
        if not path.is_relative_to(self._folder):
            return
        self._raise()
        if path.name == "manifest.json" and PARTIAL not in path.parts:
            self._send()
        else:
            self._written.set()

    def _send_along(self) -> None:
        rest = SECONDS_BETWEEN
        while not self._ended:
            self._written.wait()
            began = time.monotonic()
            self._written.clear()
            if self._ended or self._failed is not None:
                return
            try:
                with self._one:
                    sent = self._send_once()
            except Exception as error:  # for the thread that works to raise
                self._failed = error
                return
            if not sent:
                self._written.set()
            rest = max(SECONDS_BETWEEN, SHARE_OF_TIME * (time.monotonic() - began))
            deadline = time.monotonic() + rest
            while not self._ended and time.monotonic() < deadline:
                time.sleep(0.05)

    def _send(self) -> None:
        """Send all; where others write meanwhile (a cluster's workers), perhaps the next time."""
        with self._one:
            try:
                for _ in range(_TRIES):
                    if self._send_once():
                        return
            except CpsdError as error:
                self._failed = error
                self._raise()

    def _raise(self) -> None:
        if isinstance(self._failed, CpsdError):
            raise type(self._failed)(self._told(self._failed)) from self._failed
        if self._failed is not None:
            raise self._failed
