"""`cpsd data check` and `cpsd data demo`: what they show, and what they write."""

from pathlib import Path

import pytest
from rich.console import Console

from cpsd.cli import main
from cpsd.verbs import data


def test_data_check_accounts_for_a_good_table(
    digits: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["data", "check", str(digits)]) == 0
    assert "200 rows" in (out := capsys.readouterr().out)
    assert "Nothing is wrong." in out


def test_data_check_shows_its_progress_in_a_terminal_only(
    digits: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    main(["data", "check", str(digits)])
    piped = capsys.readouterr()
    assert piped.err == ""
    terminal = Console(stderr=True, force_terminal=True, width=80, legacy_windows=False)
    monkeypatch.setattr(data, "stderr", terminal)
    main(["data", "check", str(digits)])
    shown = capsys.readouterr()
    assert "200/200 pictures" in shown.err
    assert shown.out == piped.out


def test_data_check_names_offending_rows(table: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with table.open("a") as stream:
        stream.write("gone.png,x,train\na.png,x; y,train\n")
    (table.parent / "c.png").write_bytes((table.parent / "c.png").read_bytes()[:200])
    assert main(["data", "check", str(table)]) == 1
    printed = capsys.readouterr().out
    assert "row 5" in printed
    assert "gone.png" in printed
    assert "duplicate" in printed
    assert "c.png" in printed


def test_data_check_of_no_table_says_so_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["data", "check", str(tmp_path / "gone.csv")]) == 1
    printed = capsys.readouterr().out
    assert "There is no table" in printed
    assert "0 rows" not in printed


def test_data_demo_writes_what_run_reads(tmp_path: Path) -> None:
    folder = tmp_path / "demo"
    assert main(["data", "demo", str(folder), "--seed", "3"]) == 0
    rows = (folder / "labels.csv").read_text().splitlines()
    assert rows[0] == "image,labels,split"
    assert len(rows) == 1 + 1000 + 600 + 800 + 800
