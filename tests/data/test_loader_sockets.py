"""Processes that load pictures leave nothing among the temporary files, however they end."""

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

LOAD = """
import os, signal, subprocess, sys
from pathlib import Path
import tiny
from cpsd.config import ImageConfig
from cpsd.data.loader_sockets import remove_left_folders
from cpsd.data.loading import training_loader

remove_left_folders()
records = tiny.write_pictures(Path(sys.argv[1]))
loader = training_loader(
    records, range(8), ImageConfig(size=8), batch_size=4, seed=0, num_views=1,
    workers=4 if sys.argv[2] == "loaders killed late" else 2,
)
batches = iter(loader)
next(batches)
if sys.argv[2] == "killed":
    os.kill(os.getpid(), signal.SIGKILL)
if sys.argv[2] == "loaders killed":
    for worker in loader._iterator._workers:
        os.kill(worker.pid, signal.SIGKILL)
    sys.exit(3)
if sys.argv[2] == "loaders killed late":
    # Stopped, they do not end when asked; the process waits for one and hears of another.
    workers = [worker.pid for worker in loader._iterator._workers]
    for worker in workers:
        os.kill(worker, signal.SIGSTOP)
    kills = "; ".join(f"sleep 0.5; kill -KILL {worker}" for worker in workers)
    subprocess.Popen(["/bin/sh", "-c", f"sleep 1; {kills}"])
    sys.exit(3)
print(len(list(batches)))
loader.close()
"""


@pytest.fixture
def temporary() -> Iterator[Path]:
    """A folder whose path is short, as that of sockets has to be."""
    with tempfile.TemporaryDirectory(dir="/tmp", prefix="t") as name:
        yield Path(name)


def load(folder: Path, temporary: Path, how: str) -> subprocess.CompletedProcess[str]:
    tests = str(Path(__file__).resolve().parents[1])
    path = os.pathsep.join([tests, *sys.path])
    environment = {**os.environ, "TMPDIR": str(temporary), "PYTHONPATH": path}
    # Output to a file: loader processes outlive their killed parent by seconds and hold a pipe.
    with (folder / "said").open("w+") as said:
        done = subprocess.run(
            [sys.executable, "-c", LOAD, str(folder), how],
            env=environment, stdout=said, stderr=subprocess.STDOUT, check=False, timeout=120,
        )  # fmt: skip
        said.seek(0)
        return subprocess.CompletedProcess(done.args, done.returncode, said.read())


def test_batches_arrive_and_nothing_is_left(tmp_path: Path, temporary: Path) -> None:
    done = load(tmp_path, temporary, "well")
    assert (done.returncode, done.stdout) == (0, "1\n")
    assert os.listdir(temporary) == []  # noqa: PTH208


def test_batches_arrive_whatever_the_length_of_the_place_for_temporary_files(
    tmp_path: Path,
) -> None:
    far = tmp_path / ("far" * 20)
    far.mkdir()
    done = load(tmp_path, far, "well")
    assert (done.returncode, done.stdout) == (0, "1\n")


def test_killed_loaders_leave_nothing_when_the_process_that_started_them_ends(
    tmp_path: Path, temporary: Path
) -> None:
    assert load(tmp_path, temporary, "loaders killed").returncode != 0
    assert os.listdir(temporary) == []  # noqa: PTH208


def test_loaders_killed_while_the_process_that_started_them_ends_leave_nothing(
    tmp_path: Path, temporary: Path
) -> None:
    done = load(tmp_path, temporary, "loaders killed late")
    assert done.returncode == 3
    assert "Error" not in done.stdout
    assert os.listdir(temporary) == []  # noqa: PTH208


def test_what_a_killed_process_has_left_the_next_one_removes(
    tmp_path: Path, temporary: Path
) -> None:
    assert load(tmp_path, temporary, "killed").returncode == -signal.SIGKILL
    (left,) = os.listdir(temporary)  # noqa: PTH208
    others = left.replace("-", "_")
    (temporary / others).mkdir()
    assert load(tmp_path, temporary, "well").returncode == 0
    assert os.listdir(temporary) == [others]  # noqa: PTH208
