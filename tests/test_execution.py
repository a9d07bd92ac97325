from pathlib import Path

import pytest

from cpsd.cost import Cost
from cpsd.errors import RunError
from cpsd.execution import LocalExecutor, RunWork, needed
from cpsd.run import RunDirectory
from cpsd.stage import Stage, StageState


def stage(name: str, *needs: str, fingerprint: str = "f1", outputs: tuple[str, ...] = ()) -> Stage:
    """Return a stage that writes its name into a file, or into the files ``outputs``."""
    made = outputs or (f"{name}.txt",)

    def work(folder: Path) -> Cost:
        for output in made:
            (folder / output).parent.mkdir(parents=True, exist_ok=True)
            (folder / output).write_text(name)
        return Cost(seconds=30.0, images_forward=7, images_backward=5)

    return Stage(name, fingerprint, tuple({m.split("/")[0] for m in made}), work, needs)


def perform(
    run: Path, stages: list[Stage], wanted: list[Stage] | None = None, *sources: Path
) -> list[tuple[str, StageState]]:
    directory, said = RunDirectory(run), list[tuple[str, StageState]]()
    with directory.locked():
        work = RunWork(
            stages,
            directory,
            wanted=stages if wanted is None else wanted,
            redo=False,
            config="seed: 0",
            facts={},
            announce=lambda one, state: said.append((one.name, state)),
            sources=[RunDirectory(source) for source in sources],
        )
        LocalExecutor().begin(work)
        LocalExecutor().finish(work)
    return said


GRAPH, CUT = stage("graph"), stage("cut", "graph")
BASELINE, TEACHERS = stage("baseline", "graph"), stage("teachers", "cut")
STUDENT = stage("student", "graph", "teachers")
ALL = [GRAPH, CUT, BASELINE, TEACHERS, STUDENT]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("graph", [GRAPH]),
        ("baseline", [GRAPH, BASELINE]),
        ("student", [GRAPH, CUT, TEACHERS, STUDENT]),
    ],
)
def test_a_stage_needs_what_its_needs_need(name: str, expected: list[Stage]) -> None:
    assert needed(ALL, name) == expected


def test_only_wanted_stages_are_performed(tmp_path: Path) -> None:
    perform(tmp_path, ALL, needed(ALL, "baseline"))
    assert sorted(path.name for path in tmp_path.glob("*.txt")) == ["baseline.txt", "graph.txt"]


def test_a_result_with_the_same_fingerprint_is_taken_from_another_run(tmp_path: Path) -> None:
    made = ("model/0/weights", "model/card.json", "model.json")
    perform(tmp_path / "first", [GRAPH, stage("teachers", outputs=made)])
    second = [GRAPH, stage("teachers", outputs=made), STUDENT]
    said = perform(tmp_path / "second", second, None, tmp_path / "empty", tmp_path / "first")
    states = [state for _, state in said]
    assert states == [StageState.DONE, StageState.DONE, StageState.NEW]
    for name in made:
        first, taken = (tmp_path / run / name for run in ("first", "second"))
        assert taken.read_text() == "teachers"
        assert first.samefile(taken)  # linked: it takes no room twice
    directory = RunDirectory(tmp_path / "second")
    cost = directory.cost(second[1])
    assert (cost.seconds, cost.images_forward, cost.images_backward) == (30.0, 7, 5)
    assert cost == RunDirectory(tmp_path / "first").cost(second[1])
    assert list((tmp_path / "second" / ".partial").iterdir()) == []


def test_a_result_with_another_fingerprint_is_made_anew(tmp_path: Path) -> None:
    perform(tmp_path / "first", [GRAPH, TEACHERS])
    other = [GRAPH, stage("teachers", fingerprint="f2")]
    said = perform(tmp_path / "second", other, None, tmp_path / "first")
    assert said == [("graph", StageState.DONE), ("teachers", StageState.NEW)]
    assert not (tmp_path / "first/teachers.txt").samefile(tmp_path / "second/teachers.txt")


def test_what_a_run_has_begun_itself_is_not_taken_from_another(tmp_path: Path) -> None:
    perform(tmp_path / "first", [GRAPH])

    def interrupted(folder: Path) -> Cost:
        (folder / "last.ckpt").write_text("half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        perform(tmp_path / "second", [Stage("graph", "f1", ("graph.txt",), interrupted)])
    said = perform(tmp_path / "second", [GRAPH], None, tmp_path / "first")
    assert said == [("graph", StageState.STARTED)]


def test_the_cost_of_what_is_not_done_is_refused(tmp_path: Path) -> None:
    perform(tmp_path, [GRAPH])
    with pytest.raises(RunError, match=r"'cut' of .* is not done yet"):
        RunDirectory(tmp_path).cost(CUT)
