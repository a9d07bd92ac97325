"""Curves of labels: exact where they are kept, and small."""

import base64
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.metrics import precision_recall_curve, precision_recall_fscore_support

from cpsd.evaluation.prediction_files import open_predictions, write_predictions
from cpsd.evaluation.predictions import Predictions
from cpsd.labels import LabelSpace
from cpsd.report.page import curves
from cpsd.report.page.curves import (
    RECALL_POINTS,
    THRESHOLDS,
    CurveSet,
    curve_set,
    encode,
    gather_curves,
)
from cpsd.report.page.run_files import RunFiles
from page_run import make_run


def decode(text: str) -> tuple[list[int], list[int]]:
    """Read LEB128 steps with arithmetic of Python's own."""
    numbers: list[int] = []
    digits: list[int] = []
    for byte in base64.b64decode(text):
        digits.append(byte % 128)
        if byte < 128:
            numbers.append(sum(digit * 128**place for place, digit in enumerate(digits)))
            digits = []
    return np.cumsum(numbers[::2]).tolist(), np.cumsum(numbers[1::2]).tolist()


def predictions(num_images: int, seed: int = 0) -> Predictions:
    generator = np.random.default_rng(seed)
    targets = (generator.random((num_images, 3)) < [0.3, 0.02, 0.0]).astype(np.int8)
    logits = (generator.normal(size=(num_images, 3)) + targets).astype(np.float32)
    logits[:, 0] = logits[:, 0].round(1)  # ties
    targets[generator.random(num_images) < 0.1, 0] = -1
    images = tuple(f"{row}.jpg" for row in range(num_images))
    return Predictions(images, logits, targets, LabelSpace(("a", "b", "none")), "student")


def kept_curves(found: Predictions, folder: Path) -> CurveSet:
    """Return the curves of predictions that lie in a file."""
    path = folder / f"{len(found.images)}.parquet"
    write_predictions(path, found)
    return curve_set(open_predictions(path), "test")


@given(st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 10**6)), min_size=1, max_size=90))
def test_counts_survive_being_encoded(steps: list[tuple[int, int]]) -> None:
    predicted, hits = np.cumsum(np.array(steps, dtype=np.int64), axis=0).T
    assert decode(encode(predicted, hits)) == (predicted.tolist(), hits.tolist())


def test_scores_at_thresholds_are_those_of_scikit_learn(tmp_path: Path) -> None:
    found = predictions(400)
    kept = kept_curves(found, tmp_path)
    for c in range(2):
        known = found.targets[:, c] >= 0
        targets = found.targets[known, c]
        probabilities = 1 / (1 + np.exp(-found.logits[known, c].astype(np.float64)))
        predicted, hits = decode(kept.at_thresholds[c])
        assert kept.images[c] == int(known.sum())
        assert kept.positives[c] == int(targets.sum())
        for index in range(3, len(THRESHOLDS), 9):
            chosen = probabilities >= THRESHOLDS[index] - 1e-7
            precision, recall, f1, _ = precision_recall_fscore_support(
                targets, chosen, average="binary", zero_division=0
            )
            count, right = predicted[index], hits[index]
            assert right / max(count, 1) == pytest.approx(precision)
            assert right / kept.positives[c] == pytest.approx(recall)
            assert 2 * right / (count + kept.positives[c]) == pytest.approx(f1)


def test_points_over_recall_lie_on_the_curve_of_scikit_learn(tmp_path: Path) -> None:
    found = predictions(900, seed=1)
    kept = kept_curves(found, tmp_path)
    known = found.targets[:, 0] >= 0
    precision, recall, _ = precision_recall_curve(found.targets[known, 0], found.logits[known, 0])
    exact = {(round(p, 9), round(r, 9)) for p, r in zip(precision, recall, strict=True)}
    predicted, hits = decode(kept.at_recalls[0])
    assert len(hits) == RECALL_POINTS
    assert hits[-1] == kept.positives[0]
    for count, right in zip(predicted, hits, strict=True):
        point = (round(right / count, 9), round(right / kept.positives[0], 9))
        assert point in exact


def test_a_label_without_positives_has_no_points_over_recall(tmp_path: Path) -> None:
    kept = kept_curves(predictions(50), tmp_path)
    assert kept.positives[2] == 0
    assert decode(kept.at_recalls[2]) == ([], [])
    assert decode(kept.at_thresholds[2])[1] == [0] * len(THRESHOLDS)


def test_the_size_hardly_depends_on_the_number_of_pictures(tmp_path: Path) -> None:
    many, few = (kept_curves(predictions(size), tmp_path).size for size in (20_000, 500))
    assert many < 2 * few


def test_predictors_shown_last_give_way_where_room_is_short(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = RunFiles(make_run(tmp_path_factory.mktemp("run"), findings=False))
    whole = gather_curves(files, files.boards())
    assert whole.left_out == []
    one = sum(kept.size for kept in whole.sets if kept.predictor == "baseline")
    monkeypatch.setattr(curves, "MOST_BYTES", int(2.5 * one))
    some = gather_curves(files, files.boards())
    assert {kept.predictor for kept in some.sets} == {"baseline", "student"}
    assert some.left_out == ["teachers", "teachers/co-occurrence", "teachers/dis-occurrence"]


def test_predictions_that_are_gone_have_no_curves(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    run = make_run(tmp_path_factory.mktemp("run"), findings=False, splits=("test",))
    (run / "predictions" / "student" / "test.parquet").unlink()
    files = RunFiles(run)
    assert "student" not in {kept.predictor for kept in gather_curves(files, files.boards()).sets}


def test_curves_come_from_the_file_of_their_split(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    run = make_run(tmp_path_factory.mktemp("run"), findings=False)
    labels = LabelSpace(("cat",))
    logits: NDArray[np.float32] = np.zeros((2, 1), np.float32)
    targets: NDArray[np.int8] = np.ones((2, 1), np.int8)
    write_predictions(
        run / "predictions" / "baseline" / "test.parquet",
        Predictions(("a", "b"), logits, targets, labels, "baseline"),
    )
    files = RunFiles(run)
    first = gather_curves(files, files.boards()).sets[0]
    assert (first.split, first.labels, first.positives) == ("test", ("cat",), [2])
