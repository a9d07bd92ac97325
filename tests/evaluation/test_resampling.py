import math
import warnings

import numpy as np
import pytest
import sklearn.metrics
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from cpsd.errors import DataError
from cpsd.evaluation import resampling
from cpsd.evaluation.metrics import evaluate
from cpsd.evaluation.resampling import Weights, draw_image_weights, resampled_metrics
from cpsd.labels import LabelSpace, Targets

Floats = NDArray[np.float32]


def random_scores(
    seed: int, *, shape: tuple[int, int] = (50, 6), levels: int = 0, unknown: float = 0.0
) -> tuple[Floats, Targets]:
    """Scores that rank better than chance; with ``levels`` many distinct values, so ties."""
    rng = np.random.default_rng(seed)
    targets = (rng.random(shape) < np.linspace(0.02, 0.5, shape[1])).astype(np.int8)
    scores = (rng.standard_normal(shape) + targets - 0.5).astype(np.float32)
    if levels:
        scores = (np.round(scores * levels) / levels).astype(np.float32)
    targets[rng.random(shape) < unknown] = -1
    return scores, targets


def label_space(num_labels: int) -> LabelSpace:
    return LabelSpace(tuple(f"label {c}" for c in range(num_labels)))


def of_repeated_rows(
    scores: Floats, targets: Targets, weights: Weights, threshold: float
) -> tuple[list[float], list[list[float]]]:
    """The metrics of each resample, its images written out as often as they were drawn."""
    firsts, per_label = [], []
    for weights_N in weights.T:
        rows = np.repeat(np.arange(len(scores)), weights_N)
        metrics = evaluate(
            scores[rows], targets[rows], label_space(scores.shape[1]), threshold=threshold
        )
        firsts.append([metrics.mAP, metrics.CF1, metrics.OF1])
        per_label.append(list(metrics.average_precision.values()))
    return np.transpose(firsts).tolist(), per_label


@pytest.mark.parametrize("levels", [0, 1, 4])  # 0: no ties; 1: hardly anything but ties
@pytest.mark.parametrize("unknown", [0.0, 0.3])
@pytest.mark.parametrize("threshold", [0.5, 0.7])
def test_equals_the_metrics_of_repeated_rows(levels: int, unknown: float, threshold: float) -> None:
    scores, targets = random_scores(levels, levels=levels, unknown=unknown)
    targets[:, 3] = np.minimum(targets[:, 3], 0)  # no positive
    targets[:, 4] = 1  # nothing but positives
    targets[:, 5] = -1  # nothing known
    targets[7, 2], targets[:7, 2], targets[8:, 2] = 1, 0, 0  # one positive: often not drawn
    weights = draw_image_weights(len(scores), 40, seed=levels)
    found = resampled_metrics(scores, targets, weights, threshold=threshold)
    firsts, per_label = of_repeated_rows(scores, targets, weights, threshold)
    for metric, expected in zip((found.mAP, found.CF1, found.OF1), firsts, strict=True):
        assert metric.tolist() == pytest.approx(expected, rel=1e-12)
    np.testing.assert_allclose(found.average_precision, per_label, rtol=2e-7)
    assert np.isnan(found.average_precision[:, 2]).any()
    assert np.isnan(found.average_precision[:, [3, 5]]).all()


@pytest.mark.parametrize("levels", [0, 3])
def test_average_precision_equals_scikit_learn_with_sample_weights(levels: int) -> None:
    scores, targets = random_scores(11, shape=(80, 4), levels=levels, unknown=0.1)
    weights = draw_image_weights(80, 20, seed=5)
    found = resampled_metrics(scores, targets, weights)
    for c, (z, y) in enumerate(zip(scores.T, targets.T, strict=True)):
        known = y != -1
        for r, w in enumerate(weights.T):
            if not w[y == 1].any():
                assert math.isnan(found.average_precision[r, c])
                continue
            expected = sklearn.metrics.average_precision_score(
                y[known], z[known], sample_weight=w[known].astype(float)
            )
            assert found.average_precision[r, c] == pytest.approx(expected, rel=2e-7)


def test_probabilities_and_logits_score_alike() -> None:
    scores, targets = random_scores(2)
    weights = draw_image_weights(50, 10, seed=0)
    logits = scores.astype(np.float64)
    of_logits = resampled_metrics(logits, targets, weights, threshold=0.7)
    of_probabilities = resampled_metrics(
        1 / (1 + np.exp(-logits)), targets, weights, threshold=0.7, kind="probabilities"
    )
    for name in ("mAP", "CF1", "OF1"):
        np.testing.assert_array_equal(getattr(of_logits, name), getattr(of_probabilities, name))


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 9))
def test_each_image_once_is_the_metric_itself(seed: int, num_images: int) -> None:
    scores, targets = random_scores(seed, shape=(num_images, 3), levels=2, unknown=0.2)
    once = np.ones((num_images, 1), np.uint8)
    found = resampled_metrics(scores, targets, once)
    metrics = evaluate(scores, targets, label_space(3))
    expected = [metrics.mAP, metrics.CF1, metrics.OF1]
    assert [found.mAP[0], found.CF1[0], found.OF1[0]] == pytest.approx(
        expected, rel=1e-12, nan_ok=True
    )


def test_small_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    scores, targets = random_scores(3, levels=3, unknown=0.2)
    weights = draw_image_weights(50, 70, seed=1)
    whole = resampled_metrics(scores, targets, weights)
    monkeypatch.setattr(resampling, "_FEWEST_RESAMPLES", 3)
    for num_bytes in (4 * 50 * 20, 1):  # 20 resamples and 6 labels; 3 and 1
        monkeypatch.setattr(resampling, "_BLOCK_BYTES", num_bytes)
        blocks = resampled_metrics(scores, targets, weights)
        np.testing.assert_array_equal(blocks.mAP, whole.mAP)
        np.testing.assert_array_equal(blocks.CF1, whole.CF1)
        np.testing.assert_array_equal(blocks.OF1, whole.OF1)
        np.testing.assert_array_equal(blocks.average_precision, whole.average_precision)


def test_weights_are_multinomial() -> None:
    num_images, num_resamples = 20, 4000
    weights = draw_image_weights(num_images, num_resamples, seed=3)
    assert weights.dtype == np.uint8
    np.testing.assert_array_equal(weights.sum(axis=0), num_images)
    # A count is binomial (N, 1/N): mean 1, variance 1 - 1/N; two counts: covariance -1/N.
    counts = weights.astype(float)
    error = 5 / math.sqrt(num_resamples)
    assert counts.mean(axis=1) == pytest.approx(np.ones(num_images), abs=error)
    covariance = np.cov(counts)
    expected = np.eye(num_images) - 1 / num_images
    assert np.abs(covariance - expected).max() < 3 * error


def test_seeds_decide_the_weights_and_more_resamples_begin_alike() -> None:
    few, many = draw_image_weights(30, 5, seed=9), draw_image_weights(30, 130, seed=9)
    np.testing.assert_array_equal(many[:, :5], few)
    assert (draw_image_weights(30, 5, seed=10) != few).any()
    assert len({weights.tobytes() for weights in many.T}) == 130


def test_nothing_present_is_nan_and_warns_not() -> None:
    weights = draw_image_weights(4, 3, seed=0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = resampled_metrics(np.zeros((4, 2)), np.zeros((4, 2), np.int8), weights)
    assert np.isnan([found.mAP, found.CF1, found.OF1]).all()


@pytest.mark.parametrize(
    ("scores", "weights", "error", "words"),
    [
        (np.full((4, 2), np.nan), np.ones((4, 1), np.uint8), DataError, "not finite"),
        (np.zeros((4, 3)), np.ones((4, 1), np.uint8), ValueError, "do not fit targets"),
        (np.zeros((4, 2)), np.ones((3, 1), np.uint8), ValueError, "do not fit 4 images"),
        (np.zeros((4, 2)), np.ones(4, np.uint8), ValueError, "do not fit 4 images"),
    ],
)
def test_what_does_not_fit_is_refused(
    scores: Floats, weights: Weights, error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        resampled_metrics(scores, np.zeros((4, 2), np.int8), weights)


def test_no_image_is_refused() -> None:
    with pytest.raises(ValueError, match="both must be >= 1"):
        draw_image_weights(0, 5, seed=0)
    with pytest.raises(DataError, match="the split is empty"):
        resampled_metrics(np.zeros((0, 2)), np.zeros((0, 2), np.int8), np.zeros((0, 3), np.uint8))
