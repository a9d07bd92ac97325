"""A whole run from the command line with heads that want to know of labels, then its verbs."""

import csv
import io
import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from cpsd.cli import main
from cpsd.evaluation.prediction_files import read_predictions
from cpsd.graph import LabelGraph
from cpsd.models.heads.gcn import re_weighted_adjacency
from cpsd.partition import read_partition
from cpsd.run_predictions import predictions_file

SECTIONS = {
    "gcn": ["--model.gcn.hidden", "8", "--model.gcn.threshold", "0.2"],
    "ctran": ["--model.ctran.width", "8", "--model.ctran.heads", "2", "--model.ctran.layers", "1"],
}
WORDS = ("red", "blue", *map(str, range(10)))


@pytest.fixture
def embeddings(tmp_path: Path) -> Path:
    """Word vectors for inks and digits."""
    numbers = np.random.default_rng(0).normal(size=(len(WORDS), 4)).round(3).tolist()
    lines = [f"{word} {' '.join(map(str, row))}" for word, row in zip(WORDS, numbers, strict=True)]
    path = tmp_path / "vectors.txt"
    path.write_text("\n".join([f"{len(WORDS)} 4", *lines]))
    return path


@pytest.mark.parametrize("head", ["gcn", "ctran"])
def test_a_run_is_evaluated_and_predicts(
    head: str,
    quick: list[str],
    digits: Path,
    embeddings: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "run"
    arguments = [
        "run", *quick, str(out), "--model.head", head, *SECTIONS[head],
        "--model.label_embeddings", str(embeddings), "--model.label_embedding_width", "4",
        "--training.epochs", "1", "--teachers.epochs", "1", "--distillation.views", "1",
    ]  # fmt: skip
    assert main(arguments) == 0
    for name in ("baseline", "student", "teachers/co-occurrence/0", "teachers/dis-occurrence/1"):
        assert json.loads((out / name / "model.json").read_text())["model"]["head"] == head
    if head == "gcn":
        assert_every_predictor_has_its_own_graph(out)
    assert_the_files_content_is_an_input(arguments, embeddings, capsys)
    # What the file said is saved with the weights: from here on nothing needs it.
    embeddings.unlink()
    assert_evaluation_comes_to_the_runs_scores(out, digits, tmp_path / "scores")
    assert_prediction_is_that_of_the_evaluation(out, digits, capsys)
    assert_only_ctran_can_be_told(head, out, digits, capsys)


def assert_only_ctran_can_be_told(
    head: str, out: Path, digits: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    picture = str(digits.parent / "images" / "test-00003.jpg")
    predict = ["predict", str(out), picture, "--format", "csv", "--machine.workers", "0"]
    said = []
    for told in ([], ["--present", "red 3; blue 4"], ["--absent", "red 3;blue 4"]):
        capsys.readouterr()
        code = main([*predict, *told])
        shown = capsys.readouterr()
        assert code == (2 if told and head != "ctran" else 0)
        if code:
            assert "cannot be told which labels are known" in " ".join(shown.err.split())
        said.append(shown.out)
    if head == "ctran":
        assert len(set(said)) == 3
        assert main([*predict, "--present", "rde 3"]) == 2
        assert "Did you mean 'red 3'?" in " ".join(capsys.readouterr().err.split())


def assert_every_predictor_has_its_own_graph(out: Path) -> None:
    graph = LabelGraph.load(out / "label_graph.npz")
    expected = {"baseline": graph, "student": graph}
    for strategy in ("co-occurrence", "dis-occurrence"):
        partition = read_partition(out / "partitions" / f"{strategy}.json")
        for index, part in enumerate(partition.parts):
            expected[f"teachers/{strategy}/{index}"] = graph.select(np.array(part))
    for name, own in expected.items():
        found = load_file(out / name / "model.safetensors")["head.adjacency"]
        np.testing.assert_allclose(found, re_weighted_adjacency(own, 0.2, 0.2), atol=1e-6)


def assert_the_files_content_is_an_input(
    arguments: list[str], path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = path.read_text()
    path.write_text(before.replace("red ", "red 1", 1))
    capsys.readouterr()
    assert main(arguments) == 2
    message = " ".join(capsys.readouterr().err.split())
    assert "baseline, teachers/co-occurrence" in message
    path.write_text(before)


def assert_evaluation_comes_to_the_runs_scores(out: Path, digits: Path, scores: Path) -> None:
    evaluate = ["evaluate", str(out), str(digits), "--split", "test", "--out", str(scores)]
    assert main([*evaluate, "--machine.workers", "0", "--machine.accelerator", "cpu"]) == 0
    again, first = (
        json.loads((folder / "test.json").read_text())["predictors"]["student"]
        for folder in (scores, out / "evaluation")
    )
    assert again == first


def assert_prediction_is_that_of_the_evaluation(
    out: Path, digits: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    picture = digits.parent / "images" / "test-00003.jpg"
    for predictor in ("student", "teachers/dis-occurrence"):
        known = read_predictions(predictions_file(out, predictor, "test"))
        (row,) = [i for i, name in enumerate(known.images) if name.endswith("test-00003.jpg")]
        capsys.readouterr()
        predict = ["predict", str(out), str(picture), "--predictor", predictor, "--format", "csv"]
        assert main([*predict, "--machine.workers", "0", "--machine.accelerator", "cpu"]) == 0
        header, found = csv.reader(io.StringIO(capsys.readouterr().out))
        assert header[2:] == list(known.labels)
        probabilities = 1 / (1 + np.exp(-known.logits[row]))
        np.testing.assert_allclose(np.array(found[2:], dtype=float), probabilities, atol=1e-4)
