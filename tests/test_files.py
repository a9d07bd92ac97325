import errno
import os
import platform
import resource
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from cpsd.errors import DataError, RunError
from cpsd.files import (
    plain_file_errors,
    read_json,
    remove_temporaries,
    write_json,
    write_text,
    written_whole,
)

KILLED_WHILE_WRITING = """
import os, signal, sys
from pathlib import Path
from cpsd.files import written_whole
with written_whole(Path(sys.argv[1])) as temporary:
    temporary.write_text("half")
    os.kill(os.getpid(), signal.SIGKILL)
"""


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_appears_only_when_the_block_ends(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "down" / "scores.txt"
    with written_whole(path) as temporary:
        temporary.write_text("new")
        assert not path.exists()
        assert temporary.parent == path.parent
    assert path.read_text() == "new"
    assert names(path.parent) == ["scores.txt"]


@pytest.mark.parametrize("fault", [ValueError("inside"), KeyboardInterrupt()])
def test_a_failing_block_leaves_the_old_file_and_no_other(
    tmp_path: Path, fault: BaseException
) -> None:
    path = tmp_path / "scores.txt"
    write_text(path, "old")

    def interrupted() -> None:
        with written_whole(path) as temporary:
            temporary.write_text("half")
            raise fault

    with pytest.raises(type(fault)):
        interrupted()
    assert path.read_text() == "old"
    assert names(tmp_path) == ["scores.txt"]


def test_what_killed_processes_have_left_is_removed_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "scores.txt"
    write_text(path, "old")
    (tmp_path / "notes.tmp").touch()  # somebody's own
    here = platform.node()
    elsewhere = tmp_path / f".model.json.other-{here}.7.tmp"
    ours = tmp_path / f".model.json.{here}.{os.getpid()}.tmp"  # of a container's earlier process 7
    living = tmp_path / f".model.json.{here}.{os.getppid()}.tmp"
    for temporary in (elsewhere, ours, living):
        temporary.touch()
    killed = subprocess.run([sys.executable, "-c", KILLED_WHILE_WRITING, path], check=False)
    assert killed.returncode == -signal.SIGKILL
    assert len(names(path.parent)) == 2
    remove_temporaries(tmp_path)
    assert names(path.parent) == ["scores.txt"]
    assert path.read_text() == "old"
    assert names(tmp_path) == [living.name, "deep", "notes.tmp"]


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), "disk is full"),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), "quota"),
        (OSError(errno.EROFS, "Read-only file system"), "read-only"),
        (PermissionError(errno.EACCES, "Permission denied"), "permission denied"),
        (OSError(errno.EFBIG, "File too large"), "larger than the system allows"),
        (OSError("12000 requested and 1984 written"), "disk is full"),  # NumPy's own words
        # safetensors keeps the text only
        (RuntimeError("I/O error: No space left on device (os error 28)"), "disk is full"),
    ],
)
def test_what_the_file_system_refuses_is_said_plainly(
    tmp_path: Path, fault: Exception, reason: str
) -> None:
    path = tmp_path / "model.safetensors"

    def refused() -> None:
        with written_whole(path):
            raise fault

    with pytest.raises(RunError, match=reason) as caught:
        refused()
    assert str(path) in str(caught.value)
    assert caught.value.__cause__ is fault
    assert names(tmp_path) == []


def test_a_file_in_the_place_of_a_folder_is_said_plainly(tmp_path: Path) -> None:
    (tmp_path / "scores").touch()
    with pytest.raises(RunError, match=r"a file stands where a folder is needed\."):
        write_text(tmp_path / "scores" / "deep" / "test.json", "{}")


def test_a_full_disk_is_a_sentence_whatever_is_written(tmp_path: Path) -> None:
    # For real: this process may write no file longer than a kilobyte.
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1024, limits[1]))
    try:
        with pytest.raises(RunError, match=r"a\.txt: the file is larger than the system allows"):
            write_text(tmp_path / "a.txt", 2000 * "x")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert names(tmp_path) == []


def test_a_refusal_of_our_own_is_not_said_twice(tmp_path: Path) -> None:
    fault = DataError("b.png cannot be read: Permission denied")

    def refused() -> None:
        with plain_file_errors(tmp_path):
            raise fault

    with pytest.raises(DataError) as caught:
        refused()
    assert caught.value is fault


def test_names_that_are_not_utf8_are_written_byte_for_byte(tmp_path: Path) -> None:
    write_text(tmp_path / "splits.csv", os.fsdecode(b"a\xff.png,train"))
    assert (tmp_path / "splits.csv").read_bytes() == b"a\xff.png,train"


def test_another_error_passes_unchanged(tmp_path: Path) -> None:
    fault = OSError(errno.EIO, "Input/output error")

    def broken() -> None:
        with written_whole(tmp_path / "x"):
            raise fault

    with pytest.raises(OSError, match="Input/output") as caught:
        broken()
    assert caught.value is fault


def test_json_comes_back_with_its_letters(tmp_path: Path) -> None:
    value = {"label": "Straßenbahn 電車", "scores": [0.5, None]}
    write_json(tmp_path / "a.json", value)
    assert read_json(tmp_path / "a.json") == value
    assert "Straßenbahn 電車" in (tmp_path / "a.json").read_text(encoding="utf-8")


def test_json_that_cannot_be_written_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    write_json(path, 1)
    with pytest.raises(TypeError):
        write_json(path, {"not json": object()})
    assert read_json(path) == 1


def test_a_missing_or_damaged_json_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    with pytest.raises(RunError, match=r"a\.json is missing"):
        read_json(path)
    for damaged in (b'{"fingerprint": "ab', b"\xff\xfe{"):
        path.write_bytes(damaged)
        with pytest.raises(RunError, match=r"a\.json cannot be read as JSON"):
            read_json(path)
    with pytest.raises(RunError, match="cannot be read as JSON"):
        read_json(tmp_path)
