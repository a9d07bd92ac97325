"""Runs whose student learns from the baseline too, beside the teachers of parts."""

import csv
import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from cpsd.arguments import parse, run_config
from cpsd.cli import main
from cpsd.config import RunConfig
from cpsd.data.loading import inference_loader
from cpsd.data.records import TRAIN
from cpsd.data.sources import load_records
from cpsd.models.classifier import Classifier
from cpsd.models.trunk import trunk_of
from cpsd.run_models import RunModels
from cpsd.trained import load_trained
from cpsd.training.soft_labels import SoftLabelStore

SETTINGS = ["--teachers.shared_stages", "2", "--distillation.baseline", "0.25"]
PICTURES, VIEWS = 96, 2


@pytest.fixture(scope="module")
def taught(quick: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run whose teachers stand on two stages of a baseline that teaches beside them."""
    out = tmp_path_factory.mktemp("runs") / "taught"
    assert main(["run", *quick, str(out), *SETTINGS]) == 0
    return out


@pytest.fixture
def config(taught: Path, quick: list[str]) -> RunConfig:
    return run_config(parse(["run", *quick, str(taught), *SETTINGS])[1])


def stages_of(run: Path) -> dict[str, Any]:
    stages: dict[str, Any] = json.loads((run / "manifest.json").read_text())["stages"]
    return stages


def test_the_baselines_logits_are_stored_after_those_of_the_ensembles(
    taught: Path, config: RunConfig
) -> None:
    store = SoftLabelStore(taught / "soft_labels")
    assert store.strategies == ("co-occurrence", "dis-occurrence", "baseline")
    records, _ = load_records(config.data, seed=config.seed)
    rows = records.indices(TRAIN)
    network = load_trained(taught, "baseline").predictor.eval()
    keys = [(int(row), 1) for row in rows]
    for batch in inference_loader(
        records, keys, config.image, batch_size=32, seed=config.seed, workers=0
    ):
        with torch.no_grad():
            expected = network(batch.images.float() / 255)
        stored = store(batch.images, batch.rows, view_index=1)[:, 2]
        torch.testing.assert_close(stored, expected, rtol=2e-3, atol=2e-3)  # float16, folded


def test_it_looks_at_pictures_through_the_teachers_trunk(taught: Path, config: RunConfig) -> None:
    records, _ = load_records(config.data, seed=config.seed)
    teaching = RunModels(config, records, taught).teaching()
    networks = [m for predictor in teaching.values() for m in predictor.modules()]
    networks = [module for module in networks if isinstance(module, Classifier)]
    assert len(networks) == 2 + 2 + 1
    trunks = {trunk_of(network) for network in networks}
    assert len(trunks) == 1
    assert None not in trunks


def test_it_costs_a_further_teachers_look_at_each_view_and_its_own_training(taught: Path) -> None:
    stages = stages_of(taught)
    assert stages["soft-labels"]["cost"]["images_forward"] == PICTURES * VIEWS * 5
    manifest = json.loads((taught / "manifest.json").read_text())
    method = manifest["method"]
    assert "teachers-start" in method["stages"]
    assert "baseline" not in method["stages"], "once"
    assert method["plain_trainings"] == pytest.approx(
        sum(stages[name]["plain_trainings"] for name in method["stages"])
    )


def test_a_comparison_counts_it_where_it_teaches_one_strategys_student(
    digits: Path, tmp_path: Path
) -> None:
    out = tmp_path / "compared"
    assert main([
        "compare", str(digits), "--config", "demo", "--image.size", "16", "--partition.parts", "2",
        "--training.epochs", "1", "--teachers.epochs", "1", "--distillation.views", "1",
        "--machine.workers", "0", "--machine.accelerator", "cpu", "--out", str(out), *SETTINGS,
        "--seeds", "1", "--arms", "psd-c", "--resamples", "20",
    ]) == 0  # fmt: skip
    rows = {
        row["name"]: row["cost"] for row in json.loads((out / "compare.json").read_text())["rows"]
    }
    for arm, strategies in (
        ("cpsd", ("co-occurrence", "dis-occurrence")),
        ("psd-c", ("co-occurrence",)),
    ):
        took = {name: stage["cost"] for name, stage in stages_of(out / "runs" / arm / "0").items()}
        of_students = ["teachers-start", "student", *(f"teachers/{name}" for name in strategies)]
        looked = took["soft-labels"]["images_forward"] * (2 * len(strategies) + 1) // 5
        assert rows[arm]["images_forward"] == looked + sum(
            took[name]["images_forward"] for name in of_students
        )


def test_the_students_loss_names_it(taught: Path) -> None:
    with (taught / "student" / "metrics.csv").open(newline="") as stream:
        epochs = list(csv.DictReader(stream))
    assert len(epochs) == 2
    names = ("co_occurrence", "dis_occurrence", "baseline")
    terms = np.array([[float(epoch[name]) for name in names] for epoch in epochs])
    known = np.array([float(epoch["classification"]) for epoch in epochs])
    # The recipe's weight and alpha are a half each.
    expected = 0.5 * known + 0.5 * (terms @ [0.375, 0.375, 0.25])
    np.testing.assert_allclose([float(epoch["loss"]) for epoch in epochs], expected, rtol=1e-5)


def test_the_page_says_that_it_teaches(taught: Path, finished: Path) -> None:
    pages = [" ".join((run / "report.html").read_text().split()) for run in (taught, finished)]
    words = "of the teacher ensembles and of the baseline (their share of the objective:"
    assert [words in page for page in pages] == [True, False]
    told = re.sub("<[^>]*>", "", pages[0][pages[0].index(words) :])
    assert re.search(r"of that, the baseline's: 0\.25\S*, and of the rest, the first", told)


def test_only_what_the_student_learns_from_is_made_anew_when_it_comes_to_teach(
    finished: Path, quick: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "more"
    shutil.copytree(finished, out)
    assert main(["run", *quick, str(out), "--distillation.baseline", "0.25"]) == 2
    message = " ".join(capsys.readouterr().err.split())
    assert "soft-labels, student" in message
    assert "teachers/co-occurrence," not in message.replace("predictions/teachers", "")


def test_a_share_of_all_or_less_than_nothing_is_refused(
    quick: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for share in ("1", "-0.5"):
        assert main(["run", *quick, str(tmp_path / "out"), "--distillation.baseline", share]) == 2
        assert "distillation.baseline is" in capsys.readouterr().err
