"""Where a run lives: a folder, or an address that a folder of this machine is kept the same as.

Stages map files, lock, rename and append, so a run at an address is worked on in its copy
(``cpsd.addresses``). What is whole there is fetched first; what changes is sent while the run goes
on, a list of what is whole last (``cpsd.whole_files``). A run in a folder has nothing to do here.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cpsd.addresses import address_of, local_place
from cpsd.copies import NothingThereError, fetch_folder
from cpsd.lease import Lease
from cpsd.run_copy import InUseError, RunCopy, is_read
from cpsd.sending import sending
from cpsd.stage import PARTIAL

_LARGE = (PARTIAL, "soft_labels")

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

        def send() -> bool:
            lease.require()
            return copy.send()

        def told(error: Exception) -> str:
            return (
                f"Not all of the run could be sent to {address}: {error} Nothing is lost: it is "
                "kept on this machine; start the same command again here, and it goes on."
            )

        with sending(folder, send, told):
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
