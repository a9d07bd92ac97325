"""Files that are whole or not there: written under a temporary name, then renamed."""

import errno
import hashlib
import json
import os
import platform
import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from cpsd.errors import CpsdError, RunError

TEMPORARY_SUFFIX = ".tmp"
_HASH = "sha256"
_WATCHERS: list[Callable[[Path], None]] = []

_MAKE_ROOM = "Free some space and start the same command again."
# pyarrow, and safetensors where it reads, wrap the operating system's error and keep only its text.
_REFUSALS = (
    (errno.ENOSPC, "No space left", f"the disk is full. {_MAKE_ROOM}"),
    (errno.ENOSPC, " requested and ", f"the disk is full. {_MAKE_ROOM}"),  # NumPy's own words
    (errno.EDQUOT, "quota exceeded", f"your disk quota is used up. {_MAKE_ROOM}"),
    (errno.EFBIG, "File too large", "the file is larger than the system allows."),
    (errno.EACCES, "Permission denied", "permission denied."),
    (errno.EPERM, "Operation not permitted", "permission denied."),
    (errno.EROFS, "Read-only file system", "the file system is read-only."),
    (errno.ENOTDIR, None, "a file stands where a folder is needed."),
    (errno.EEXIST, None, "a file stands where a folder is needed."),
    (errno.EISDIR, None, "a folder stands where the file belongs."),
    (errno.ENAMETOOLONG, "File name too long", "a name in it is longer than the system allows."),
    (errno.ELOOP, "Too many levels of symbolic links", "symbolic links lead round in a circle."),
)
"""Error number, what the text says where the number is lost, and the reason in words."""


@contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path`` that becomes ``path`` when the block ends well.

    A reader sees the old file or the new one, never a part. When the block fails the temporary
    file is removed and ``path`` stays as it was.

    Raises:
        RunError: the disk is full, or the folder cannot be written to.
    """
    # The host too: in containers processes of the same number write to one shared folder.
    owner = f"{platform.node()}.{os.getpid()}"
    temporary = path.with_name(f".{path.name}.{owner}{TEMPORARY_SUFFIX}")
    with plain_file_errors(path):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            yield temporary
            with temporary.open("rb") as written:
                os.fsync(written.fileno())
            temporary.replace(path)
            for told in _WATCHERS:
                told(path)
        finally:
            with suppress(NotADirectoryError):  # then it has never been there
                temporary.unlink(missing_ok=True)


def remove_temporaries(folder: Path) -> None:
    """Remove what processes that were killed have left of files that they wrote in ``folder``.

    To be called by whoever has the folder to itself; what another process of this machine that
    lives is writing stays all the same.
    """
    here = re.escape(platform.node())
    for temporary in list(folder.rglob(f".*.*{TEMPORARY_SUFFIX}")):
        owner = re.search(rf"\.{here}\.(\d+){re.escape(TEMPORARY_SUFFIX)}$", temporary.name)
        if owner is None or not is_another_process(int(owner[1])):
            with suppress(OSError):
                temporary.unlink()


def is_another_process(process: int) -> bool:
    """Return whether ``process`` lives and is not this one."""
    if process == os.getpid():
        return False
    try:
        os.kill(process, 0)
    except PermissionError:
        return True
    except (ProcessLookupError, OverflowError):
        return False
    return True


@contextmanager
def watched(told: Callable[[Path], None]) -> Iterator[None]:
    """Tell ``told`` of every file that is written whole meanwhile, in this process."""
    _WATCHERS.append(told)
    try:
        yield
    finally:
        _WATCHERS.remove(told)


@contextmanager
def plain_file_errors(place: Path) -> Iterator[None]:
    """Say in a sentence why the file system refuses what the block does at ``place``.

    Raises:
        RunError: a full disk, a missing permission and the like; other errors pass as they are.
    """
    try:
        yield
    except CpsdError:
        raise
    except Exception as error:
        reason = refusal(error)
        if reason is None:
            raise
        raise RunError(f"Cannot write {place}: {reason}") from error


@contextmanager
def plain_damage(place: Path, remedy: str) -> Iterator[None]:
    """Say in a sentence that files at ``place`` are not as they were written.

    Where a reader of many files meets a value of another kind, deep in what it makes of them.

    Args:
        place: the file, or the folder.
        remedy: what would do.

    Raises:
        RunError: the block has failed in any way but for want of memory or of the file system.
    """
    try:
        yield
    except (CpsdError, OSError, MemoryError):
        raise
    except Exception as error:
        raise RunError(
            f"{place} is damaged: something there is not what a run writes "
            f"({type(error).__name__}: {str(error)[:200]}). {remedy}"
        ) from error


def refusal(error: Exception) -> str | None:
    """Return in words why the file system has refused something, None for any other error."""
    number, text = getattr(error, "errno", None), str(error)
    for known, words, reason in _REFUSALS:
        if number == known or (number is None and words is not None and words in text):
            return reason
    return None


def write_text(path: Path, text: str) -> None:
    """Write ``text`` as UTF-8, whole or not at all.

    File names that are not UTF-8 are written byte for byte.
    """
    with written_whole(path) as temporary:
        temporary.write_text(text, encoding="utf-8", errors="surrogateescape")


def write_json(path: Path, value: Any) -> None:  # noqa: ANN401 - JSON has no narrower type
    r"""Write ``value`` as indented JSON, whole or not at all.

    JSON has no bytes: what is not UTF-8 in a file name is written as ``\udc80`` to ``\udcff``,
    which reading gives back.
    """
    text = json.dumps(value, indent=2, ensure_ascii=False)
    text = re.sub("[\ud800-\udfff]", lambda half: f"\\u{ord(half[0]):04x}", text)
    write_text(path, text + "\n")


def read_json(path: Path) -> Any:  # noqa: ANN401 - JSON has no narrower type
    """Read a JSON file of a run.

    Raises:
        RunError: the file is missing or is not JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise RunError(f"{path} is missing.") from error
    except (OSError, ValueError, RecursionError) as error:
        raise RunError(f"{path} cannot be read as JSON ({error}).") from error


def write_hashed_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write a JSON object with a hash of itself, whole or not at all."""
    write_json(path, {**content, _HASH: _digest(content)})


def read_hashed_json(path: Path) -> Any:  # noqa: ANN401 - JSON has no narrower type
    """Read a JSON file of a run without its hash; one that has none is returned as it is.

    Raises:
        RunError: the file is missing, is not JSON, or is not what was written.
    """
    content = read_json(path)
    if isinstance(content, dict) and _HASH in content:
        told = content.pop(_HASH)
        if told != _digest(content):
            raise RunError(f"{path} is damaged: it has not the hash that it was written with.")
    return content


def _digest(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def link(source: Path, destination: Path) -> None:
    """Make ``destination`` the same file or folder as ``source``, by links or as a copy."""
    destination.parent.mkdir(parents=True, exist_ok=True)
    if source.is_dir():
        shutil.copytree(source, destination, copy_function=_link_file)
    else:
        _link_file(source, destination)


def _link_file(source: str | Path, destination: str | Path) -> None:
    try:
        os.link(source, destination)
    except OSError:  # another file system, or one without links
        shutil.copy2(source, destination)
