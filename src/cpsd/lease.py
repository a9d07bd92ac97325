"""A lease on a run at an address: one process at a time works on it, as far as a server can help.

    ADDRESS/.whole/lease.json      who has it, and a count that goes up while they live

No clocks are compared: whoever wants the lease watches the count. Where the server can create a
file only if there is none (S3 does), two that begin at once never both have it. Taken from a
process that was only cut off, it is noticed by that process before it says that anything is whole.
"""

import json
import logging
import os
import platform
import threading
import time
import uuid
from contextlib import suppress
from pathlib import Path
from typing import Any

from cpsd.copies import NothingThereError, file_system, make_folder, reached
from cpsd.errors import AddressError, RunError

SECONDS_BETWEEN_BEATS = 10.0
SECONDS_TO_WATCH = 35.0
"""Without a beat in this time, the process that holds a lease is taken for dead."""

logger = logging.getLogger(__name__)


class Lease:
    """A lease on what lies at ``address``.

    Args:
        address: of a run.
    """

    def __init__(self, address: str) -> None:
        self._address = address
        self._file = f"{address}/.whole/lease.json"
        self._system = file_system(address)
        self._holder = uuid.uuid4().hex
        self._beats = 0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._keep, name="cpsd lease", daemon=True)
        self._lost = False

    def __enter__(self) -> "Lease":
        """Take the lease.

        Raises:
            RunError: another process has it, and lives.
            AddressError: the address cannot be reached or written to.
        """
        try:
            self._write(mode="create")
        except FileExistsError:
            self._take_over()
            self._write()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join(SECONDS_BETWEEN_BEATS)
        with suppress(AddressError):  # the next process sees that it does not beat
            if self._read()[1].get("holder") == self._holder:
                with reached(self._file):
                    self._system.rm_file(self._file)

    def require(self) -> None:
        """Make sure that the lease is still ours.

        Raises:
            RunError: it is not.
        """
        if not self._lost:
            self._lost = self._read()[1].get("holder", self._holder) != self._holder
        if self._lost:
            raise RunError(
                f"Another process has taken {self._address} over, for nothing was heard of this "
                "one; it goes on there."
            )

    def _take_over(self) -> None:
        """Return when whoever has the lease is dead."""
        first, told = self._read()
        host, process = told.get("host"), told.get("process")
        if (host, told.get("space")) == _here() and not Path(f"/proc/{process}").exists():
            return
        who = f"the process {process} on {host}"
        logger.info(
            "%s is held by %s; looking for %d s whether it lives", self._address, who,
            SECONDS_TO_WATCH,
        )  # fmt: skip
        deadline = time.monotonic() + SECONDS_TO_WATCH
        while time.monotonic() < deadline:
            time.sleep(min(2.0, SECONDS_TO_WATCH / 4))
            now = self._read()[0]
            if now is None:
                return
            if now != first:
                raise RunError(
                    f"{self._address} is in use by {who}; wait for it or choose another --out."
                )

    def _keep(self) -> None:
        while not self._ended.wait(SECONDS_BETWEEN_BEATS):
            with suppress(AddressError, RunError):  # a server that is away may come back
                self.require()
                self._write()

    def _write(self, mode: str = "overwrite") -> None:
        self._beats += 1
        host, space = _here()
        told = {
            "holder": self._holder,
            "host": host,
            "space": space,
            "process": os.getpid(),
            "beats": self._beats,
        }
        content = json.dumps(told).encode()
        make_folder(f"{self._address}/.whole")
        with reached(self._file):
            self._system.pipe_file(self._file, content, mode=mode)

    def _read(self) -> tuple[bytes | None, dict[str, Any]]:
        """Return the lease as it is, and what it says, as far as it can be understood."""
        try:
            with reached(self._file):
                content: bytes = self._system.cat_file(self._file)
        except NothingThereError:
            return None, {}
        try:
            told = json.loads(content)
        except (ValueError, RecursionError):
            told = None
        return content, told if isinstance(told, dict) else {}


def _here() -> tuple[str, str]:
    """Return what tells the processes of this machine, or container, from those of others."""
    try:
        space = os.readlink("/proc/self/ns/pid")  # noqa: PTH115 - the name is what is wanted
    except OSError:
        space = ""
    return platform.node(), space
