"""A comparison that is killed on its way, and started again."""

from pathlib import Path

import pytest

from cpsd.cli import main
from cpsd.files import read_json
from killed_comparison import arguments, kill_when_there, without_measured

KILLED_WHEN_THERE = (
    "runs/cpsd/0/.stages/teachers.co-occurrence.json",  # in the second half of the teachers
    "runs/cpsd/0/.stages/student.json",  # before the student is scored
)


@pytest.mark.slow
def test_a_killed_comparison_ends_where_an_undisturbed_one_does(
    digits: Path, tmp_path: Path
) -> None:
    killed, undisturbed = tmp_path / "killed", tmp_path / "undisturbed"
    for file in KILLED_WHEN_THERE:
        kill_when_there(arguments(digits, killed), killed / file)
        # No more than plain training is known yet, and what is known is whole.
        assert read_json(killed / "compare.json")["runs_done"] == 1
    kept = (killed / "runs/cpsd/0/student/model.safetensors").stat().st_mtime_ns
    for out in (killed, undisturbed):
        assert main(arguments(digits, out)) == 0
    assert (killed / "runs/cpsd/0/student/model.safetensors").stat().st_mtime_ns == kept
    found, expected = (read_json(out / "compare.json") for out in (killed, undisturbed))
    assert expected["runs_done"] == expected["runs_planned"] == 3
    assert without_measured(found) == without_measured(expected)
    assert not list(killed.rglob("*.tmp"))
    assert (killed / "runs/cpsd/0/report.html").is_file()
