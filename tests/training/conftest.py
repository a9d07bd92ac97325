"""Stored soft labels that tests of training share."""

from pathlib import Path

import pytest

import tiny
from cpsd.data.records import Records
from stored_soft_labels import NUM_VIEWS, write


@pytest.fixture
def store(records: Records, tmp_path: Path) -> Path:
    """A folder of stored soft labels."""
    num_forward = write(tmp_path / "store", records)
    assert num_forward == tiny.NUM_TRAIN * NUM_VIEWS * 2
    return tmp_path / "store"
