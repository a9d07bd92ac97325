"""Teachers on a shared trunk in training: together or alone, interrupted or not, the same."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn
from torch._dynamo.backends.registry import lookup_backend

import tiny
from cpsd.config import RunConfig
from cpsd.data.records import Records
from cpsd.method import Place, fit
from cpsd.model_config import ModelConfig
from cpsd.models.classifier import Classifier, build_classifier, make_seeded
from cpsd.models.ensemble import TeacherEnsemble
from cpsd.models.trunk import Trunk
from cpsd.training import compiling

CONFIG = ModelConfig(backbone="test_byobnet.r160_in1k", weights="none")
SETTINGS = tiny.settings(epochs=3, ema_decay=0.9)


def classifier(seed: int, part: tuple[int, ...]) -> Classifier:
    labels = tiny.LABELS.select(part)
    network = make_seeded(lambda space: build_classifier(space, CONFIG), labels, seed=seed)
    assert isinstance(network, Classifier)
    return network


def teachers() -> tuple[Classifier, list[nn.Module]]:
    """Return the source of a trunk, and untrained teachers on it."""
    source = classifier(0, (0, 1, 2, 3))
    trunk = Trunk(source, 3)
    networks: list[nn.Module] = [
        classifier(10 + i, part) for i, part in enumerate(tiny.PARTITION.parts)
    ]
    for network in networks:
        trunk.put_under(network)
    return source, networks


@pytest.fixture(scope="module")
def trained(records: Records) -> list[dict[str, torch.Tensor]]:
    """The weights of teachers that were trained side by side."""
    source, networks = teachers()
    before = tiny.weights(source)
    fit(TeacherEnsemble(tiny.PARTITION, networks), records, SETTINGS)
    tiny.assert_same(before, tiny.weights(source))
    return [tiny.weights(network) for network in networks]


def test_teachers_learn_above_their_trunk_alone(trained: list[dict[str, torch.Tensor]]) -> None:
    _, untrained = teachers()
    for network, after in zip(untrained, trained, strict=True):
        before = tiny.weights(network)
        moved = {key for key, value in before.items() if not torch.equal(value, after[key])}
        frozen = {key for key, p in network.named_parameters() if not p.requires_grad}
        assert frozen
        assert not moved & frozen
        assert not any("network.stages.1." in key for key in moved)
        assert any("network.stages.2." in key for key in moved)
        assert any(key.startswith("head.") for key in moved)


def test_a_teacher_alone_becomes_what_it_is_beside_others(
    trained: list[dict[str, torch.Tensor]], records: Records
) -> None:
    _, networks = teachers()
    for network, part, expected in zip(networks, tiny.PARTITION.parts, trained, strict=True):
        fit(network, records, SETTINGS, part=part)
        tiny.assert_close(tiny.weights(network), expected)


def test_a_training_on_a_trunk_goes_on_where_it_was_interrupted(
    trained: list[dict[str, torch.Tensor]], records: Records, tmp_path: Path
) -> None:
    place = Place("teachers", tmp_path, tmp_path / "last.ckpt")

    def attempt(config: RunConfig, *callbacks: tiny.StopIn) -> list[nn.Module]:
        _, networks = teachers()
        ensemble = TeacherEnsemble(tiny.PARTITION, networks)
        fit(ensemble, records, config, place=place, callbacks=callbacks)
        return networks

    with pytest.raises(tiny.StopError):
        attempt(SETTINGS, tiny.StopIn(epoch=2))
    assert place.checkpoint.exists()
    for network, expected in zip(attempt(SETTINGS), trained, strict=True):
        tiny.assert_same(tiny.weights(network), expected)


def test_compiled_teachers_become_the_same(
    trained: list[dict[str, torch.Tensor]], records: Records, monkeypatch: pytest.MonkeyPatch
) -> None:
    convolutions: list[int] = []

    def counting(graph: torch.fx.GraphModule, inputs: list[torch.Tensor]) -> object:
        convolutions.append(sum("conv2d" in str(node.target) for node in graph.graph.nodes))
        return lookup_backend("aot_eager")(graph, inputs)

    # Traced whole, forward and backward, by what needs no compiler.
    monkeypatch.setattr(compiling, "BACKEND", counting)
    _, networks = teachers()
    config = replace(SETTINGS, machine=replace(SETTINGS.machine, compile=True))
    fit(TeacherEnsemble(tiny.PARTITION, networks), records, config)
    for network, expected in zip(networks, trained, strict=True):
        tiny.assert_close(tiny.weights(network), expected)
    first, second = convolutions
    assert 0 < second < first, "what is shared is computed with the first teacher alone"
