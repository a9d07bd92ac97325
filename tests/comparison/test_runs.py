"""A whole comparison on a small edition of the embedded data."""

import json
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import average_precision_score

from cpsd.cli import main
from cpsd.comparison.runs import Plan
from cpsd.errors import ConfigError
from cpsd.evaluation.prediction_files import read_predictions
from cpsd.run_predictions import predictions_file

ARMS = ("baseline", "cpsd", "psd-c", "psd-d", "self-kd", "random", "ensemble-kd", "baseline-long")
SEEDS = ("0", "1", "2")


@pytest.fixture(scope="module")
def arguments(digits: Path) -> list[str]:
    return [
        "compare", str(digits), "--config", "demo", "--image.size", "16", "--partition.parts", "2",
        "--training.epochs", "1", "--teachers.epochs", "1", "--distillation.views", "1",
        "--seeds", "3", "--teacher-seeds", "2", "--resamples", "50", "--machine.workers", "0",
        "--machine.accelerator", "cpu", "--out",
    ]  # fmt: skip


@pytest.fixture(scope="module")
def compared(arguments: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished comparison; tests read it and do not write to it."""
    out = tmp_path_factory.mktemp("compared") / "out"
    assert main([*arguments, str(out)]) == 0
    return out


def test_every_arm_has_a_run_for_every_seed(compared: Path) -> None:
    for arm in ARMS:
        assert sorted(path.name for path in (compared / "runs" / arm).iterdir()) == list(SEEDS)
    assert not list(compared.rglob("*.tmp"))


def test_what_has_the_same_fingerprint_is_made_once(compared: Path) -> None:
    runs = compared / "runs"
    shared = "teachers/co-occurrence/0/model.safetensors"
    # Seeds 0 and 2 have teacher set 0, seed 1 has set 1; one strategy alone shares with both.
    for arm, seed in (("psd-c", "0"), ("psd-d", "0"), ("cpsd", "2"), ("psd-c", "2")):
        assert (runs / arm / seed / shared).samefile(runs / "cpsd/0" / shared)
    assert not (runs / "cpsd/1" / shared).samefile(runs / "cpsd/0" / shared)
    chunk = "soft_labels/00000.npy"
    assert (runs / "cpsd/2" / chunk).samefile(runs / "psd-d/0" / chunk)
    students = {(runs / "cpsd" / seed / "student/model.safetensors").read_bytes() for seed in SEEDS}
    assert len(students) == 3


def test_arms_are_run_only_as_far_as_they_are_needed(compared: Path) -> None:
    assert not (compared / "runs/baseline/0/teachers").exists()
    assert not (compared / "runs/psd-c/0/baseline").exists()
    assert (compared / "runs/ensemble-kd/0/teachers/whole-4").is_dir()
    assert not (compared / "runs/ensemble-kd/0/teachers/whole-5").exists()


def test_the_methods_runs_have_findings_and_pages_and_the_arms_own_baseline(compared: Path) -> None:
    for seed in SEEDS:
        run, baseline = compared / "runs/cpsd" / seed, "baseline/model.safetensors"
        assert (run / baseline).samefile(compared / "runs/baseline" / seed / baseline)
        assert (run / "findings/context-test.json").is_file()
        assert (run / "evaluation/test-unseen.json").is_file()
        assert (run / "explanations/gallery.json").is_file()
    page = (compared / "report.html").read_text(encoding="utf-8")
    assert all(f'href="runs/cpsd/{seed}/report.html"' in page for seed in SEEDS)
    assert "<h1" in (first := (compared / "runs/cpsd/0/report.html").read_text(encoding="utf-8"))
    assert ">cpsd/0</h1>" in first


def test_random_parts_are_as_large_as_those_of_the_cuts(compared: Path) -> None:
    for cut in ("co-occurrence", "dis-occurrence"):
        sizes = [
            sorted(len(part) for part in json.loads(path.read_text())["parts"])
            for path in (
                compared / f"runs/cpsd/0/partitions/{cut}.json",
                compared / f"runs/random/0/partitions/shuffled-{cut}.json",
            )
        ]
        assert sizes[0] == sizes[1]


def test_the_figures_are_those_of_the_predictions(compared: Path) -> None:
    content = json.loads((compared / "compare.json").read_text())
    rows = {row["name"]: row for row in content["rows"]}
    assert set(rows) == {
        *ARMS, "cpsd: teachers/co-occurrence", "cpsd: teachers/dis-occurrence", "cpsd: teachers",
        "random: teachers", "ensemble-kd: teachers",
    }  # fmt: skip
    assert (content["runs_done"], content["runs_planned"]) == (24, 24)
    for name, row in rows.items():
        predictor = name.partition(": ")[2] or ("baseline" if "baseline" in name else "student")
        found = []
        for run in row["runs"]:
            file = predictions_file(compared / run["path"], predictor, "test")
            predictions = read_predictions(file)
            present = (predictions.targets == 1).any(axis=0)
            found.append(
                average_precision_score(
                    predictions.targets[:, present], predictions.logits[:, present]
                )
            )
            assert run["scores"]["test"]["mAP"] == pytest.approx(found[-1], abs=1e-6)
        assert len(found) == (2 if ":" in name else 3)
        interval = row["intervals"]["test"]["mAP"]
        assert interval["mean"] == pytest.approx(np.mean(found), abs=1e-6)
        assert interval["low"] < interval["mean"] < interval["high"]
        if name != "baseline" and ":" not in name:
            baseline = rows["baseline"]["intervals"]["test"]["mAP"]["mean"]
            difference = row["differences"]["baseline"]["test"]["mAP"]["mean"]
            assert difference == pytest.approx(np.mean(found) - baseline, abs=1e-6)


def test_every_arm_has_the_learning_curve_of_what_it_trained_last(compared: Path) -> None:
    content = json.loads((compared / "compare.json").read_text())
    for row in content["rows"]:
        for run in row["runs"]:
            if ": " in row["name"]:
                assert run["learning_curve"] is None
                continue
            predictor = "baseline" if "baseline" in row["name"] else "student"
            card = json.loads((compared / run["path"] / predictor / "model.json").read_text())
            curve = run["learning_curve"]
            assert curve["epochs"] == (6 if row["name"] == "baseline-long" else 1)
            kept = card["training"]
            assert curve["best_epoch"] == kept["epoch"]
            assert curve["best"] == pytest.approx(kept["validation_mAP"], abs=1e-9)
            assert curve["best"] - curve["last"] == pytest.approx(curve["lost"], abs=1e-12)


def test_costs_count_what_was_shared(compared: Path) -> None:
    content = json.loads((compared / "compare.json").read_text())
    costs = {row["name"]: row["cost"] for row in content["rows"]}
    assert costs["baseline"]["plain_trainings"] == 1
    # 96 pictures, 40 for validation, which both sets of weights are scored on; four teachers.
    plain = 96 * 3 + 40 * 2
    assert costs["baseline"]["passes"] == plain
    assert costs["cpsd"]["passes"] == plain * 5 + 96 * 4
    assert costs["ensemble-kd"]["passes"] == costs["random"]["passes"] == costs["cpsd"]["passes"]
    assert costs["psd-c"]["passes"] == plain * 3 + 96 * 2
    assert costs["self-kd"]["passes"] == plain * 2 + 96
    assert costs["baseline-long"]["passes"] == plain * 6  # 6.04 would be as much as the method
    assert costs["cpsd: teachers"]["passes"] == plain * 4
    # By operations nearly the same: heads of few labels take less, and no gradient of pixels.
    for arm in ("cpsd", "random", "ensemble-kd", "psd-c", "self-kd", "baseline-long"):
        assert costs[arm]["plain_trainings_by"] == "FLOPs"
        of_passes = costs[arm]["passes"] / plain
        assert costs[arm]["plain_trainings"] == pytest.approx(of_passes, rel=0.03), arm
    assert costs["cpsd: teachers/co-occurrence"]["passes"] == plain * 2


def written(comparison: Path, *patterns: str) -> dict[Path, int]:
    """Return when each file of the runs was written."""
    runs = comparison / "runs"
    return {p: p.stat().st_mtime_ns for pattern in patterns for p in runs.rglob(pattern)}


def test_a_finished_comparison_does_nothing_again(
    compared: Path, arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    before = (compared / "compare.json").read_bytes()
    made = written(compared, "*.safetensors", "report.html")
    assert len([path for path in made if path.name == "report.html"]) == 3
    assert main([*arguments, str(compared)]) == 0
    assert (compared / "compare.json").read_bytes() == before
    assert written(compared, "*.safetensors", "report.html") == made
    shown = capsys.readouterr().out
    assert "run 24 of 24" in shown
    assert "test: " in shown


def test_further_seeds_go_on_from_what_is_there(arguments: list[str], tmp_path: Path) -> None:
    out = tmp_path / "out"
    fewer = [*arguments, str(out), "--arms", "psd-c", "--seeds", "1", "--teacher-seeds", "1"]
    assert main(fewer) == 0
    content = json.loads((out / "compare.json").read_text())
    assert [row["name"] for row in content["rows"] if ":" not in row["name"]] == list(ARMS[:3])
    note = content["rows"][1]["differences"]["baseline"]["test"]["mAP"]["note"]
    assert "test images only" in note
    (out / "runs/cpsd/0/report.html").unlink()  # as if it had been killed before it was written
    kept = written(out, "*.safetensors")
    more = [*arguments, str(out), "--arms", "psd-c", "--seeds", "2", "--teacher-seeds", "1"]
    assert main(more) == 0
    assert kept.items() <= written(out, "*.safetensors").items()
    assert all((out / f"runs/cpsd/{seed}/report.html").is_file() for seed in (0, 1))
    content = json.loads((out / "compare.json").read_text())
    difference = content["rows"][1]["differences"]["baseline"]["test"]["mAP"]
    assert difference["num_seeds"] == 2
    assert "one teacher set" in difference["note"]


def test_a_dry_run_shows_the_plan_and_writes_nothing(
    arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*arguments, str(tmp_path / "new"), "--dry-run"]) == 0
    shown = capsys.readouterr().out
    assert shown.count("ensemble-kd") == 3
    assert "ema_decay" in shown
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        (["--seeds", "0"], "--seeds is 0; it must be at least 1"),
        (["--teacher-seeds", "4"], "at most the number of seeds, 3"),
        (["--arms", "psd"], "there is no arm 'psd'"),
        (["--resamples", "0"], "--resamples is 0"),
        (["--teachers.seed", "1"], "teachers.seed is 1"),
        (["--partition.strategies", "[random]"], "partition.strategies"),
    ],
)
def test_impossible_comparisons_are_refused(
    arguments: list[str],
    extra: list[str],
    message: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main([*arguments, str(tmp_path / "new"), *extra]) == 2
    assert message in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "new" / "runs").exists()


def test_a_plan_has_a_seed_and_no_more_teacher_sets_than_seeds() -> None:
    assert Plan(num_seeds=5, num_teacher_sets=5).num_seeds == 5
    with pytest.raises(ConfigError):
        Plan(num_seeds=2, num_teacher_sets=3)
