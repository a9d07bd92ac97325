from pathlib import Path

import pytest

from cpsd.fingerprints import file_digest, source_digest


def test_a_factory_counts_by_the_file_it_stands_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = tmp_path / "somebodys_networks.py"
    source.write_text("def make_model(labels): ...\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    before = source_digest("somebodys_networks:make_model")
    assert before == file_digest(str(source))
    source.write_text("def make_model(labels): return 1\n")
    assert source_digest("somebodys_networks:make_model") != before
    assert source_digest(None) is None
