"""Whose a run directory is, and what it may be made of."""

import errno
import os
from pathlib import Path

import pytest
from filelock import FileLock

from cpsd.errors import RunError
from cpsd.run import RunDirectory
from cpsd.stage import StageState
from worked_stages import Work, held_by_another_process, run_all


def test_a_second_process_is_refused_until_the_first_ends(tmp_path: Path) -> None:
    directory, work = RunDirectory(tmp_path / "run"), Work("a.txt")
    with held_by_another_process(directory.path) as process:
        with pytest.raises(RunError, match="in use by another process"):
            run_all(directory, work.stage())
        assert work.calls == 0
        process.kill()  # the lock ends with the process, however it ends
        process.wait()
        run_all(directory, work.stage())
    assert work.calls == 1


def test_the_lock_is_released_when_the_run_fails(tmp_path: Path) -> None:
    directory = RunDirectory(tmp_path)
    with pytest.raises(ZeroDivisionError), directory.locked():
        _ = 1 / 0
    with directory.locked():
        pass
    with held_by_another_process(tmp_path):
        pass


def test_temporary_files_of_killed_processes_are_gone_before_a_run_goes_on_and_after_it(
    tmp_path: Path,
) -> None:
    directory = RunDirectory(tmp_path / "run")
    left = directory.path / ".partial" / "student" / "student" / ".model.safetensors.gone.1.tmp"

    def leave() -> None:
        left.parent.mkdir(parents=True, exist_ok=True)
        left.touch()

    leave()
    with directory.locked():
        assert not left.exists()
        leave()  # as a worker of a cluster
    assert not left.exists()


def test_a_folder_of_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "holiday.jpg").touch()
    with pytest.raises(RunError, match="files that no run has written"):
        RunDirectory(tmp_path)
    with pytest.raises(RunError, match="is a file; name a folder"):
        RunDirectory(tmp_path / "holiday.jpg")


def test_an_empty_folder_and_an_old_run_are_accepted(tmp_path: Path) -> None:
    work = Work("a.txt")
    run_all(RunDirectory(tmp_path), work.stage())
    (tmp_path / "notes.txt").touch()
    assert RunDirectory(tmp_path).state(work.stage()) is StageState.DONE


def test_a_place_that_cannot_be_made_is_a_plain_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    directory = RunDirectory(tmp_path / "file" / "run")
    told = "Cannot write .*run: a file stands where a folder is needed"
    with pytest.raises(RunError, match=told), directory.locked():
        pass


@pytest.mark.parametrize(
    ("number", "reason"),
    [(errno.EROFS, "the file system is read-only."), (errno.ENOLCK, "No locks available.")],
)
def test_a_lock_that_the_system_refuses_is_a_plain_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, reason: str
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(FileLock, "acquire", refuse)
    with pytest.raises(RunError, match=f"Cannot write .*: {reason}"):
        RunDirectory(tmp_path / "run").locked().__enter__()
