"""Whether a training overfitted, from what it has left."""

from pathlib import Path

import pytest

from cpsd.training.learning_curve import LearningCurve, read_learning_curve


def model(folder: Path, raw: list[str], ema: list[str] | None = None) -> Path:
    """Write a model's metrics with these cells, an epoch each."""
    names = ["epoch", "loss", "validation_raw", *(["validation_ema"] if ema else [])]
    columns = [raw, *([ema] if ema else [])]
    rows = [[str(epoch), "0.5", *cells] for epoch, cells in enumerate(zip(*columns, strict=True))]
    (folder / "metrics.csv").write_text("\n".join(map(",".join, [names, *rows])) + "\n")
    return folder


def test_it_follows_the_weights_that_were_kept(tmp_path: Path) -> None:
    folder = model(tmp_path, ["0.3", "0.52", "0.2"], ["0.2", "0.5", "0.49"])
    assert read_learning_curve(folder) == LearningCurve(3, best_epoch=2, best=0.52, last=0.2)
    folder = model(tmp_path, ["0.3", "0.4", "0.2"], ["0.5", "0.3", "0.4"])
    assert read_learning_curve(folder) == LearningCurve(3, best_epoch=1, best=0.5, last=0.4)
    folder = model(tmp_path, ["0.1", "0.4", "0.4"])
    assert read_learning_curve(folder) == LearningCurve(3, best_epoch=2, best=0.4, last=0.4)


@pytest.mark.parametrize(
    ("last", "overfits"), [(0.52, False), (0.515, False), (0.509, True), (0.1, True)]
)
def test_a_point_less_at_the_end_is_overfitting(last: float, overfits: bool) -> None:
    curve = LearningCurve(24, best_epoch=8, best=0.52, last=last)
    assert curve.overfits == overfits
    assert curve.to_json()["lost"] == pytest.approx(0.52 - last)


def test_without_a_score_nothing_is_said(tmp_path: Path) -> None:
    assert read_learning_curve(tmp_path) is None
    assert read_learning_curve(model(tmp_path, ["nan", "nan"])) is None
    assert read_learning_curve(model(tmp_path, ["0.5", "nan"])) is None
    (tmp_path / "metrics.csv").write_text("epoch,loss\n0,0.5\n")
    assert read_learning_curve(tmp_path) is None
    (tmp_path / "metrics.csv").write_text("")
    assert read_learning_curve(tmp_path) is None
