"""Files of a run that are damaged, cannot be read, or have no room."""

import errno
import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from cpsd.attempts import ATTEMPTS_FILE
from cpsd.cost import Cost
from cpsd.errors import RunError
from cpsd.run import RunDirectory
from cpsd.stage import Stage
from worked_stages import Killed, Work, run_all


def test_a_damaged_mark_is_named(tmp_path: Path) -> None:
    directory, work = RunDirectory(tmp_path), Work("a.txt")
    run_all(directory, work.stage())
    mark = tmp_path / ".stages" / "student.json"
    mark.write_text(mark.read_text()[:30])
    with pytest.raises(RunError, match=r"student\.json cannot be read"):
        directory.state(work.stage())


@pytest.mark.parametrize(
    ("content", "what"),
    [
        ("{}", "it has no fingerprint"),
        ("[]", "it is no JSON object"),
        ('{"fingerprint": 3, "cost": {}}', "it has no fingerprint"),
        ('{"fingerprint": "f1"}', "what the stage has cost"),
        ('{"fingerprint": "f1", "cost": {"seconds": "long"}}', "what the stage has cost"),
        ('{"fingerprint": "f1", "cost": {"euros": 3}}', "what the stage has cost"),
    ],
)
def test_a_mark_that_is_none_is_named_with_the_remedy(
    tmp_path: Path, content: str, what: str
) -> None:
    directory, work = RunDirectory(tmp_path), Work("a.txt")
    run_all(directory, work.stage())
    mark = tmp_path / ".stages" / "student.json"
    mark.write_text(content)
    with pytest.raises(RunError, match=rf"student\.json is damaged: .*{what}.*Remove this file"):
        run_all(directory, work.stage())
    mark.unlink()
    run_all(directory, work.stage())
    assert work.calls == 2
    assert json.loads(mark.read_text())["fingerprint"] == "f1"


@pytest.mark.parametrize("name", [".stages/student.json", ".partial/student/finished.json"])
def test_no_flipped_byte_of_a_mark_or_cost_is_used(tmp_path: Path, name: str) -> None:
    work = Work("a.txt", cost=Cost(5.0, 20, 10, 300, 600))
    stage, directory = work.stage(), RunDirectory(tmp_path)
    if name.startswith(".partial"):
        directory.work(stage)
    else:
        run_all(directory, stage)
    file = tmp_path / name
    whole = file.read_bytes()
    told = json.loads(whole)
    for place in range(len(whole)):
        for flip in (1, 2, 32):
            mangled = bytearray(whole)
            mangled[place] ^= flip
            file.write_bytes(mangled)
            try:
                content = json.loads(mangled)
            except ValueError:
                content = None
            if content == told:  # another blank between the same words
                continue
            with pytest.raises(RunError, match=r"Remove this file"):
                directory.perform(stage) if ".partial" in name else directory.state(stage)
    file.write_bytes(whole)
    assert work.calls == 1


def test_a_flipped_byte_of_attempts_counts_none(tmp_path: Path) -> None:
    work = Work("last.ckpt", "a.txt")
    work.killed_after = "last.ckpt"
    with pytest.raises(Killed):
        run_all(RunDirectory(tmp_path), work.stage())
    attempts = tmp_path / ".partial" / "student" / ATTEMPTS_FILE
    text = attempts.read_text()
    attempts.write_text(text.replace('"seconds": 0', '"seconds": 9'))
    assert attempts.read_text() != text
    work.killed_after = None
    run_all(RunDirectory(tmp_path), work.stage())
    assert RunDirectory(tmp_path).cost(work.stage()).seconds < 9


@pytest.mark.parametrize("content", ["{", "[]", '{"seconds": null}'])
def test_a_damaged_note_of_finished_work_is_named(tmp_path: Path, content: str) -> None:
    directory, work = RunDirectory(tmp_path), Work("a.txt")
    work.killed_after = "a.txt"
    with pytest.raises(Killed):
        run_all(directory, work.stage())
    (tmp_path / ".partial" / "student" / "finished.json").write_text(content)
    with pytest.raises(RunError, match=r"finished\.json .*Remove this file"):
        run_all(directory, work.stage())


@pytest.mark.parametrize("name", [".stages/student.json", ".partial/student/fingerprint"])
def test_a_folder_where_a_file_of_the_run_belongs_is_named(tmp_path: Path, name: str) -> None:
    directory, work = RunDirectory(tmp_path), Work("a.txt")
    run_all(directory, Work("b.txt").stage("graph"))
    (tmp_path / name).mkdir(parents=True)
    with pytest.raises(RunError, match=rf"{name}.*Is a directory"):
        run_all(directory, work.stage())


@contextmanager
def without_privileges() -> Iterator[None]:
    """Be nobody for a while where the tests run as root, who may read everything."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.mark.parametrize("locked", ["run", "run/.stages"])
def test_a_run_that_may_not_be_read_is_said_plainly(locked: str) -> None:
    # Not in tmp_path, into which nobody but its owner may look.
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        path = Path(name) / "run"
        work = Work("a.txt")
        run_all(RunDirectory(path), work.stage())
        (Path(name) / locked).chmod(0)
        try:
            with (
                without_privileges(),
                pytest.raises(RunError, match=rf"Cannot read {name}/{locked}.*: Permission denied"),
            ):
                RunDirectory(path).state(work.stage())
        finally:
            (Path(name) / locked).chmod(0o755)


def test_a_disk_that_is_full_in_the_midst_of_a_stage_is_said_plainly(tmp_path: Path) -> None:
    def work(folder: Path) -> Cost:
        raise OSError(errno.ENOSPC, "No space left on device")

    directory = RunDirectory(tmp_path / "run")
    with pytest.raises(RunError, match=r"Cannot write .*run: the disk is full\. Free some space"):
        run_all(directory, Stage("student", "f1", (), work))
