"""What a command has printed to standard error."""

import pytest


def said(capsys: pytest.CaptureFixture[str]) -> str:
    """Return what was printed to standard error, in one line."""
    return " ".join(capsys.readouterr().err.split())
