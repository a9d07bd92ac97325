from dataclasses import replace
from typing import Literal

import numpy as np
import pytest
import torch
from sklearn.metrics import average_precision_score
from torch import nn

import tiny
from cpsd.computing import device_of
from cpsd.config import RunConfig, StudentConfig, TeachersConfig
from cpsd.data.picture_dataset import PictureDataset
from cpsd.data.records import TEST, TRAIN, VALIDATION, Records
from cpsd.data.views import PLAIN
from cpsd.errors import ConfigError, DataError, ModelError, TrainingError
from cpsd.labels import UNKNOWN, LabelSpace
from cpsd.method import (
    distill,
    evaluate,
    fit,
    mean_average_precision,
    predict,
    student_config,
    teacher_config,
)
from cpsd.models.ensemble import MeanPredictor, TeacherEnsemble
from cpsd.partition import LabelPartition


def test_student_that_ignores_its_teachers_is_the_baseline(records: Records) -> None:
    config = tiny.settings(epochs=3, ema_decay=0.9, clip_norm=1.0)
    config = replace(config, distillation=replace(config.distillation, weight=0.0))
    student, baseline = tiny.network(dropout=0.3), tiny.network(dropout=0.3)
    distilled = distill(student, tiny.teachers(), records, config)
    fitted = fit(baseline, records, config)
    assert distilled.best == fitted.best
    tiny.assert_same(tiny.weights(student), tiny.weights(baseline))


def test_student_follows_its_teachers(records: Records) -> None:
    # With all the weight on distillation it comes nearer to them than it was.
    config = tiny.settings(epochs=8, learning_rate=0.05)
    config = replace(config, distillation=replace(config.distillation, weight=1.0))
    teacher, student = tiny.ensemble(), tiny.network()
    rows = records.indices(TEST)
    wanted = predict(teacher, records, rows, config)
    before = np.square(predict(student, records, rows, config) - wanted).mean()
    distill(student, {"co-occurrence": teacher}, records, config)
    after = np.square(predict(student, records, rows, config) - wanted).mean()
    assert after < before / 2


def test_unlabelled_pictures_teach_the_student(records: Records) -> None:
    """Pictures of which nothing is known add the distillation terms, and only those."""
    targets = records.targets.copy()
    unlabelled = records.indices(TRAIN)[::2]
    targets[unlabelled] = UNKNOWN
    partly = replace(records, targets=targets)
    without = partly.with_splits(
        ["unused" if row in unlabelled else split for row, split in enumerate(records.splits)]
    )
    config = tiny.settings()
    with_them, without_them = tiny.network(), tiny.network()
    cost = distill(with_them, tiny.teachers(), partly, config).cost
    fewer = distill(without_them, tiny.teachers(), without, config).cost
    assert cost.images_backward == 2 * tiny.NUM_TRAIN
    assert fewer.images_backward == tiny.NUM_TRAIN
    change = with_them.get_parameter("linear.weight") - without_them.get_parameter("linear.weight")
    assert change.abs().max() > 1e-3


def test_pictures_without_any_label_are_enough_to_distil(records: Records) -> None:
    targets = records.targets.copy()
    targets[records.indices(TRAIN)] = UNKNOWN
    nothing_known = replace(records, targets=targets)
    config = tiny.settings()
    only = replace(config, distillation=replace(config.distillation, weight=1.0))
    raw, raw_only = tiny.RawWeights(), tiny.RawWeights()
    distill(tiny.network(), tiny.teachers(), nothing_known, config, callbacks=[raw])
    distill(tiny.network(), tiny.teachers(), records, only, callbacks=[raw_only])
    # Half a loss without its classification term; Adam does not mind the factor, but for its eps.
    tiny.assert_close(raw.after_epoch[-1][0], raw_only.after_epoch[-1][0], atol=1e-4)
    with pytest.raises(DataError, match="no labelled picture in the split 'train'"):
        fit(tiny.network(), nothing_known, config)


def test_one_epoch_costs_its_pictures(records: Records) -> None:
    cost = fit(tiny.ensemble(), records, tiny.settings(epochs=1, ema_decay=0.9)).cost
    assert cost.images_backward == 2 * tiny.NUM_TRAIN, "once for each of two teachers"
    assert cost.images_forward == 2 * tiny.NUM_TRAIN + 4 * tiny.NUM_VALIDATION
    assert cost.seconds > 0


@pytest.mark.parametrize(
    ("names", "differ"),
    [
        (("green", "red", "blue", "bright"), "'green' and 'red'"),  # the same, in another order
        (("red", "green", "blue", "bright", "dark"), "'dark' and None"),
        (("red", "green", "blue", "shiny"), "'shiny' and 'bright'"),
    ],
)
def test_an_ensemble_over_other_labels_is_refused(
    names: tuple[str, ...], differ: str, records: Records
) -> None:
    labels = LabelSpace(names)
    parts = ((0, 3), tuple(c for c in range(len(names)) if c not in (0, 3)))
    partition = LabelPartition("co-occurrence", labels, parts)
    ensemble = TeacherEnsemble(partition, [tiny.network(labels.select(part)) for part in parts])
    config = tiny.settings(epochs=1)
    message = f"co-occurrence ensemble has {len(names)} labels .* differ are {differ}"
    with pytest.raises(ModelError, match=message):
        fit(ensemble, records, config)
    with pytest.raises(ModelError, match=message):
        distill(tiny.network(), {"co-occurrence": ensemble}, records, config)
    with pytest.raises(ModelError, match=message):
        evaluate(MeanPredictor([ensemble]), records, config)


def test_teachers_without_logits_for_every_label_are_refused(records: Records) -> None:
    teacher = tiny.network(LabelSpace(("red", "green", "blue", "bright", "dark")))
    message = r"random teachers give logits of shape \(8, 5\) where \(8, 4\)"
    with pytest.raises(ModelError, match=message):
        distill(tiny.network(), {"random": teacher}, records, tiny.settings(epochs=1))
    with pytest.raises(ModelError, match="no teachers to learn from"):
        distill(tiny.network(), {}, records, tiny.settings(epochs=1))


def test_a_baseline_that_has_a_share_has_to_be_there_and_last(records: Records) -> None:
    config = tiny.settings(epochs=1)
    config = replace(config, distillation=replace(config.distillation, baseline=0.25))
    others = tiny.teachers()
    for teachers in (others, {"baseline": tiny.network(), **others}):
        with pytest.raises(ModelError, match=r"distillation\.baseline is 0\.25.*not the baseline"):
            distill(tiny.network(), teachers, records, config)
    distill(tiny.network(), {**others, "baseline": tiny.network()}, records, config)


@pytest.mark.parametrize("split", [TRAIN, VALIDATION])
def test_split_without_pictures_is_refused(split: str, records: Records) -> None:
    splits = ["unused" if name == split else name for name in records.splits]
    with pytest.raises(DataError, match=f"'{split}'"):
        fit(tiny.network(), records.with_splits(splits), tiny.settings())


def test_evaluation_without_pictures_is_refused(records: Records) -> None:
    with pytest.raises(DataError, match="'test-far'"):
        evaluate(tiny.network(), records, tiny.settings(), split="test-far")


def test_predictions_are_in_the_order_of_the_rows(records: Records) -> None:
    config = tiny.settings(workers=2)
    rows = np.array([7, 0, 39, 12, 3, 20, 21, 22, 23], dtype=np.intp)
    network = tiny.network()
    logits = predict(network, records, rows, config)
    pictures = PictureDataset(records, config.image, seed=0)
    for row, found in zip(rows, logits, strict=True):
        image = pictures[int(row), PLAIN][0].float()[None] / 255
        with torch.no_grad():
            expected = tiny.network().eval()(image)[0].numpy()
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    assert network.training, "the mode is as it was"


def test_training_learns_and_evaluation_is_that_of_scikit_learn(records: Records) -> None:
    config = tiny.settings(epochs=15, learning_rate=0.05)
    network = tiny.network()
    before = evaluate(network, records, config)
    fit(network, records, config)
    after = evaluate(network, records, config)
    assert after.mAP > before.mAP
    rows = records.indices(TEST)
    logits, targets = predict(network, records, rows, config), records.targets[rows]
    scores = [
        average_precision_score(targets[:, c], logits[:, c])
        for c in range(4)
        if targets[:, c].any()
    ]
    assert after.mAP == pytest.approx(np.mean(scores))
    assert mean_average_precision(logits, targets) == pytest.approx(np.mean(scores))


def test_teachers_and_student_may_differ_in_epochs_and_rate() -> None:
    config = replace(
        tiny.settings(epochs=5, learning_rate=0.1),
        teachers=TeachersConfig(epochs=2),
        student=StudentConfig(learning_rate=0.3),
    )
    teachers, student = teacher_config(config).training, student_config(config).training
    assert (teachers.epochs, teachers.learning_rate) == (2, 0.1)
    assert (student.epochs, student.learning_rate) == (5, 0.3)
    assert teachers.batch_size == student.batch_size == config.training.batch_size


def test_auto_takes_what_there_is_and_cpu_is_always_there() -> None:
    there = torch.accelerator.current_accelerator(check_available=True)
    assert device_of(_on("auto")) == (there or torch.device("cpu"))
    assert device_of(_on("cpu")).type == "cpu"


@pytest.mark.parametrize("name", ["cuda", "mps"])
def test_an_accelerator_that_is_not_there_is_named(name: Literal["cuda", "mps"]) -> None:
    there = torch.accelerator.current_accelerator(check_available=True)
    if there is not None and there.type == name:
        pytest.skip(f"this machine has {name}")
    with pytest.raises(ConfigError, match=f"machine.accelerator is '{name}'"):
        device_of(_on(name))


def _on(name: Literal["auto", "cpu", "cuda", "mps"]) -> RunConfig:
    config = tiny.settings()
    return replace(config, machine=replace(config.machine, accelerator=name))


class OneLogitTooMany(nn.Module):
    def __init__(self, num_labels: int) -> None:
        super().__init__()
        self.linear = nn.Linear(3, num_labels + 1)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.linear(images.mean(dim=(2, 3)))
        return logits


def test_a_network_with_logits_of_another_shape_is_named(records: Records) -> None:
    with pytest.raises(ModelError, match=r"network of predictor returns .* logits of shape"):
        fit(OneLogitTooMany(len(records.labels)), records, tiny.settings(epochs=1))


def test_batch_norm_of_a_single_value_is_explained(records: Records) -> None:
    network = nn.Sequential(
        nn.AdaptiveAvgPool2d(1), nn.BatchNorm2d(3), nn.Flatten(), nn.Linear(3, len(records.labels))
    )
    config = tiny.settings(epochs=1)
    config = replace(config, training=replace(config.training, batch_size=1))
    with pytest.raises(TrainingError, match="a batch of one small picture"):
        fit(network, records, config)
