"""Label mask training (C-Tran, section 3.4): what is told is seen and never learned from."""

from dataclasses import replace
from functools import partial

import pytest
import torch
from torch import Tensor, nn

import tiny
from cpsd.config import LossConfig, RunConfig
from cpsd.data.records import TEST, Records
from cpsd.labels import LabelSpace
from cpsd.method import distill, evaluate, fit
from cpsd.model_config import CTranConfig
from cpsd.models.classifier import Classifier, make_seeded
from cpsd.models.ensemble import TeacherEnsemble
from cpsd.models.heads.ctran import CTranHead
from cpsd.models.label_information import LabelInformation

CONFIG = CTranConfig(width=8, layers=1, heads=2, feedforward=8, dropout=0.0)


def make_network(labels: LabelSpace, config: CTranConfig = CONFIG) -> nn.Module:
    backbone = nn.Sequential(nn.Conv2d(3, 8, 3, stride=2), nn.ReLU())
    head = CTranHead(8, LabelInformation(labels, embedding_width=4), config)
    return Classifier(backbone, head, normalization=nn.Identity())


def network(labels: LabelSpace = tiny.LABELS) -> nn.Module:
    return make_seeded(make_network, labels, seed=0)


def without_decay(config: RunConfig) -> RunConfig:
    """Return settings with which a weight without a gradient stays as it is."""
    return replace(config, training=replace(config.training, weight_decay=0.0))


def tell_always(column: int, monkeypatch: pytest.MonkeyPatch) -> list[Tensor]:
    """Let training tell one label of every picture; return where its targets will be noted."""
    asked: list[Tensor] = []

    def reveal(head: CTranHead, targets_BC: Tensor) -> Tensor:
        asked.append(targets_BC)
        told_BC = torch.full_like(targets_BC, -1)
        told_BC[:, column] = targets_BC[:, column]
        return told_BC

    monkeypatch.setattr(CTranHead, "reveal", reveal)
    return asked


@pytest.mark.parametrize("name", ["asymmetric", "bce"])
def test_the_loss_of_what_was_told_is_nothing(
    name: str, records: Records, monkeypatch: pytest.MonkeyPatch
) -> None:
    tell_always(2, monkeypatch)
    student = network()
    before = tiny.weights(student)
    loss = LossConfig(name="bce") if name == "bce" else LossConfig()
    seen = tiny.RawWeights()
    fit(student, records, replace(without_decay(tiny.settings()), loss=loss), callbacks=[seen])
    after = seen.after_epoch[-1][0]
    for key in ("head.classifier.weight", "head.classifier.bias"):
        changed = [not torch.equal(after[key][c], before[key][c]) for c in range(4)]
        assert changed == [True, True, False, True], key
    # What was told is seen: the states of presence and absence have moved.
    for state in (0, 1):
        assert not torch.equal(after["head.states"][state], before["head.states"][state])


def test_nothing_told_leaves_the_states_alone(
    records: Records, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Guards the test above.
    monkeypatch.setattr(CTranHead, "reveal", lambda head, targets: torch.full_like(targets, -1))
    student = network()
    before = tiny.weights(student)
    seen = tiny.RawWeights()
    fit(student, records, without_decay(tiny.settings()), callbacks=[seen])
    after = seen.after_epoch[-1][0]
    assert torch.equal(after["head.states"], before["head.states"])
    moved = (after["head.classifier.bias"] != before["head.classifier.bias"]).tolist()
    assert moved == [True] * 4


def test_a_teacher_is_told_labels_of_its_own_part(
    records: Records, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = tell_always(0, monkeypatch)
    part = tiny.PARTITION.parts[1]
    fit(network(tiny.LABELS.select(part)), records, tiny.settings(epochs=1), part=part)
    rows = {tuple(row) for targets in asked for row in targets.tolist()}
    assert {len(row) for row in rows} == {2}
    own = {tuple(row) for row in records.targets[: tiny.NUM_TRAIN, list(part)].tolist()}
    assert rows == own


def test_teachers_that_are_told_labels_distil_into_a_student(records: Records) -> None:
    config = tiny.settings(epochs=2, ema_decay=0.5)
    ensembles: dict[str, nn.Module] = {}
    for partition in (tiny.PARTITION, tiny.OTHER_PARTITION):
        teachers = [network(partition.part_labels(part)) for part in range(2)]
        ensembles[partition.strategy] = TeacherEnsemble(partition, teachers)
        fit(ensembles[partition.strategy], records, config)
    student = network()
    distill(student, ensembles, records, config)
    assert all(value.isfinite().all() for value in tiny.weights(student).values())
    assert 0 <= evaluate(student, records, config, split=TEST).mAP <= 100


def test_the_same_labels_are_told_when_a_training_is_repeated(records: Records) -> None:
    first, second = network(), network()
    fit(first, records, tiny.settings())
    torch.rand(5)
    fit(second, records, tiny.settings())
    tiny.assert_same(tiny.weights(first), tiny.weights(second))


def test_a_label_that_stands_for_another_is_learned_from_what_is_told(records: Records) -> None:
    # 'red' and 'green' are set to be one label that no picture shows: only telling helps.
    targets = records.targets.copy()
    hidden = torch.arange(len(targets)).remainder(2).numpy()
    targets[:, 0] = targets[:, 1] = hidden
    pairs = replace(records, targets=targets[:, :2], labels=LabelSpace(("red", "green")))
    config = without_decay(tiny.settings(epochs=15, learning_rate=2e-2))
    config = replace(config, loss=LossConfig(name="bce"))
    make_model = partial(make_network, config=replace(CONFIG, least_hidden=0.5))
    told_one = make_seeded(make_model, pairs.labels, seed=0)
    last = tiny.RawWeights()
    fit(told_one, pairs, config, callbacks=[last])
    told_one.load_state_dict(last.after_epoch[-1][0])
    images = torch.rand(6, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        logits = {
            state: told_one.eval()(images, torch.tensor([[-1, state]] * 6))[:, 0]
            for state in (0, 1)
        }
    assert (logits[1] > logits[0] + 1).all()
