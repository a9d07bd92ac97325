"""What tests share."""

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

import tiny
from cpsd.data.records import Records


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
