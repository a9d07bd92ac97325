"""What pieces of a run at an address fetch and send, without a cluster: two machines by turns."""

import os
import re
from pathlib import Path
from typing import Any

import pytest

from cpsd.cluster.piece_copies import Collection, Made, PieceCopy, folder_of_piece
from cpsd.cost import Cost
from cpsd.errors import RunError
from cpsd.files import write_json, write_text
from cpsd.run import RunDirectory
from cpsd.run_home import at_home
from cpsd.stage import Stage, StageState

HOME = "s3://pictures/runs/a"


def work(folder: Path) -> Cost:
    write_text(folder / "student" / "model.txt", "weights")
    return Cost()


STAGE = Stage("student", "f1", ("student",), work)


class Machine:
    """A worker's: with copies of its own, and what it has told."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch, run: str = ".") -> None:
        monkeypatch.setenv("CPSD_CACHE", str(folder))
        self.told: list[Made] = []
        (folder / "own").mkdir(parents=True)
        self.copy = PieceCopy(HOME, run, folder.name, folder / "own", self.told.append)


def tell(folder: Path) -> None:
    """Have the address be told of all that the run's copy has."""
    write_json(folder / "manifest.json", {})


def test_what_a_lost_worker_had_is_gone_on_from(
    s3: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    driver = os.environ["CPSD_CACHE"]
    with at_home(HOME) as folder:
        directory, collection = RunDirectory(folder), Collection(HOME, folder)
        write_text(folder / STAGE.begun / "fingerprint", "f1")
        write_text(folder / "teachers" / "model.txt", "taught")
        write_text(folder / ".stages" / "teachers.json", "{}")
        tell(folder)
        first = Machine(tmp_path / "first", monkeypatch)
        first.copy.fetch_results({"teachers", ".stages/teachers.json"})
        assert (first.copy.results / "teachers" / "model.txt").read_text() == "taught"
        first.copy.fetch_begun(STAGE, None)
        for epoch in ("epoch 1", "epoch 2"):
            write_text(first.copy.begun / STAGE.begun / "best.txt", epoch)
            write_text(first.copy.begun / STAGE.begun / "last.ckpt", epoch)
            assert first.copy.send()
        assert first.copy.send()  # nothing is new, so nothing is told
        assert [[*made.files] for made in first.told] == [
            [f"{STAGE.begun}/best.txt", f"{STAGE.begun}/last.ckpt"]
        ] * 2
        assert not {*first.told[0].keys.values()} & {*first.told[1].keys.values()}
        monkeypatch.setenv("CPSD_CACHE", driver)
        assert [collection.take(made) for made in first.told] == [True, True]
        assert (folder / STAGE.begun / "last.ckpt").read_text() == "epoch 2"
        assert len(s3.ls("pictures/runs/a/.whole/made/first")) == 2
        assert directory.state(STAGE) is StageState.STARTED
        tell(folder)
        second = Machine(tmp_path / "second", monkeypatch)
        second.copy.fetch_begun(STAGE, None)
        assert (second.copy.begun / STAGE.begun / "last.ckpt").read_text() == "epoch 2"
        RunDirectory(second.copy.begun).work(STAGE)
        (second.copy.begun / STAGE.begun / "last.ckpt").unlink()
        assert second.copy.send()
        assert second.copy.made.gone == (f"{STAGE.begun}/last.ckpt",)
        monkeypatch.setenv("CPSD_CACHE", driver)
        assert collection.take(second.copy.made)
        assert not (folder / STAGE.begun / "last.ckpt").exists()
        directory.perform(STAGE)
        assert directory.state(STAGE) is StageState.DONE
        assert (folder / "student" / "model.txt").read_text() == "weights"
        collection.end("second")
        assert not s3.exists("pictures/runs/a/.whole/made/second")
    assert not s3.exists("pictures/runs/a/.whole/made")


def test_what_was_sent_in_part_is_not_taken(
    s3: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    driver = os.environ["CPSD_CACHE"]
    with at_home(HOME) as folder:
        write_text(folder / STAGE.begun / "last.ckpt", "epoch 1")
        tell(folder)
        worker = Machine(tmp_path / "worker", monkeypatch)
        worker.copy.fetch_begun(STAGE, None)
        write_text(worker.copy.begun / STAGE.begun / "best.txt", "epoch 2")
        write_text(worker.copy.begun / STAGE.begun / "last.ckpt", "epoch 2")
        assert worker.copy.send()
        key = worker.copy.made.keys[f"{STAGE.begun}/last.ckpt"]
        s3.pipe_file(f"pictures/runs/a/{key}", b"epoch")
        monkeypatch.setenv("CPSD_CACHE", driver)
        assert not Collection(HOME, folder).take(worker.copy.made)
        assert (folder / STAGE.begun / "last.ckpt").read_text() == "epoch 1"
        assert not (folder / STAGE.begun / "best.txt").exists()
        assert not list(folder.rglob("*.tmp"))


def test_a_piece_fetches_nothing_of_others(
    s3: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with at_home(HOME) as folder:  # of a comparison: a run's seed is no piece's number
        begun = folder / "runs" / "cpsd" / "0" / STAGE.begun
        for name in ("fingerprint", "0.ckpt", "1.ckpt", "soft/00001.npy", "attempts/0/a.json"):
            write_text(begun / name, "content")
        tell(folder)
        worker = Machine(tmp_path / "worker", monkeypatch, run="runs/cpsd/0")
        worker.copy.fetch_begun(STAGE, "1")
        begun = worker.copy.begun / STAGE.begun
        found = [p.relative_to(begun).as_posix() for p in sorted(begun.rglob("*")) if p.is_file()]
        assert found == ["1.ckpt", "fingerprint", "soft/00001.npy"]
        text = f"{begun}/1.ckpt is damaged"
        told = re.escape(f"{HOME}/runs/cpsd/0/{STAGE.begun}/1.ckpt is damaged")
        with pytest.raises(RunError, match=f"^{told}$"), worker.copy.telling_addresses():
            raise RunError(text)


def test_a_result_that_is_not_whole_is_refused(
    s3: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("cpsd.cluster.piece_copies.SECONDS_TO_FETCH", 0.3)
    with at_home(HOME) as folder:
        write_text(folder / "teachers" / "model.txt", "taught")
    s3.pipe_file("pictures/runs/a/teachers/model.txt", b"TAUGHT")
    worker = Machine(tmp_path / "worker", monkeypatch)
    with pytest.raises(RunError, match=r"teachers/model\.txt is not whole"):
        worker.copy.fetch_results({"teachers"})
    assert not list((tmp_path / "worker").rglob("*.tmp"))


def test_folders_of_killed_workers_are_removed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("CPSD_CACHE", str(tmp_path))
    with folder_of_piece("abc") as folder:
        left = folder.with_name(folder.name.replace(f".{os.getpid()}.", ".99999999."))
        left.mkdir()
        elsewhere = folder.with_name("another-machine.99999999.abc")
        elsewhere.mkdir()
        with folder_of_piece("def") as other:
            assert other.is_dir()
    assert [path.name for path in (tmp_path / ".pieces").iterdir()] == [elsewhere.name]
