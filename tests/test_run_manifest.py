"""What a run says of itself, and what its stages have cost."""

import json
from pathlib import Path

import pytest

from cpsd.attempts import ATTEMPTS_FILE
from cpsd.cost import OLD, Cost
from cpsd.files import read_hashed_json, write_hashed_json
from cpsd.run import RunDirectory
from cpsd.stage import Stage, StageState
from worked_stages import Killed, Work, run_all


def test_the_manifest_holds_facts_and_costs_of_what_is_done(tmp_path: Path) -> None:
    directory = RunDirectory(tmp_path)
    graph = Work("graph.txt").stage("label-graph", "g")
    teachers = Work("t.txt", cost=Cost(1e6, 640, 320)).stage("teachers/co-occurrence", "t")
    unfinished = Work("s.txt", "t.txt")
    unfinished.killed_after = "s.txt"
    with pytest.raises(Killed):
        run_all(directory, graph, teachers, unfinished.stage(), facts={"seed": 3})
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    assert manifest["seed"] == 3
    assert list(manifest["stages"]) == ["label-graph", "teachers/co-occurrence"]
    mark = manifest["stages"]["teachers/co-occurrence"]
    assert mark["fingerprint"] == "t"
    assert mark["outputs"] == ["t.txt"]
    # The seconds that the stage counted over its attempts, not those of the last one.
    assert mark["cost"].items() >= {"seconds": 1e6, "images_forward": 640}.items()
    assert mark["cost"]["peak_memory"] > 2**20
    assert mark["plain_trainings"] is None, "there is no plain training yet"
    assert manifest["method"] is None
    assert 0 <= manifest["stages"]["label-graph"]["cost"]["seconds"] < 60
    assert (tmp_path / "config.yaml").read_text() == "seed: 0\n"


def test_the_manifest_says_what_stages_and_method_are_in_plain_trainings(tmp_path: Path) -> None:
    baseline = Work("b.txt", cost=Cost(1e6, 100, 50, 1000, 2000)).stage("baseline")
    work = Work("s.txt", cost=Cost(2e6, 100, 50, 1500, 4500))
    student = Stage("student", "f1", work.outputs, work, needs=("baseline",))
    run_all(RunDirectory(tmp_path), baseline, student)
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    ratios = {"plain_trainings": 2.0, "plain_trainings_by_the_clock": 2.0}
    assert manifest["stages"]["baseline"]["plain_trainings"] == 1.0
    assert manifest["stages"]["student"].items() >= ratios.items()
    assert manifest["method"].items() >= ratios.items()
    assert manifest["method"]["stages"] == ["student"]
    assert manifest["stages"]["student"]["needs"] == ["baseline"]


def test_marks_of_before_operations_were_counted_are_read(tmp_path: Path) -> None:
    directory, work = RunDirectory(tmp_path), Work("a.txt")
    run_all(directory, work.stage())
    mark = tmp_path / ".stages" / "student.json"
    old = {"seconds": 5.0, "images_forward": 20, "images_backward": 10}
    told = {key: value for key, value in json.loads(mark.read_text()).items() if key != "sha256"}
    mark.write_text(json.dumps({**told, "cost": old}))
    assert run_all(directory, work.stage()) == [("student", StageState.DONE)]
    assert directory.cost(work.stage()) == Cost(5.0, 20, 10, not_counted=OLD)


def test_seconds_of_interrupted_attempts_count(tmp_path: Path) -> None:
    directory, work = RunDirectory(tmp_path), Work("last.ckpt", "a.txt")
    work.killed_after = "last.ckpt"
    with pytest.raises(Killed):
        run_all(directory, work.stage())
    attempts = tmp_path / ".partial" / "student" / ATTEMPTS_FILE
    write_hashed_json(attempts, {**read_hashed_json(attempts), "seconds": 1000.0})
    work.killed_after = None
    run_all(directory, work.stage())
    assert 1000 < directory.cost(work.stage()).seconds < 1060
