"""Runs at an address: what is whole there, who works on it, and what is left after a crash."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

import tiny
from cpsd import lease
from cpsd.cli import main
from cpsd.errors import AddressError, RunError
from cpsd.evaluation.prediction_files import read_predictions
from cpsd.files import write_json, write_text
from cpsd.run_home import at_home, brought
from cpsd.whole_files import WholeFile, last_index, write_index

RUN = "s3://pictures/runs/a"


def other_machine(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """From now on there are no copies of anything."""
    monkeypatch.setenv("CPSD_CACHE", str(folder))


def files_of(folder: Path) -> dict[str, bytes]:
    paths = [path for path in folder.rglob("*") if path.is_file() and path.name != "lock"]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


def write_stage(folder: Path, name: str = "student", content: str = "weights") -> None:
    """Leave what a finished stage leaves."""
    write_text(folder / name / "model.txt", content)
    write_json(folder / ".stages" / f"{name}.json", {"outputs": [name], "content": content})


def test_a_run_in_a_folder_stays_there(tmp_path: Path) -> None:
    with at_home(str(tmp_path / "a")) as folder:
        assert folder == tmp_path / "a"
    with at_home(f"file://{tmp_path}/a") as folder:
        assert folder == tmp_path / "a"
    assert brought(f"file://{tmp_path}/a") == tmp_path / "a"


def test_another_machine_finds_what_was_written(
    s3: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with at_home(RUN) as folder:
        write_stage(folder)
        write_text(folder / ".partial" / "next" / "last.ckpt", "epoch 1")
        write_text(folder / "soft_labels" / "0.npy", "large")
        (folder / ".student.host.7.tmp").write_text("left over")
    written = files_of(folder)
    del written[".student.host.7.tmp"]
    assert s3.cat_file("pictures/runs/a/student/model.txt") == b"weights"
    assert not s3.exists("pictures/runs/a/.whole/lease.json")
    other_machine(monkeypatch, tmp_path / "other")
    read = brought(RUN)
    assert files_of(read) == {
        name: content
        for name, content in written.items()
        if not name.startswith((".partial", "soft_labels"))
    }
    with at_home(RUN) as folder:  # a run needs the rest as well
        assert folder == read
        assert files_of(folder) == written
        (folder / ".partial" / "next" / "last.ckpt").unlink()
        write_stage(folder, "next")
    found = last_index(RUN)
    assert found is not None
    assert set(found[1]) == set(files_of(folder))
    assert s3.ls("pictures/runs/a/.whole", detail=False) == [
        f"pictures/runs/a/.whole/index-{found[0]:08d}.json"
    ]


def test_what_is_sent_in_part_is_not_whole(
    s3: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with at_home(RUN) as folder:
        for name in ("baseline", "student", "teachers"):
            write_stage(folder, name)
        write_text(folder / ".partial" / "next" / "last.ckpt", "epoch 1")
        write_text(folder / ".partial" / "next" / "fingerprint", "abc")
        write_text(folder / ".partial" / "after" / "fingerprint", "abc")
    objects = s3.ls("pictures/runs/a/.whole/objects", detail=False)
    assert len(objects) == 2  # two files are the same
    s3.pipe_file("pictures/runs/a/student/model.txt", b"WEIGHTS")  # as long, other bytes
    s3.rm_file("pictures/runs/a/teachers/model.txt")
    s3.pipe_file("pictures/runs/a/unheard/of.txt", b"nobody has said that this is whole")
    s3.pipe_file("pictures/runs/a/.whole/index-00000099.json", b'{"files": {"student')
    found = last_index(RUN)
    assert found is not None
    s3.rm_file(f"pictures/runs/a/{found[1]['.partial/next/last.ckpt'].key('.partial/x')}")
    other_machine(monkeypatch, tmp_path / "other")
    with at_home(RUN) as folder:
        there = files_of(folder)
    assert set(there) == {
        ".stages/baseline.json",
        "baseline/model.txt",
        ".partial/after/fingerprint",
    }


def test_what_several_runs_share_is_sent_once(
    s3: Any, sent: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("cpsd.folder_copy.WORTH_COPYING", 7)
    with at_home(RUN) as folder:
        for name in ("one", "two", "three"):
            write_text(folder / name / "teacher.txt", "weights")
    with at_home(RUN) as folder:
        write_text(folder / "later" / "teacher.txt", "weights")
        write_text(folder / "later" / "small.txt", "weight")
        write_text(folder / "one" / "small.txt", "weight")
    assert len([place for place in sent if place.endswith("teacher.txt")]) == 1
    assert len([place for place in sent if place.endswith("small.txt")]) == 2
    other_machine(monkeypatch, tmp_path / "other")
    read = files_of(brought(RUN))
    assert [read[f"{name}/teacher.txt"] for name in ("one", "two", "three", "later")] == [
        b"weights"
    ] * 4


def test_checkpoints_are_never_overwritten(
    s3: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    checkpoint = Path(".partial") / "student" / "last.ckpt"
    with at_home(RUN) as folder:
        write_text(folder / checkpoint, "epoch 1")
    # What a kill between the files and the list leaves: the new file, and the old list.
    home = at_home(RUN)
    with monkeypatch.context() as patch:
        patch.setattr("cpsd.run_copy.write_index", _killed)
        write_text(home.__enter__() / checkpoint, "epoch 2")
        with pytest.raises(RunError, match="killed"):
            home.__exit__(None, None, None)
    assert len(s3.ls("pictures/runs/a/.whole/objects")) == 2
    with at_home(RUN) as folder:  # here nothing is lost
        assert (folder / checkpoint).read_text() == "epoch 2"
        other_machine(monkeypatch, tmp_path / "other")
        assert last_index(RUN) is not None
    write_index(RUN, 50, {checkpoint.as_posix(): WholeFile(7, "0" * 64)})
    with at_home(RUN) as folder:
        assert not (folder / checkpoint).exists()


def _killed(*_: object) -> None:
    raise RunError("killed")


def test_a_list_names_nothing_outside_the_run(s3: Any) -> None:
    for number, name in enumerate(("../x", "/etc/x", "a/../../x", "", ".", ".whole/x", "a\0"), 1):
        write_index(RUN, number, {name: WholeFile(1, "a" * 64)})
        assert last_index(RUN) is None
    write_index(RUN, 20, {"a/x": WholeFile(1, "a" * 64)})
    assert last_index(RUN) == (20, {"a/x": WholeFile(1, "a" * 64)})
    with pytest.raises(RunError, match="Another process has gone on"):
        write_index(RUN, 20, {})


def test_two_processes_do_not_work_on_one_run(
    s3: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(lease, "SECONDS_BETWEEN_BEATS", 0.2)
    monkeypatch.setattr(lease, "SECONDS_TO_WATCH", 2.0)
    with at_home(RUN) as folder:
        write_stage(folder)
        with pytest.raises(RunError, match="another process of this machine"), at_home(RUN):
            pass
        assert brought(RUN) == folder
        with monkeypatch.context() as patch:
            other_machine(patch, tmp_path / "other")
            with pytest.raises(RunError, match=f"{RUN} is in use by the process {os.getpid()}"):
                at_home(RUN).__enter__()
    # Of a process on another machine that was killed, the lease is left.
    s3.pipe_file("pictures/runs/a/.whole/lease.json", b'{"host": "gone", "process": 7}')
    began = time.monotonic()
    monkeypatch.setattr(lease, "SECONDS_BETWEEN_BEATS", 60.0)  # or a beat could meet what follows
    home = at_home(RUN)
    folder = home.__enter__()
    assert time.monotonic() - began >= 2
    # And now that one is heard of again.
    s3.pipe_file("pictures/runs/a/.whole/lease.json", b'{"holder": "other"}')
    with pytest.raises(RunError, match="has taken") as told:
        write_json(folder / "manifest.json", {})
    assert not home.__exit__(type(told.value), told.value, None)


def test_files_of_others_are_left_alone(s3: Any) -> None:
    s3.pipe_file("pictures/runs/a/photo.jpg", b"precious")
    with pytest.raises(RunError, match="holds files that no run has written"), at_home(RUN):
        pass
    with pytest.raises(AddressError, match="nobucket"), at_home("s3://nobucket/runs/a"):
        pass
    with pytest.raises(AddressError, match="There is nothing at s3://pictures/none"):
        brought("s3://pictures/none")
    assert not s3.exists("nobucket")


def test_what_cannot_be_sent_stays_here_and_goes_later(
    s3: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = os.environ["AWS_ENDPOINT_URL"]
    home = at_home(RUN)
    folder = home.__enter__()
    write_stage(folder)
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    s3.clear_instance_cache()
    with pytest.raises(AddressError, match="Nothing is lost") as told:
        write_json(folder / "manifest.json", {})
    assert not home.__exit__(type(told.value), told.value, None)
    assert RUN in str(told.value)
    assert (folder / "student" / "model.txt").read_text() == "weights"
    monkeypatch.setenv("AWS_ENDPOINT_URL", server)
    s3.clear_instance_cache()
    with at_home(RUN):
        pass
    assert s3.cat_file("pictures/runs/a/student/model.txt") == b"weights"


def assert_same_run(one: Path, other: Path) -> None:
    names = sorted(path.relative_to(one).as_posix() for path in one.rglob("*.safetensors"))
    assert names == sorted(p.relative_to(other).as_posix() for p in other.rglob("*.safetensors"))
    assert len(names) == 6
    for name in names:
        tiny.assert_same(load_file(one / name), load_file(other / name))
    for path in sorted((one / "predictions").rglob("*.parquet")):
        first = read_predictions(path)
        second = read_predictions(other / path.relative_to(one))
        assert (first.logits == second.logits).all()
    for path in (one / "evaluation").glob("*.json"):
        assert path.read_bytes() == (other / "evaluation" / path.name).read_bytes()


@pytest.mark.slow
def test_a_run_killed_while_it_sends_ends_elsewhere_as_if_undisturbed(
    s3: Any,
    quick: list[str],
    finished: Path,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    command = [sys.executable, "-m", "cpsd", "run", *quick, RUN]
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
        try:
            deadline = time.monotonic() + 240
            while not _has_baseline():
                assert process.poll() is None, (tmp_path / "log").read_text()
                assert time.monotonic() < deadline
                time.sleep(0.1)
        finally:
            process.send_signal(signal.SIGKILL)
            process.wait()
    other_machine(monkeypatch, tmp_path / "other")
    assert main(["run", *quick, RUN]) == 0
    said = capsys.readouterr().out
    assert "baseline done before, kept" in said
    assert f"The report page is {RUN}/report.html" in said
    other_machine(monkeypatch, tmp_path / "third")
    assert_same_run(finished, brought(RUN))
    assert s3.exists("pictures/runs/a/report.html")
    found = last_index(RUN)
    assert found is not None
    assert not [name for name in found[1] if name.startswith(".partial")]
    assert not s3.exists("pictures/runs/a/.whole/objects")
    picture = Path(quick[0]).parent / "images" / "train-00000.jpg"
    s3.put_file(str(picture), "pictures/new/one.jpg")
    capsys.readouterr()
    assert main(["predict", RUN, "s3://pictures/new/", "--format", "csv"]) == 0
    assert "s3://pictures/new/one.jpg," in capsys.readouterr().out
    assert main(["evaluate", RUN]) == 0
    assert f"The run lies in {RUN}" in capsys.readouterr().out
    assert main(["report", RUN]) == 0


def _has_baseline() -> bool:
    found = last_index(RUN)
    return found is not None and ".stages/baseline.json" in found[1]
