"""The whole method on a small edition of the embedded data."""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import load_file
from sklearn.metrics import average_precision_score

from cpsd.cli import main
from cpsd.evaluation.prediction_files import read_predictions
from cpsd.run_predictions import predictions_file

STAGES = [
    "label-graph",
    "partitions/co-occurrence",
    "partitions/dis-occurrence",
    "baseline",
    "teachers/co-occurrence",
    "teachers/dis-occurrence",
    "soft-labels",
    "student",
    "predictions/baseline",
    "predictions/teachers/co-occurrence",
    "predictions/teachers/dis-occurrence",
    "predictions/student",
    "predictions/teachers",
    "evaluation",
    "calibration",
    "findings",
    "explanations",
]
PREDICTORS = [
    "baseline",
    "teachers/co-occurrence",
    "teachers/dis-occurrence",
    "student",
    "teachers",
]


def contents(folder: Path) -> dict[str, bytes]:
    """Return every file of a finished run that does not tell the time, or where the run lies."""
    timed = {"manifest.json", "report.html", "lock"}
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
        and path.name not in timed
        and "tensorboard" not in path.parts
        and ".stages" not in path.parts
    }


def test_a_run_leaves_what_the_run_directory_promises(finished: Path) -> None:
    for path in (
        "config.yaml",
        "labels.json",
        "label_graph.npz",
        "splits.csv",
        "partitions/co-occurrence.json",
        "partitions/dis-occurrence.json",
        "soft_labels/manifest.json",
        "evaluation/test.json",
        "evaluation/test-unseen.json",
        "student/temperatures.json",
        "findings/context-test.json",
        "findings/label-errors-validation.png",
        "explanations/gallery.json",
        "explanations/pointing-test-unseen.json",
    ):
        assert (finished / path).is_file(), path
    for name in ("baseline", "student", "teachers/co-occurrence/0", "teachers/dis-occurrence/1"):
        for file in ("model.safetensors", "model.json", "metrics.csv"):
            assert (finished / name / file).is_file(), (name, file)
    assert not list((finished / ".partial").iterdir())
    assert not list(finished.rglob("*.tmp"))
    assert not list(finished.rglob("last.ckpt"))


def test_the_manifest_says_what_every_stage_has_cost(finished: Path) -> None:
    manifest = json.loads((finished / "manifest.json").read_text())
    assert list(manifest["stages"]) == STAGES
    cost = {name: mark["cost"] for name, mark in manifest["stages"].items()}
    # 96 pictures, 2 epochs; validation: 40 pictures, raw and averaged weights, 2 epochs.
    assert cost["baseline"]["images_backward"] == 96 * 2
    assert cost["baseline"]["images_forward"] == 96 * 2 + 40 * 2 * 2
    assert (
        cost["teachers/co-occurrence"]["images_backward"] == 2 * cost["baseline"]["images_backward"]
    )
    assert cost["soft-labels"]["images_forward"] == 96 * 2 * 4
    # 40 validation and twice 32 test pictures; an ensemble has two teachers.
    predicted = {name: cost[f"predictions/{name}"]["images_forward"] for name in PREDICTORS}
    assert list(predicted.values()) == [104, 208, 208, 104, 0]
    assert cost["evaluation"]["images_forward"] == 0
    assert all(c["seconds"] >= 0 for c in cost.values())
    assert all(c["peak_memory"] > 2**20 for c in cost.values())


def test_the_manifest_says_what_every_stage_is_in_plain_trainings(finished: Path) -> None:
    manifest = json.loads((finished / "manifest.json").read_text())
    stages = manifest["stages"]
    flops = {
        name: mark["cost"]["flops_forward"] + mark["cost"]["flops_backward"]
        for name, mark in stages.items()
    }
    plain = flops["baseline"]
    assert stages["baseline"]["plain_trainings"] == 1
    # The student is trained as the baseline is, and reads the soft labels.
    assert flops["student"] == plain
    for name in STAGES:
        assert stages[name]["plain_trainings"] == pytest.approx(flops[name] / plain)
        assert stages[name]["plain_trainings_by"] == "FLOPs"
    # Two teachers with heads of fewer labels; the first convolution has no gradient of its input.
    assert 1.9 < stages["teachers/co-occurrence"]["plain_trainings"] < 2
    forward = {name: mark["cost"]["flops_forward"] for name, mark in stages.items()}
    backward = {name: mark["cost"]["flops_backward"] for name, mark in stages.items()}
    a_picture = forward["predictions/baseline"] / 104
    assert forward["baseline"] == pytest.approx((96 * 2 + 40 * 2 * 2) * a_picture)
    assert a_picture * 96 * 2 < backward["baseline"] < 2 * a_picture * 96 * 2
    assert forward["soft-labels"] == pytest.approx(
        96 * 2 * (forward["predictions/teachers/co-occurrence"] * 2) / 104, rel=0.02
    )
    assert forward["explanations"] > 0
    assert flops["evaluation"] == flops["findings"] == flops["label-graph"] == 0
    method = manifest["method"]
    assert "baseline" not in method["stages"], "no teacher is made of it"
    assert method["plain_trainings"] == pytest.approx(
        sum(stages[name]["plain_trainings"] for name in method["stages"])
    )
    assert manifest["data"]["pictures"] == {
        "train": 96,
        "validation": 40,
        "test": 32,
        "test-unseen": 32,
    }


def test_scores_are_those_of_the_predictions_beside_them(finished: Path) -> None:
    for split in ("test", "test-unseen"):
        board = json.loads((finished / "evaluation" / f"{split}.json").read_text())
        assert list(board["predictors"]) == PREDICTORS
        for name, scores in board["predictors"].items():
            predictions = read_predictions(predictions_file(finished, name, split))
            scored = [c for c in range(20) if (predictions.targets[:, c] == 1).any()]
            oracle = [
                average_precision_score(predictions.targets[:, c], predictions.logits[:, c])
                for c in scored
            ]
            assert scores["mAP"] == pytest.approx(np.mean(oracle), abs=1e-9)
            absent = [n for c, n in enumerate(predictions.labels) if c not in scored]
            assert scores["excluded_labels"] == absent


def test_teachers_together_are_the_mean_of_both_ensembles(finished: Path) -> None:
    logits = {
        name: read_predictions(predictions_file(finished, name, "test")).logits
        for name in ("teachers", "teachers/co-occurrence", "teachers/dis-occurrence")
    }
    mean = (logits["teachers/co-occurrence"] + logits["teachers/dis-occurrence"]) / 2
    np.testing.assert_allclose(logits["teachers"], mean, atol=1e-6)


def test_the_same_run_elsewhere_is_the_same_to_the_byte(
    finished: Path, quick: list[str], tmp_path: Path
) -> None:
    assert main(["run", *quick, str(tmp_path / "again")]) == 0
    first, second = contents(finished), contents(tmp_path / "again")
    assert list(first) == list(second)
    assert [name for name in first if first[name] != second[name]] == []


def test_a_finished_run_does_nothing_again(
    finished: Path, quick: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    before = {p: p.stat().st_mtime_ns for p in finished.rglob("*.safetensors")}
    assert main(["run", *quick, str(finished)]) == 0
    assert capsys.readouterr().out.count("done before, kept") == len(STAGES)
    assert {p: p.stat().st_mtime_ns for p in finished.rglob("*.safetensors")} == before


def test_teachers_one_after_another_are_the_teachers_together(
    finished: Path, quick: list[str], tmp_path: Path
) -> None:
    out = tmp_path / "single"
    assert main(["train", *quick, str(out), "--teachers.together", "false"]) == 0
    for part in ("0", "1"):
        place = Path("teachers", "dis-occurrence", part)
        together = load_file(finished / place / "model.safetensors")
        single = load_file(out / place / "model.safetensors")
        assert together.keys() == single.keys()
        for key, value in together.items():
            np.testing.assert_allclose(value, single[key], rtol=2e-3, atol=2e-4, err_msg=key)
        cards = [json.loads((r / place / "model.json").read_text()) for r in (finished, out)]
        assert cards[0]["training"]["epoch"] == cards[1]["training"]["epoch"]
    assert not (out / "student").exists()


def test_changed_settings_name_the_stages_and_touch_nothing(
    finished: Path, quick: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "copy"
    shutil.copytree(finished, out)
    before = contents(out)
    changed = ["run", *quick, str(out), "--distillation.weight", "0.7"]
    assert main(changed) == 2
    message = " ".join(capsys.readouterr().err.split())
    assert "already holds: student, predictions/student, evaluation, calibration, find" in message
    assert "--redo" in message
    assert contents(out) == before
    assert main([*changed, "--redo"]) == 0
    after = contents(out)
    different = {name.split("/")[0] for name in before if before[name] != after[name]}
    assert different == {
        *("config.yaml", "student", "predictions", "evaluation", "findings", "explanations")
    }


def test_an_earlier_verb_keeps_later_stages_in_the_manifest(
    finished: Path, quick: list[str], tmp_path: Path
) -> None:
    out = tmp_path / "copy"
    shutil.copytree(finished, out)
    assert main(["train", *quick, str(out)]) == 0
    assert list(json.loads((out / "manifest.json").read_text())["stages"]) == STAGES


def test_a_dry_run_prints_settings_and_stages_and_writes_nothing(
    quick: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["run", *quick, str(tmp_path / "new"), "--dry-run"]) == 0
    printed = capsys.readouterr().out
    assert "epochs: 2" in printed
    assert all(stage in printed for stage in STAGES)
    assert not (tmp_path / "new").exists()


def test_unlabelled_pictures_take_part_in_distillation_only(
    quick: list[str], digits: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "unlabelled"
    folder.mkdir()
    rows = [line.split(",") for line in digits.read_text().splitlines()[1:]]
    names = [row[0] for row in rows if row[-1] == "test"][:16]
    for name in names:
        shutil.copy(digits.parent / name, folder / os.path.basename(name))  # noqa: PTH119
    odd = os.fsdecode(b"not utf-8 \xff.jpg")
    (folder / os.path.basename(names[0])).rename(folder / odd)  # noqa: PTH119
    out = tmp_path / "run"
    assert main(["run", *quick, str(out), "--data.unlabelled", str(folder)]) == 0
    stages = json.loads((out / "manifest.json").read_text())["stages"]
    assert stages["baseline"]["cost"]["images_backward"] == 96 * 2
    assert stages["student"]["cost"]["images_backward"] == (96 + 16) * 2
    assert stages["soft-labels"]["cost"]["images_forward"] == (96 + 16) * 2 * 4
    assert os.fsencode(odd) in (out / "splits.csv").read_bytes()


def test_students_of_several_seeds_share_teachers(
    finished: Path, quick: list[str], tmp_path: Path
) -> None:
    """With ``teachers.seed`` at the first run's seed, only baseline and student differ."""
    out = tmp_path / "second"
    shutil.copytree(finished, out)
    settings = ["--seed", "1", "--teachers.seed", "0"]
    assert main(["run", *quick, str(out), *settings]) == 2
    assert main(["run", *quick, str(out), *settings, "--redo"]) == 0
    for name in ("teachers/co-occurrence/0", "teachers/dis-occurrence/1"):
        files = [run / name / "model.safetensors" for run in (finished, out)]
        assert files[0].stat().st_mtime_ns == files[1].stat().st_mtime_ns  # kept
    for name in ("baseline", "student"):
        weights = [load_file(run / name / "model.safetensors") for run in (finished, out)]
        assert any((weights[0][key] != weights[1][key]).any() for key in weights[0])
