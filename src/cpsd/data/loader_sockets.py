"""Where processes that load pictures have the sockets by which they hand batches over.

Python gives each such process a folder of its own among the system's temporary files, which stays
when the process is killed. Here all of them share one of the process that started them, whose name
says whose it is, so that the next one clears up what a killed one has left.
"""

import atexit
import multiprocessing
import os
import platform
import re
import shutil
import signal
import tempfile
import zlib
from contextlib import suppress
from multiprocessing.util import Finalize
from pathlib import Path
from typing import Any

from cpsd.files import is_another_process

_HERE = f"cpsd-{zlib.crc32(platform.node().encode()) & 0xFFFF:04x}-"
"""Processes of other containers, which may see the same folder, have other numbers."""
_MOST_LETTERS = 80
"""A socket's path has about 100, of which Python's name for it takes 18. With a longer one the
loading process fails where nobody hears it, and the one that waits for its batches waits for ever.
"""
_SHORT_PLACE = "/tmp"


def share_one_folder() -> None:
    """Have processes that are started from now on put their sockets into a folder of this one.

    It is removed when this process ends.
    """
    settings = _settings()
    if Path(settings.get("tempdir") or "/nowhere").is_dir():
        return
    prefix, place = f"{_HERE}{os.getpid()}-", tempfile.gettempdir()
    if len(os.fsencode(place)) + len(prefix) + 9 > _MOST_LETTERS and Path(_SHORT_PLACE).is_dir():
        place = _SHORT_PLACE
    folder = tempfile.mkdtemp(prefix=prefix, dir=place)
    # As Python removes its own: after everything else that it does at the end of a process.
    Finalize(None, shutil.rmtree, args=(folder,), kwargs={"ignore_errors": True}, exitpriority=-100)
    settings["tempdir"] = folder
    # Called before what Python does with processes at the end, which it was registered after.
    atexit.register(_hear_no_more_of_loaders)


def remove_left_folders() -> None:
    """Remove the folders of processes that were killed."""
    own = _settings().get("tempdir")
    places = {Path(tempfile.gettempdir()), Path(_SHORT_PLACE)}
    for folder in [folder for place in places for folder in place.glob(f"{_HERE}*-*")]:
        owner = re.fullmatch(r"(\d+)-\w+", folder.name.removeprefix(_HERE))
        with suppress(OSError):
            is_mine = folder.stat().st_uid == os.getuid()
            is_left = owner is not None and not is_another_process(int(owner[1]))
            if is_mine and is_left and str(folder) != own:
                shutil.rmtree(folder, ignore_errors=True)


def _hear_no_more_of_loaders() -> None:
    """Have the loss of a loading process raise nothing while this process ends.

    torch raises it wherever the main process is when it hears of it, and so broke off the end of a
    process before it came to the folder.
    """
    if hasattr(signal, "SIGCHLD"):
        try:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        except RuntimeError:  # heard of just now
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)


def _settings() -> dict[str, Any]:
    """Return what Python's multiprocessing says to processes; no public name gives the folder."""
    settings: dict[str, Any] = multiprocessing.current_process()._config  # type: ignore[attr-defined]
    return settings
