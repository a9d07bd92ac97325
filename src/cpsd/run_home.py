"""Where a run lives: a folder, or an address that a folder of this machine is kept the same as.

Stages map files, lock, rename and append, so a run at an address is worked on in its copy
(``cpsd.addresses``). What is whole there is fetched first; what changes is sent while the run goes
on, a list of what is whole last (``cpsd.whole_files``). A run in a folder has nothing to do here.
"""

import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cpsd.addresses import address_of, local_place
from cpsd.copies import NothingThereError, fetch_folder
from cpsd.errors import CpsdError
from cpsd.files import watched
from cpsd.lease import Lease
from cpsd.run import PARTIAL
from cpsd.run_copy import InUseError, RunCopy, is_read

SHARE_OF_TIME = 10
"""Sending what unfinished stages have takes about a tenth of the time at most."""
SECONDS_BETWEEN = 1.0
_LARGE = (PARTIAL, "soft_labels")
_TRIES = 5

logger = logging.getLogger(__name__)


@contextmanager
def at_home(place: str) -> Iterator[Path]:
    """Yield the folder in which the run at ``place`` is worked on; afterwards all of it is there.

    Args:
        place: a folder, which is yielded as it is, or an address.

    Raises:
        RunError: another process works on it, or something else lies at the address.
        AddressError: the address cannot be reached or written to; nothing of the copy is lost.
    """
    folder = local_place(place)
    address = address_of(folder)
    if address is None:
        yield folder
        return
    copy = RunCopy(address, folder)
    with copy.held(), Lease(address) as lease:
        copy.bring()
        sending = _Sending(copy, lease)
        with sending, watched(sending.wrote):
            yield folder
        copy.tidy()
        logger.info("All of the run lies at %s", address)


def brought_if_there(place: str) -> Path:
    """Return the folder of a run that may have to begin yet; from an address it is fetched."""
    try:
        return brought(place)
    except NothingThereError:
        return local_place(place)


def brought(place: str) -> Path:
    """Return the folder of a run, comparison or model to be read; from an address it is fetched.

    What only training needs stays where it is: soft labels and unfinished stages.

    Raises:
        AddressError: there is nothing at the address, or it cannot be reached.
    """
    folder = local_place(place)
    address = address_of(folder)
    if address is None:
        return folder
    copy = RunCopy(address, folder)
    try:
        with copy.held():
            if not copy.bring(without=_LARGE):
                fetch_folder(address, folder, lambda name: is_read(name, _LARGE))
    except InUseError:
        logger.info("%s is worked on by this machine; shown is how far it is", address)
    return folder


class _Sending:
    """Sends what changes in a copy while the block goes on, and the rest at its end.

    Args:
        copy: of the run.
        lease: on its address.
    """

    def __init__(self, copy: RunCopy, lease: Lease) -> None:
        self._copy = copy
        self._lease = lease
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
        if not path.is_relative_to(self._copy.folder):
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
                    self._lease.require()
                    sent = self._copy.send()
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
                self._lease.require()
                for _ in range(_TRIES):
                    if self._copy.send():
                        return
            except CpsdError as error:
                self._failed = error
                self._raise()

    def _raise(self) -> None:
        if isinstance(self._failed, CpsdError):
            raise type(self._failed)(self._told(self._failed)) from self._failed
        if self._failed is not None:
            raise self._failed

    def _told(self, error: Exception) -> str:
        return (
            f"Not all of the run could be sent to {self._copy.address}: {error} Nothing is lost: "
            "it is kept on this machine; start the same command again here, and it goes on."
        )
