"""Files that are whole or not there: written under a temporary name, then renamed."""

import errno
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cpsd.errors import RunError

TEMPORARY_SUFFIX = ".tmp"


@contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path`` that becomes ``path`` when the block ends well.

    A reader sees the old file or the new one, never a part. When the block fails the temporary
    file is removed and ``path`` stays as it was.

    Raises:
        RunError: the disk is full, or the folder cannot be written to.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}{TEMPORARY_SUFFIX}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        with temporary.open("rb") as written:
            os.fsync(written.fileno())
        temporary.replace(path)
    except Exception as error:
        message = _why_not_written(error)
        if message is None:
            raise
        raise RunError(f"Cannot write {path}: {message}") from error
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write ``text`` as UTF-8, whole or not at all."""
    with written_whole(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:  # noqa: ANN401 - JSON has no narrower type
    """Write ``value`` as indented JSON, whole or not at all."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def read_json(path: Path) -> Any:  # noqa: ANN401 - JSON has no narrower type
    """Read a JSON file of a run.

    Raises:
        RunError: the file is missing or is not JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise RunError(f"{path} is missing.") from error
    except (OSError, ValueError) as error:
        raise RunError(f"{path} cannot be read as JSON ({error}).") from error


def _why_not_written(error: Exception) -> str | None:
    """Return a plain reason when ``error`` comes from the file system, else None."""
    # safetensors and pyarrow wrap the operating system's error and keep only its text.
    text = str(error)
    if getattr(error, "errno", None) == errno.ENOSPC or "No space left" in text:
        return "the disk is full. Free some space and start the same command again."
    if getattr(error, "errno", None) == errno.EDQUOT or "quota exceeded" in text:
        return "your disk quota is used up. Free some space and start the same command again."
    if isinstance(error, PermissionError) or "Permission denied" in text:
        return "permission denied."
    if getattr(error, "errno", None) == errno.EROFS or "Read-only file system" in text:
        return "the file system is read-only."
    return None
