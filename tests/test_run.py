import errno
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from cpsd.errors import RunError
from cpsd.run import RunDirectory
from cpsd.stage import Stage, StageState
from worked_stages import Killed, Work, run_all


def test_a_stage_goes_from_new_to_done_and_is_then_kept(tmp_path: Path) -> None:
    directory, work = RunDirectory(tmp_path / "run"), Work("student/model.txt", "student.json")
    stage = work.stage()
    assert directory.state(stage) is StageState.NEW
    assert not directory.path.exists()  # looking makes nothing
    assert run_all(directory, stage) == [("student", StageState.NEW)]
    assert (directory.path / "student" / "model.txt").read_text() == "result"
    assert (directory.path / "student.json").read_text() == "result"
    assert directory.state(stage) is StageState.DONE
    assert run_all(directory, stage) == [("student", StageState.DONE)]
    assert work.calls == 1
    assert list((directory.path / ".partial").iterdir()) == []


def test_an_interrupted_stage_goes_on_with_what_it_has(tmp_path: Path) -> None:
    directory, work = RunDirectory(tmp_path), Work("last.ckpt", "model.txt")
    work.killed_after = "last.ckpt"
    first, stage = Work("graph.txt").stage("label-graph"), work.stage()
    with pytest.raises(Killed):
        run_all(directory, first, stage)
    assert not (tmp_path / "last.ckpt").exists()  # nothing half made stands at its place
    assert directory.state(stage) is StageState.STARTED
    work.killed_after = None
    assert run_all(directory, first, stage) == [
        ("label-graph", StageState.DONE),
        ("student", StageState.STARTED),
    ]
    assert work.found == [[], ["last.ckpt"]]
    assert (tmp_path / "model.txt").exists()


@pytest.mark.parametrize("moves_before_the_kill", [0, 1, 2])
def test_a_kill_before_the_mark_puts_the_outputs_in_place_without_the_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moves_before_the_kill: int
) -> None:
    directory, work = RunDirectory(tmp_path), Work("a.txt", "student/b.txt")
    stage = Stage("student", "f1", ("a.txt", "student"), work)
    moved: list[Path] = []
    replace: Callable[[Path, Path], Path] = Path.replace

    def replace_or_die(source: Path, destination: Path) -> Path:
        in_place = ".partial" in source.parts and ".partial" not in destination.parts
        to_mark = destination == tmp_path / ".stages" / "student.json"
        if to_mark or (in_place and len(moved) == moves_before_the_kill):
            raise Killed
        if in_place:
            moved.append(destination)
        return replace(source, destination)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", replace_or_die)
        with pytest.raises(Killed):
            run_all(directory, stage)
    assert len(moved) == moves_before_the_kill
    assert directory.state(stage) is StageState.STARTED
    assert run_all(directory, stage) == [("student", StageState.STARTED)]
    assert work.calls == 1
    assert directory.state(stage) is StageState.DONE
    assert (tmp_path / "student" / "b.txt").read_text() == "result"


AFTER_THE_MARK = ["cpsd.run._remove_at_once", "cpsd.run.shutil.rmtree"]
"""What a kill may come before, once a stage has its mark."""


def kill_before(
    step: str, directory: RunDirectory, stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Perform a stage up to ``step``."""
    with monkeypatch.context() as patch:
        patch.setattr(step, _die)
        with pytest.raises(Killed):
            run_all(directory, stage)


@pytest.mark.parametrize("removed", ["a.txt", "b.txt"])
@pytest.mark.parametrize("step", AFTER_THE_MARK)
def test_a_kill_after_the_mark_leaves_nothing_that_stands_for_a_result_removed_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, removed: str, step: str
) -> None:
    directory, work = RunDirectory(tmp_path), Work("a.txt", "b.txt")
    kill_before(step, directory, work.stage(), monkeypatch)
    assert directory.state(work.stage()) is StageState.DONE
    (tmp_path / removed).unlink()
    assert run_all(directory, work.stage()) == [("student", StageState.NEW)]
    assert work.calls == 2
    assert (tmp_path / removed).read_text() == "result"
    assert not list((tmp_path / ".partial").iterdir())


@pytest.mark.parametrize("step", AFTER_THE_MARK)
def test_a_kill_after_the_mark_leaves_no_folder_for_good(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    directory, work = RunDirectory(tmp_path), Work("a.txt", "0.json")
    stage = Stage("student", "f1", ("a.txt",), work)
    kill_before(step, directory, stage, monkeypatch)
    assert (tmp_path / ".partial" / "student" / "0.json").exists()
    assert run_all(directory, stage) == [("student", StageState.DONE)]
    assert work.calls == 1
    assert not list((tmp_path / ".partial").iterdir())


@pytest.mark.parametrize("name", ["...json", "..json", "other.json"])
def test_a_mark_by_another_name_removes_nothing(tmp_path: Path, name: str) -> None:
    directory, work = RunDirectory(tmp_path), Work("a.txt")
    run_all(directory, work.stage())
    (tmp_path / ".partial" / "other").mkdir()
    shutil.copy(tmp_path / ".stages" / "student.json", tmp_path / ".stages" / name)
    assert run_all(directory, work.stage()) == [("student", StageState.DONE)]
    assert (tmp_path / "a.txt").exists()
    assert (tmp_path / ".partial" / "other").exists()


def test_what_is_begun_anew_stays_though_the_old_result_has_its_mark(tmp_path: Path) -> None:
    directory, work = RunDirectory(tmp_path), Work("a.txt")
    run_all(directory, work.stage())
    folder = tmp_path / ".partial" / "student"
    folder.mkdir()
    (folder / "fingerprint").write_text("f2")
    (folder / "last.ckpt").write_text("epoch 1")
    with directory.locked():
        assert (folder / "last.ckpt").exists()


def test_folders_of_other_processes_of_a_stage_that_is_through_are_removed(tmp_path: Path) -> None:
    directory, work = RunDirectory(tmp_path), Work("a.txt")
    run_all(directory, work.stage())
    left = tmp_path / ".partial" / "student.rank-1"
    left.mkdir()
    (left / "fingerprint").write_text("f1")
    with directory.locked():
        assert not left.exists()


def test_what_a_kill_left_of_a_folder_is_not_gone_on_from_once_the_mark_is_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory, work = RunDirectory(tmp_path), Work("a.txt", "0.json")
    stage = Stage("student", "f1", ("a.txt",), work)
    kill_before("cpsd.run.shutil.rmtree", directory, stage, monkeypatch)
    (tmp_path / ".partial" / "student" / "finished.json").unlink()
    (tmp_path / ".stages" / "student.json").unlink()
    assert run_all(directory, stage) == [("student", StageState.NEW)]
    assert work.found == [[], []]


def test_changed_settings_are_refused_by_stage_and_nothing_is_touched(tmp_path: Path) -> None:
    directory = RunDirectory(tmp_path)
    works = [Work(f"{name}.txt") for name in ("graph", "baseline", "student")]
    run_all(directory, *(w.stage(w.outputs[0][:-4]) for w in works))
    before = {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}
    changed = [
        works[0].stage("graph"),
        works[1].stage("baseline", "f2"),
        works[2].stage("student", "f2"),
    ]
    assert [directory.state(stage) for stage in changed] == [
        StageState.DONE,
        StageState.CHANGED,
        StageState.CHANGED,
    ]
    told = r"already holds: baseline, student \(no setting.*\)\. Say --redo"
    with pytest.raises(RunError, match=told):
        run_all(directory, *changed)
    assert [work.calls for work in works] == [1, 1, 1]
    assert {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()} == before


def test_a_stage_begun_under_other_settings_is_refused_too(tmp_path: Path) -> None:
    directory, work = RunDirectory(tmp_path), Work("last.ckpt", "model.txt")
    work.killed_after = "last.ckpt"
    with pytest.raises(Killed):
        run_all(directory, work.stage())
    work.killed_after = None
    with pytest.raises(RunError, match="already holds: student"):
        run_all(directory, work.stage(fingerprint="f2"))
    said = run_all(directory, work.stage(fingerprint="f2"), redo=True)
    assert said == [("student", StageState.CHANGED)]
    assert work.found == [[], []]  # nothing of the other settings is gone on from


def test_a_stage_that_failed_before_it_kept_anything_starts_anew(tmp_path: Path) -> None:
    # As when the weights file was not there, and the user does what the message says.
    directory, work = RunDirectory(tmp_path), Work("metrics.csv", "model.txt")
    work.killed_after = "metrics.csv"
    with pytest.raises(Killed):
        run_all(directory, work.stage())
    work.killed_after = None
    assert run_all(directory, work.stage(fingerprint="f2")) == [("student", StageState.NEW)]
    assert work.found == [[], []]  # and nothing of the first attempt is left


def test_an_earlier_goal_does_not_rewrite_the_settings_of_later_results(tmp_path: Path) -> None:
    directory = RunDirectory(tmp_path)
    teachers, student = Work("teachers.txt"), Work("student.txt")
    run_all(directory, teachers.stage("teachers"), student.stage("student"))
    before = (tmp_path / "config.yaml").read_bytes()
    changed = [teachers.stage("teachers"), student.stage("student", "f2")]
    with pytest.raises(RunError, match="already holds: student"):
        run_all(directory, *changed, until=1)
    assert (tmp_path / "config.yaml").read_bytes() == before


def test_redo_replaces_changed_results_alone(tmp_path: Path) -> None:
    directory, graph = RunDirectory(tmp_path), Work("graph.txt")
    old = Stage("student", "f1", ("student",), Work("student/old.txt"))
    new = Stage("student", "f2", ("student",), Work("student/new.txt"))
    run_all(directory, graph.stage("graph"), old)
    assert run_all(directory, graph.stage("graph"), new, redo=True) == [
        ("graph", StageState.DONE),
        ("student", StageState.CHANGED),
    ]
    assert [p.name for p in (tmp_path / "student").iterdir()] == ["new.txt"]
    assert directory.state(new) is StageState.DONE
    assert directory.state(old) is StageState.CHANGED


@pytest.mark.parametrize("taken", [False, True])
def test_what_a_result_replaces_goes_with_it(tmp_path: Path, taken: bool) -> None:
    directory, other = RunDirectory(tmp_path / "one"), RunDirectory(tmp_path / "other")
    old, new = Work("model/a.txt", "model/b.txt"), Work("model/a.txt")
    run_all(directory, old.stage())
    stage = replace(new.stage(fingerprint="f2"), replaces=("model/b.txt",))
    if taken:
        run_all(other, stage)
        assert directory.take(stage, other)
    else:
        run_all(directory, stage, redo=True)
    assert [path.name for path in (tmp_path / "one" / "model").iterdir()] == ["a.txt"]


def test_a_failed_redo_leaves_no_mark_of_the_old_result(tmp_path: Path) -> None:
    directory, work = RunDirectory(tmp_path), Work("a.npy", "b.npy")
    run_all(directory, work.stage())
    work.killed_after = "a.npy"
    with pytest.raises(Killed):
        run_all(directory, work.stage(fingerprint="f2"), redo=True)
    assert directory.state(work.stage()) is StageState.CHANGED
    assert directory.state(work.stage(fingerprint="f2")) is StageState.STARTED


@pytest.mark.parametrize("removed", ["a.txt", "b.txt"])
def test_outputs_that_somebody_removed_are_made_again(tmp_path: Path, removed: str) -> None:
    directory, work = RunDirectory(tmp_path), Work("a.txt", "b.txt")
    run_all(directory, work.stage())
    (tmp_path / removed).unlink()
    assert directory.state(work.stage()) is StageState.NEW
    run_all(directory, work.stage())
    assert work.calls == 2
    assert (tmp_path / removed).read_text() == "result"


def test_nothing_goes_on_from_what_of_other_settings_cannot_be_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory, work = RunDirectory(tmp_path), Work("last.ckpt", "model.txt")
    work.killed_after = "last.ckpt"
    with pytest.raises(Killed):
        run_all(directory, work.stage())

    def refuse(*_: object, ignore_errors: bool = False) -> None:
        if not ignore_errors:
            raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr("cpsd.run.shutil.rmtree", refuse)
    with pytest.raises(RunError, match="the file system is read-only"):
        run_all(directory, work.stage(fingerprint="f2"), redo=True)
    assert work.calls == 1


def _die(folder: Path, *, ignore_errors: bool = False) -> None:
    if not ignore_errors:
        raise Killed
