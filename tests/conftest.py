"""What tests share."""

import importlib
import importlib.util
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import tiny
from cpsd.cli import main
from cpsd.data.digits import write_digits
from cpsd.data.records import Records
from s3_server import BUCKET, emptied, environment, s3_server


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Spell out in what a test has said which bytes are not UTF-8.

    Processes that run tests side by side hand each other text in UTF-8, and file names need not be.
    """
    report = yield
    report.sections = [
        (title, text.encode("utf-8", "backslashreplace").decode())
        for title, text in report.sections
    ]
    return report


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder with reference values and real data beside the checkout, or a skip."""
    folder = Path(__file__).resolve().parents[2] / "shared"
    if not folder.is_dir():
        pytest.skip("the shared data and reference folder is not here")
    return folder


@pytest.fixture(scope="session")
def seeded(shared: Path) -> ModuleType:
    """The module that makes the inputs of the reference values from their seeds."""
    spec = importlib.util.spec_from_file_location("seeded", shared / "reference" / "seeded.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def records(tmp_path_factory: pytest.TempPathFactory) -> Records:
    """Tiny pictures with labels that can be learned, in all three splits."""
    return tiny.write_pictures(tmp_path_factory.mktemp("pictures"))


@pytest.fixture(scope="session")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The table of a small edition of the embedded data."""
    folder = tmp_path_factory.mktemp("data") / "digits"
    return write_digits(folder, seed=0, train=96, validation=40, test=32, test_unseen=32)


@pytest.fixture(scope="session")
def quick(digits: Path) -> list[str]:
    """Arguments of a run of the whole method that takes seconds; the folder's name is to follow."""
    return [
        str(digits), "--config", "demo", "--image.size", "24", "--partition.parts", "2",
        "--training.epochs", "2", "--teachers.epochs", "2", "--distillation.views", "2",
        "--machine.workers", "0",
        "--machine.accelerator", "cpu", "--out",
    ]  # fmt: skip


@pytest.fixture(scope="session")
def finished(quick: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of the whole method; tests read it and do not write to it."""
    out = tmp_path_factory.mktemp("runs") / "finished"
    assert main(["run", *quick, str(out)]) == 0
    return out


@pytest.fixture(scope="session")
def s3_address() -> Iterator[str]:
    """The address of an S3 server that all tests share."""
    with s3_server() as server:
        yield server


@pytest.fixture
def s3(s3_address: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """s3fs for a server with one empty bucket; of nothing is there a copy yet."""
    import s3fs

    for name, value in {**environment(s3_address), "CPSD_CACHE": str(tmp_path / "copies")}.items():
        monkeypatch.setenv(name, value)
    emptied(s3_address)
    s3fs.S3FileSystem.clear_instance_cache()
    system = s3fs.S3FileSystem(use_listings_cache=False)
    system.mkdir(BUCKET)
    return system


@pytest.fixture
def benchmark_module(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], ModuleType]:
    """Import a module of the benchmarks folder by its name, as its scripts import each other."""
    monkeypatch.syspath_prepend(Path(__file__).resolve().parents[1] / "benchmarks")
    return importlib.import_module


@pytest.fixture
def sent(s3: Any, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The places of files that are sent to the server meanwhile, those copied there left out."""
    places: list[str] = []
    put_file = type(s3).put_file

    def put(system: Any, local: str, there: str) -> None:
        places.append(there)
        put_file(system, local, there)

    monkeypatch.setattr(type(s3), "put_file", put)
    return places
