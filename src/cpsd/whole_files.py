"""Which files of a run at an address are whole: a list that is written after them.

    ADDRESS/
      student/model.safetensors  ...      the run's files, by their own names
      .whole/objects/<SHA-256>            of unfinished stages, which change: never overwritten
      .whole/made/<worker>/<number>       on their way from a cluster's worker to the driver
      .whole/index-00000012.json          name, length and SHA-256 of every file that is whole

A file counts if the last whole list names it and what is there has that length and hash. A list has
a hash of itself, and a number of its own that only one process can create.
"""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from cpsd.copies import NothingThereError, file_system, make_folder, reached
from cpsd.errors import RunError

WHOLE = ".whole"
MADE = "made"
_UNFINISHED = ".partial"
_INDEX = re.compile(r"index-(\d{8})\.json")
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class WholeFile:
    """A file as it was written.

    Args:
        size: bytes.
        sha256: of its content.
    """

    size: int
    sha256: str

    def key(self, name: str) -> str:
        """Return where it lies, relative to the run's address."""
        is_unfinished = _UNFINISHED in PurePosixPath(name).parts
        return f"{WHOLE}/objects/{self.sha256}" if is_unfinished else name


Index = Mapping[str, WholeFile]
"""Files by their names relative to the run."""


def digest_of(path: Path) -> str:
    """Return the SHA-256 of a file."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def index_digest(index: Index) -> str:
    """Return the SHA-256 of a list."""
    plain = json.dumps({name: asdict(file) for name, file in index.items()}, sort_keys=True)
    return hashlib.sha256(plain.encode()).hexdigest()


def last_index(address: str) -> tuple[int, Index] | None:
    """Return the last whole list of the run at ``address`` with its number, None where none is.

    Raises:
        AddressError: it cannot be reached.
    """
    system, folder = file_system(address), f"{address}/{WHOLE}"
    try:
        with reached(folder):
            names = [str(name).rsplit("/", 1)[-1] for name in system.ls(folder, detail=False)]
    except NothingThereError:
        return None
    for name in sorted(filter(_INDEX.fullmatch, names), reverse=True):
        try:
            with reached(f"{folder}/{name}"):
                index = _parsed(system.cat_file(f"{folder}/{name}"))
        except NothingThereError:
            continue
        if index is not None:
            return int(name[6:14]), index
    return None


def write_index(address: str, number: int, index: Index) -> None:
    """Write the list ``number`` of the run at ``address``, and remove earlier ones.

    Raises:
        RunError: another process has written one of that number.
        AddressError: it cannot be written.
    """
    system, folder = file_system(address), f"{address}/{WHOLE}"
    file = f"{folder}/index-{number:08d}.json"
    files = {name: asdict(index[name]) for name in sorted(index)}
    content = json.dumps({"format_version": 1, "sha256": index_digest(index), "files": files})
    make_folder(folder)
    with reached(file):
        try:
            system.pipe_file(file, content.encode(), mode="create")
        except FileExistsError as error:
            # Perhaps by this very request, whose answer was lost.
            if system.cat_file(file) != content.encode():
                raise RunError(
                    f"Another process has gone on with {address} meanwhile; it goes on there."
                ) from error
        for name in system.ls(folder, detail=False):
            found = _INDEX.fullmatch(str(name).rsplit("/", 1)[-1])
            if found and int(found[1]) < number:
                system.rm_file(f"{folder}/{found[0]}")


def _parsed(content: bytes) -> Index | None:
    """Return the list in ``content``, None where it is not whole or names what it must not."""
    try:
        told = json.loads(content)
        index = {name: WholeFile(**file) for name, file in told["files"].items()}
    except (ValueError, RecursionError, KeyError, TypeError, AttributeError):
        return None
    if not all(_can_be(name, file) for name, file in index.items()):
        return None
    return index if index_digest(index) == told.get("sha256") else None


def _can_be(name: str, file: WholeFile) -> bool:
    size: Any = file.size
    sha256: Any = file.sha256
    parts = PurePosixPath(name).parts
    return (
        bool(parts)
        and PurePosixPath(name).as_posix() == name
        and not name.startswith("/")
        and not {"..", "\0"} & {*parts, *name}
        and parts[0] != WHOLE
        and isinstance(size, int)
        and size >= 0
        and isinstance(sha256, str)
        and _SHA256.fullmatch(sha256) is not None
    )
