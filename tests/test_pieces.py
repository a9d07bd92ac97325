"""Stages in pieces: done apart, in any order, and the same as in one go."""

import json
from pathlib import Path

import pytest
from safetensors.torch import load_file

from cpsd.arguments import parse, run_config
from cpsd.attempts import attempt_at_piece
from cpsd.cli import main
from cpsd.cost import Cost
from cpsd.data.sources import load_records
from cpsd.files import read_hashed_json, write_hashed_json
from cpsd.pipeline import Pipeline
from cpsd.run import RunDirectory
from cpsd.stage import Pieces, Stage, StageState
from tiny import StopError, StopIn


def in_pieces(done: list[str]) -> Stage:
    """Return a stage of three pieces, each a file; its work is to list them."""

    def pieces(folder: Path) -> Pieces:
        def write(name: str) -> None:
            done.append(name)
            (folder / f"{name}.ckpt").write_text(name)

        names = [name for name in "abc" if not (folder / f"{name}.ckpt").exists()]
        return {name: lambda name=name: write(name) for name in names}  # type: ignore[misc]

    def work(folder: Path) -> Cost:
        for piece in pieces(folder).values():
            piece()
        names = sorted(path.stem for path in folder.glob("*.ckpt"))
        (folder / "all.json").write_text(json.dumps(names))
        return Cost(seconds=1.0)

    return Stage("teachers", "f1", ("all.json",), work, pieces=pieces)


def test_pieces_that_are_done_are_not_done_again_by_whoever_goes_on(tmp_path: Path) -> None:
    done = list[str]()
    directory, stage = RunDirectory(tmp_path), in_pieces(done)
    with directory.locked():
        assert list(directory.pieces(stage)) == ["a", "b", "c"]
        directory.perform_piece(stage, "b")
        directory.perform_piece(stage, "b")  # as when a worker is lost after its last write
        assert directory.state(stage) is StageState.STARTED
        assert list(directory.pieces(stage)) == ["a", "c"]
        directory.perform_piece(stage, "a")
        assert list(directory.pieces(stage)) == []  # one alone is no piece: the stage does it
        directory.perform(stage)
    assert done == ["b", "a", "c"]
    assert json.loads((tmp_path / "all.json").read_text()) == ["a", "b", "c"]
    assert directory.state(stage) is StageState.DONE


def test_attempts_at_pieces_count_for_the_stage(tmp_path: Path) -> None:
    directory, stage = RunDirectory(tmp_path), in_pieces([])
    with directory.locked():
        directory.pieces(stage)
        with attempt_at_piece(tmp_path / ".partial/teachers", "a") as attempts:
            pass
        file = tmp_path / ".partial/teachers/attempts/a/attempts.json"
        content = {**read_hashed_json(file), "seconds": 500.0, "peak_memory": 2**50}
        write_hashed_json(file, content)
        cost = directory.perform(stage)
    assert attempts.begun is None
    assert 500 <= cost.seconds < 510
    assert cost.peak_memory == 2**50


def test_teachers_one_by_one_anywhere_are_the_teachers_together_to_the_bit(
    finished: Path, quick: list[str], tmp_path: Path
) -> None:
    out = tmp_path / "apart"
    assert main(["partition", *quick, str(out)]) == 0
    config = run_config(parse(["run", *quick, str(out)])[1])
    records = load_records(config.data, seed=config.seed)[0]
    directory = RunDirectory(out)

    def teachers(*callbacks: StopIn) -> Stage:
        stages = Pipeline(config, records, out, callbacks=lambda name: callbacks).stages()
        return next(stage for stage in stages if stage.name == "teachers/dis-occurrence")

    with directory.locked():
        assert list(directory.pieces(teachers())) == ["0", "1"]
        directory.perform_piece(teachers(), "1")
        with pytest.raises(StopError):
            directory.perform_piece(teachers(StopIn(1)), "0")
    # The rest without pieces, in this process: the teacher that is begun goes on.
    assert main(["train", *quick, str(out)]) == 0
    for part in ("0", "1"):
        for file in ("model.safetensors", "model.json", "metrics.csv"):
            place = Path("teachers/dis-occurrence", part, file)
            assert (out / place).read_bytes() == (finished / place).read_bytes()
    marks = [json.loads((run / ".stages/teachers.dis-occurrence.json").read_text())["cost"]
             for run in (out, finished)]  # fmt: skip
    for key in ("images_forward", "images_backward", "flops_forward", "flops_backward"):
        assert marks[0][key] == marks[1][key]


def test_teachers_that_began_together_go_on_together(
    finished: Path, quick: list[str], tmp_path: Path
) -> None:
    out = tmp_path / "together"
    assert main(["partition", *quick, str(out)]) == 0
    config = run_config(parse(["run", *quick, str(out)])[1])
    records = load_records(config.data, seed=config.seed)[0]
    stages = Pipeline(config, records, out, callbacks=lambda name: [StopIn(1)]).stages()
    stage = next(stage for stage in stages if stage.name == "teachers/co-occurrence")
    directory = RunDirectory(out)
    with directory.locked():
        with pytest.raises(StopError):
            directory.perform(stage)
        assert directory.pieces(stage) == {}
    assert main(["train", *quick, str(out)]) == 0
    place = "teachers/co-occurrence/1/model.safetensors"
    assert load_file(out / place).keys() == load_file(finished / place).keys()
    assert (out / place).read_bytes() == (finished / place).read_bytes()
