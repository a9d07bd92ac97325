import errno
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from cpsd.attempts import ATTEMPTS_FILE
from cpsd.cost import OLD, Cost
from cpsd.errors import RunError
from cpsd.execution import LocalExecutor, RunWork
from cpsd.files import read_hashed_json, write_hashed_json
from cpsd.run import RunDirectory
from cpsd.stage import Stage, StageState

HOLD_THE_LOCK = """
import sys
from pathlib import Path
from cpsd.files import read_hashed_json, write_hashed_json
from cpsd.run import RunDirectory
with RunDirectory(Path(sys.argv[1])).locked():
    print("held", flush=True)
    sys.stdin.read()
"""


class Killed(BaseException):
    """Stands for the end of the process: no `except Exception` may catch it."""


class Work:
    """The work of a stage: counts its calls and writes what it is told."""

    def __init__(self, *outputs: str, text: str = "result", cost: Cost | None = None) -> None:
        self.outputs = outputs
        self.text = text
        self.cost = cost or Cost()
        self.calls = 0
        self.killed_after: str | None = None
        self.found: list[list[str]] = []

    def __call__(self, folder: Path) -> Cost:
        self.calls += 1
        own = {"fingerprint", ATTEMPTS_FILE}
        self.found.append(sorted({p.name for p in folder.iterdir()} - own))
        for output in self.outputs:
            path = folder / output
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(self.text)
            if output == self.killed_after:
                raise Killed
        return self.cost

    def stage(self, name: str = "student", fingerprint: str = "f1") -> Stage:
        return Stage(name, fingerprint, self.outputs, self)


def run_all(
    directory: RunDirectory,
    *stages: Stage,
    until: int | None = None,
    redo: bool = False,
    facts: dict[str, Any] | None = None,
) -> list[tuple[str, StageState]]:
    said: list[tuple[str, StageState]] = []
    with directory.locked():
        work = RunWork(
            stages,
            directory,
            wanted=stages[:until],
            redo=redo,
            config="seed: 0\n",
            facts=facts or {},
            announce=lambda stage, state: said.append((stage.name, state)),
        )
        LocalExecutor().begin(work)
        LocalExecutor().finish(work)
    return said


@contextmanager
def held_by_another_process(path: Path) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        [sys.executable, "-c", HOLD_THE_LOCK, str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        try:
            assert process.stdout.readline() == "held\n"
            yield process
        finally:
            process.kill()


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


@pytest.mark.parametrize("removed", ["a.txt", "b.txt"])
def test_a_kill_after_the_mark_leaves_nothing_that_stands_for_a_result_removed_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, removed: str
) -> None:
    directory, work = RunDirectory(tmp_path), Work("a.txt", "b.txt")
    with monkeypatch.context() as patch:
        patch.setattr("cpsd.run.shutil.rmtree", _die)
        with pytest.raises(Killed):
            run_all(directory, work.stage())
    assert directory.state(work.stage()) is StageState.DONE
    (tmp_path / removed).unlink()
    assert run_all(directory, work.stage()) == [("student", StageState.NEW)]
    assert work.calls == 2
    assert (tmp_path / removed).read_text() == "result"
    assert not list((tmp_path / ".partial").iterdir())


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


def test_the_manifest_holds_facts_and_costs_of_what_is_done(tmp_path: Path) -> None:
    directory = RunDirectory(tmp_path)
    graph = Work("graph.txt").stage("label-graph", "g")
    teachers = Work("t.txt", cost=Cost(1e6, 640, 320)).stage("teachers/co-occurrence", "t")
    unfinished = Work("s.txt", "t.txt")
    unfinished.killed_after = "s.txt"
    with pytest.raises(Killed):
        run_all(directory, graph, teachers, unfinished.stage(), facts={"seed": 3})
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    assert manifest["seed"] == 3
    assert list(manifest["stages"]) == ["label-graph", "teachers/co-occurrence"]
    mark = manifest["stages"]["teachers/co-occurrence"]
    assert mark["fingerprint"] == "t"
    assert mark["outputs"] == ["t.txt"]
    # The seconds that the stage counted over its attempts, not those of the last one.
    assert mark["cost"].items() >= {"seconds": 1e6, "images_forward": 640}.items()
    assert mark["cost"]["peak_memory"] > 2**20
    assert mark["plain_trainings"] is None, "there is no plain training yet"
    assert manifest["method"] is None
    assert 0 <= manifest["stages"]["label-graph"]["cost"]["seconds"] < 60
    assert (tmp_path / "config.yaml").read_text() == "seed: 0\n"


def test_the_manifest_says_what_stages_and_method_are_in_plain_trainings(tmp_path: Path) -> None:
    baseline = Work("b.txt", cost=Cost(1e6, 100, 50, 1000, 2000)).stage("baseline")
    work = Work("s.txt", cost=Cost(2e6, 100, 50, 1500, 4500))
    student = Stage("student", "f1", work.outputs, work, needs=("baseline",))
    run_all(RunDirectory(tmp_path), baseline, student)
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    ratios = {"plain_trainings": 2.0, "plain_trainings_by_the_clock": 2.0}
    assert manifest["stages"]["baseline"]["plain_trainings"] == 1.0
    assert manifest["stages"]["student"].items() >= ratios.items()
    assert manifest["method"].items() >= ratios.items()
    assert manifest["method"]["stages"] == ["student"]
    assert manifest["stages"]["student"]["needs"] == ["baseline"]


def test_marks_of_before_operations_were_counted_are_read(tmp_path: Path) -> None:
    directory, work = RunDirectory(tmp_path), Work("a.txt")
    run_all(directory, work.stage())
    mark = tmp_path / ".stages" / "student.json"
    old = {"seconds": 5.0, "images_forward": 20, "images_backward": 10}
    told = {key: value for key, value in json.loads(mark.read_text()).items() if key != "sha256"}
    mark.write_text(json.dumps({**told, "cost": old}))
    assert run_all(directory, work.stage()) == [("student", StageState.DONE)]
    assert directory.cost(work.stage()) == Cost(5.0, 20, 10, not_counted=OLD)


def test_seconds_of_interrupted_attempts_count(tmp_path: Path) -> None:
    directory, work = RunDirectory(tmp_path), Work("last.ckpt", "a.txt")
    work.killed_after = "last.ckpt"
    with pytest.raises(Killed):
        run_all(directory, work.stage())
    attempts = tmp_path / ".partial" / "student" / ATTEMPTS_FILE
    write_hashed_json(attempts, {**read_hashed_json(attempts), "seconds": 1000.0})
    work.killed_after = None
    run_all(directory, work.stage())
    assert 1000 < directory.cost(work.stage()).seconds < 1060


def _die(folder: Path, *, ignore_errors: bool = False) -> None:
    if not ignore_errors:
        raise Killed


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
