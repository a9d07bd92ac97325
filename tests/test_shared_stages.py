"""Runs whose teachers share the first stages of the baseline, or start from it."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from cpsd.cli import main
from cpsd.config import RunConfig, TeachersConfig
from cpsd.errors import ConfigError
from cpsd.model_config import ModelConfig
from cpsd.models.ensemble import MeanPredictor, TeacherEnsemble
from cpsd.models.trunk import trunk_of
from cpsd.trained import load_trained

SETTINGS = ["--teachers.shared_stages", "2", "--teachers.start", "baseline"]
TEACHERS = [f"teachers/{cut}-occurrence/{part}" for cut in ("co", "dis") for part in (0, 1)]
WEIGHTS = "model.safetensors"


@pytest.fixture(scope="module")
def on_a_trunk(quick: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run whose teachers share two stages; tests do not write to it."""
    out = tmp_path_factory.mktemp("runs") / "on a trunk"
    assert main(["run", *quick, str(out), *SETTINGS]) == 0
    return out


def first_stages(weights: Path) -> dict[str, torch.Tensor]:
    prefixes = ("normalization.", "backbone.network.stem.", "backbone.network.stages.0.")
    return {key: value for key, value in load_file(weights).items() if key.startswith(prefixes)}


def test_all_teachers_have_the_baselines_first_stages(on_a_trunk: Path) -> None:
    baseline = first_stages(on_a_trunk / "baseline" / WEIGHTS)
    assert len(baseline) > 4
    for name in TEACHERS:
        own = first_stages(on_a_trunk / name / WEIGHTS)
        assert own.keys() == baseline.keys()
        assert all(torch.equal(value, baseline[key]) for key, value in own.items())
        card = json.loads((on_a_trunk / name / "model.json").read_text())
        assert card["part"]["shared_stages"] == 2
    student = first_stages(on_a_trunk / "student" / WEIGHTS)
    assert any(not torch.equal(value, baseline[key]) for key, value in student.items())


def test_a_loaded_runs_teachers_stand_on_one_trunk(on_a_trunk: Path) -> None:
    together = load_trained(on_a_trunk, "teachers").predictor
    assert isinstance(together, MeanPredictor)
    trunks = set()
    for ensemble in together.predictors:
        assert isinstance(ensemble, TeacherEnsemble)
        trunks |= {trunk_of(teacher) for teacher in ensemble.teachers}
    assert len(trunks) == 1
    assert None not in trunks


def test_the_runs_own_baseline_is_what_teachers_are_made_of(on_a_trunk: Path) -> None:
    places = [on_a_trunk / name / WEIGHTS for name in ("baseline", "teachers_start")]
    assert places[0].samefile(places[1])
    marks = [on_a_trunk / ".stages" / f"{name}.json" for name in ("baseline", "teachers-start")]
    stages = [json.loads(mark.read_text()) for mark in marks]
    assert stages[0]["fingerprint"] == stages[1]["fingerprint"]


def test_what_is_shared_costs_once_forward_and_nothing_backward(
    on_a_trunk: Path, finished: Path
) -> None:
    shared, own = (
        json.loads((run / "manifest.json").read_text())["stages"] for run in (on_a_trunk, finished)
    )

    def flops(stages: dict[str, Any], name: str, direction: str) -> int:
        return int(stages[name]["cost"][f"flops_{direction}"])

    name = "teachers/co-occurrence"
    assert flops(shared, "baseline", "forward") == flops(own, "baseline", "forward")
    # Two teachers put each picture through the trunk once, where each put it through its own.
    saved = flops(own, name, "forward") - flops(shared, name, "forward")
    assert saved > 0
    # In validation both share it with both weight averages: 4 networks, 40 pictures, 2 epochs.
    trunk_of_a_picture = saved / (96 * 2 * (2 - 1) + 40 * 2 * (4 - 1))
    # Of each trunk the backward pass had as much for the weights, and as much for the input of
    # each layer but the first.
    backward = flops(own, name, "backward") - flops(shared, name, "backward")
    assert 2 * 96 * 2 * trunk_of_a_picture < backward < 2 * 2 * 96 * 2 * trunk_of_a_picture
    # Soft labels are those of four teachers, of both strategies, on one trunk.
    stored = flops(own, "soft-labels", "forward") - flops(shared, "soft-labels", "forward")
    assert stored == pytest.approx(96 * 2 * 3 * trunk_of_a_picture)


def test_the_baseline_that_teachers_are_made_of_is_part_of_the_methods_cost(
    on_a_trunk: Path,
) -> None:
    manifest = json.loads((on_a_trunk / "manifest.json").read_text())
    method, stages = manifest["method"], manifest["stages"]
    assert stages["teachers-start"]["plain_trainings"] == stages["baseline"]["plain_trainings"] == 1
    assert "teachers-start" in method["stages"]
    assert "baseline" not in method["stages"], "once"
    whole = sum(stages[name]["plain_trainings"] for name in method["stages"])
    assert method["plain_trainings"] == pytest.approx(whole)


def test_teachers_are_made_anew_when_they_are_to_share_more(
    on_a_trunk: Path, quick: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "more"
    shutil.copytree(on_a_trunk, out)
    settings = ["--teachers.shared_stages", "3", "--teachers.start", "baseline"]
    assert main(["run", *quick, str(out), *settings]) == 2
    message = capsys.readouterr().err
    assert "teachers/co-occurrence, teachers/dis-occurrence, soft-labels" in message
    assert "baseline" not in message.replace("predictions/baseline", "")
    assert "teachers-start" not in message


def test_a_run_of_another_seed_trains_the_baseline_of_its_teachers(
    on_a_trunk: Path, quick: list[str], tmp_path: Path
) -> None:
    """Its teachers are those of the run that has their seed, to the bit."""
    out = tmp_path / "other"
    settings = [*SETTINGS, "--seed", "1", "--teachers.seed", "0"]
    data = ["--data.validation_fraction", "0.1"]  # the table names all splits: no draw
    assert main(["train", *quick, str(out), *settings, *data]) == 0
    start, expected = (
        load_file(run / name / WEIGHTS)
        for run, name in ((out, "teachers_start"), (on_a_trunk, "baseline"))
    )
    assert all(torch.equal(value, expected[key]) for key, value in start.items())
    own = load_file(out / "baseline" / WEIGHTS)
    assert any(not torch.equal(value, expected[key]) for key, value in own.items())
    for name in TEACHERS:
        files = [load_file(run / name / WEIGHTS) for run in (out, on_a_trunk)]
        assert all(torch.equal(value, files[1][key]) for key, value in files[0].items())


def test_a_comparison_makes_what_teachers_start_from_once(digits: Path, tmp_path: Path) -> None:
    out = tmp_path / "compared"
    arguments = [
        "compare", str(digits), "--config", "demo", "--image.size", "16", "--partition.parts", "2",
        "--training.epochs", "1", "--teachers.epochs", "1", "--distillation.views", "1",
        "--seeds", "2", "--teacher-seeds", "1", "--resamples", "50", "--machine.workers", "0",
        "--machine.accelerator", "cpu", "--arms", "psd-c", *SETTINGS, "--out", str(out),
    ]  # fmt: skip
    assert main(arguments) == 0
    runs = out / "runs"
    start = runs / "cpsd/0/teachers_start" / WEIGHTS
    assert start.samefile(runs / "baseline/0/baseline" / WEIGHTS)
    for run in ("cpsd/1", "psd-c/0", "psd-c/1"):
        assert start.samefile(runs / run / "teachers_start" / WEIGHTS)
    rows = {row["name"]: row for row in json.loads((out / "compare.json").read_text())["rows"]}
    stages = ("teachers-start", "teachers.co-occurrence", "teachers.dis-occurrence", "student")
    for seed, run in enumerate(rows["cpsd"]["runs"]):
        marks = [runs / f"cpsd/{seed}/.stages/{stage}.json" for stage in stages]
        trained = sum(json.loads(mark.read_text())["cost"]["images_backward"] for mark in marks)
        assert run["cost"]["images_backward"] == trained


def test_what_cannot_be_is_refused_before_anything_is_trained(
    quick: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert main(["run", *quick, str(out), "--teachers.shared_stages", "6"]) == 2
    assert "teachers.shared_stages is 6, but the backbone" in capsys.readouterr().err
    assert not (out / "baseline").exists()
    with pytest.raises(ConfigError, match=r"teachers\.shared_stages is 1, .*model\.factory"):
        RunConfig(model=ModelConfig(factory="m:f"), teachers=TeachersConfig(shared_stages=1))
    with pytest.raises(ConfigError, match=r"teachers\.given is 'run/teachers'; .* left out"):
        TeachersConfig(given="run/teachers", start="baseline")
    with pytest.raises(ConfigError, match=r"teachers\.shared_stages is -1"):
        TeachersConfig(shared_stages=-1)
