"""Networks that are none of ours, through the whole method: make_model(labels) is all it takes."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from timm.layers.ml_decoder import add_ml_decoder_head
from torch import nn
from torchvision.models import mobilenet_v3_small

import tiny
from cpsd.config import ImageConfig
from cpsd.data.records import Records
from cpsd.labels import LabelSpace
from cpsd.method import distill, evaluate, fit
from cpsd.models.card import ModelCard
from cpsd.models.classifier import make_seeded
from cpsd.models.ensemble import TeacherEnsemble
from cpsd.models.store import load_model, save_model

untyped_add_ml_decoder_head: Any = add_ml_decoder_head


def torchvisions_mobilenet(labels: LabelSpace) -> nn.Module:
    network: nn.Module = mobilenet_v3_small(num_classes=len(labels))
    return network


def timms_ml_decoder(labels: LabelSpace) -> nn.Module:
    network: Any = timm.create_model("test_resnet", num_classes=len(labels))
    network = untyped_add_ml_decoder_head(network)
    # torch's TransformerDecoder hands on arguments that timm's own layer does not know.
    network.fc.decoder = network.fc.decoder.layers[0]
    module: nn.Module = network
    return module


@pytest.mark.parametrize("make_model", [torchvisions_mobilenet, timms_ml_decoder])
def test_a_third_party_network_is_baseline_teacher_and_student(
    make_model: Callable[[LabelSpace], nn.Module], records: Records, tmp_path: Path
) -> None:
    config = replace(tiny.settings(epochs=1, learning_rate=1e-3), image=ImageConfig(size=32))
    partition = tiny.PARTITION
    teachers = [make_seeded(make_model, partition.part_labels(part), seed=part) for part in (0, 1)]
    ensemble = TeacherEnsemble(partition, teachers)
    before = tiny.weights(ensemble)
    assert len(fit(ensemble, records, config).best) == 2
    assert any(not torch.equal(before[key], v) for key, v in tiny.weights(ensemble).items())
    student = make_seeded(make_model, tiny.LABELS, seed=9)
    distill(student, {partition.strategy: ensemble}, records, config)
    scores = evaluate(student, records, config)
    assert 0 < scores.mAP <= 100
    assert all(value.isfinite().all() for value in tiny.weights(student).values())
    save_model(tmp_path, student, ModelCard(tiny.LABELS.names, {"factory": "theirs:make"}, {}))
    loaded, _ = load_model(tmp_path, make_model=make_model)
    assert evaluate(loaded, records, config) == scores
