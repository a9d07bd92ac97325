"""`cpsd explain`: a picture with labels that are named, and none written over."""

from pathlib import Path

import pytest
from PIL import Image

from cpsd.cli import main
from printed_errors import said


def test_explain_writes_a_picture_and_never_over_another(
    finished: Path, digits: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    picture, out = digits.parent / "images" / "test-00000.jpg", tmp_path / "panel.png"
    explain = ["explain", str(finished), str(picture), "--out", str(out)]
    assert main([*explain, "--labels", "red 3; blue 7"]) == 0
    with Image.open(out) as panel:
        assert panel.format == "PNG"
        assert panel.width > panel.height > 100  # two labels, four predictors
    before = out.read_bytes()
    assert main(explain) == 2
    assert str(out) in said(capsys)
    assert out.read_bytes() == before
    out.unlink()
    assert main([*explain, "--labels", "red 33"]) == 2
    assert "Did you mean 'red 3'?" in said(capsys)
    assert not out.exists()
