"""The fault suite: its short form finds nothing, and its verdict finds what there is to find."""

import json
import os
import subprocess
import sys
from pathlib import Path
from random import Random

import pytest

from cpsd.stage import MARKS

CHAOS = Path(__file__).resolve().parents[2] / "chaos"
sys.path.append(str(CHAOS))

from attempts_at_job import Job  # noqa: E402
from damages import FlippedCheckpoint  # noqa: E402
from disturbed_job import Struck  # noqa: E402
from fault_table import markdown  # noqa: E402
from verdict import contents, differences, left_behind  # noqa: E402


@pytest.fixture
def job(tmp_path: Path) -> Job:
    job = Job(tmp_path / "job", tmp_path / "beside", tmp_path / "labels.csv")
    (job.run / MARKS).mkdir(parents=True)
    (job.run / "student").mkdir()
    (job.run / "student" / "model.safetensors").write_bytes(b"weights")
    mark = {"stage": "student", "cost": {"flops_forward": 7, "seconds": 1.5}}
    (job.run / MARKS / "student.json").write_text(json.dumps(mark))
    told = {"stages": {"student": mark}, "method": {"flops": 7}, "hardware": "any"}
    (job.run / "manifest.json").write_text(json.dumps(told))
    return job


@pytest.mark.slow
def test_a_run_that_faults_befall_ends_as_one_that_none_has_befallen() -> None:
    command = [sys.executable, str(CHAOS / "chaos.py"), "--faults", "12", "--no-ray"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=1200)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "| **all** | 12 |" in done.stdout
    assert "12 faults in " in done.stdout
    assert "FAILURE" not in done.stdout


def test_the_verdict_is_of_bytes_and_numbers_and_not_of_time(job: Job) -> None:
    expected = contents(job.run)
    mark = json.loads((job.run / MARKS / "student.json").read_text())
    mark["cost"]["seconds"] = 99.0
    (job.run / MARKS / "student.json").write_text(json.dumps(mark))
    assert differences(contents(job.run), expected) == []
    mark["cost"]["flops_forward"] = 8
    (job.run / MARKS / "student.json").write_text(json.dumps(mark))
    (job.run / "student" / "model.safetensors").write_bytes(b"weighty")
    (job.run / "more.csv").touch()
    assert differences(contents(job.run), expected) == [
        "more.csv is there in addition",
        ".stages/student.json differs: cost.flops_forward is 8, not 7",
        "student/model.safetensors differs",
    ]
    assert differences(expected, contents(job.run))[0] == "more.csv is missing"


def test_what_is_left_behind_is_found(job: Job) -> None:
    assert left_behind(job) == []
    (job.run / "student" / ".model.json.host.7.tmp").touch()
    (job.run / ".partial" / "student").mkdir(parents=True)
    (job.temporary / "pymp-abc").mkdir()
    found = left_behind(job)
    assert [line.partition(" /")[0] for line in found] == [
        "temporary file", "unfinished stage", "temporary file",
    ]  # fmt: skip


def test_an_orphan_is_found_and_killed(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("verdict.SECONDS_FOR_LOADERS", 0.0)
    with subprocess.Popen(["sleep", "100"], start_new_session=True) as orphan:
        job.sessions.append(os.getsid(orphan.pid))
        (found,) = left_behind(job)
        assert found.startswith(f"process {orphan.pid}, S: sleep in ")
        assert found.endswith("; sleep 100")
        job.kill_all()
        assert orphan.wait() == -9
    assert left_behind(job) == []


def test_damage_changes_bytes_and_no_length(job: Job) -> None:
    damage, content = FlippedCheckpoint(Random(0)), bytes(1000)
    for _ in range(20):
        damaged = damage.damaged(content)
        assert len(damaged) == 1000
        assert damaged != content


def test_the_table_has_a_row_a_kind_and_one_for_all() -> None:
    struck = [
        Struck("kill", "killed", 1.0),
        Struck("kill", "met nothing"),
        Struck("clock", "undisturbed", 3.0),
    ]
    lines = markdown(struck).splitlines()
    assert lines[2] == "| clock | 1 | 1 undisturbed | 3.0 | 3.0 |"
    assert lines[3] == "| kill | 2 | 1 killed; 1 met nothing | 0.5 | 1.0 |"
    assert lines[4] == "| **all** | 3 |  | 1.0 | 3.0 |"
