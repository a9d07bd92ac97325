"""What is said where there is no Ray, or no cluster."""

import sys

import pytest

from cpsd.cli import main


def test_without_ray_a_sentence_says_what_to_install(
    quick: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)  # as Python marks what cannot be imported
    assert main(["run", *quick, "nowhere", "--executor", "ray"]) == 2
    said = capsys.readouterr().err
    assert "--executor ray needs Ray" in said
    assert "pip install 'cpsd[ray]'" in said
    assert "Traceback" not in said


def test_an_address_without_ray_is_refused(
    quick: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["compare", *quick, "nowhere", "--ray-address", "auto"]) == 2
    assert "--ray-address needs --executor ray" in capsys.readouterr().err
