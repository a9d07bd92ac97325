"""Every head on a network of every family: ResNet, TResNet, ViT (tokens) and Swin (channels last).

Networks are timm's, with fewer layers where timm has no tiny one itself.
"""

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from cpsd.config import ImageConfig
from cpsd.labels import LabelSpace
from cpsd.model_config import ModelConfig
from cpsd.models.card import ModelCard
from cpsd.models.classifier import Classifier, build_classifier
from cpsd.models.known_labels import ToldPredictor
from cpsd.models.label_information import LabelInformation
from cpsd.models.store import load_model, save_model
from tiny_heads import (
    FAMILIES,
    HEADS,
    LABELS,
    classifier,
    information,
    model_config,
    pictures,
    use_small_backbones,
)


@pytest.fixture(autouse=True)
def _small_backbones(monkeypatch: pytest.MonkeyPatch) -> None:
    use_small_backbones(monkeypatch)


def card_of(config: ModelConfig, labels: LabelSpace = LABELS) -> ModelCard:
    return ModelCard(labels.names, asdict(config), asdict(ImageConfig(size=64)))


@pytest.mark.parametrize("backbone", FAMILIES)
@pytest.mark.parametrize("head", HEADS)
def test_every_parameter_gets_a_gradient(head: str, backbone: str) -> None:
    network = classifier(head, backbone).train()
    known = [torch.tensor([[1, 0, -1, -1, 0], [-1] * 5])] if head == "ctran" else []
    logits = network(pictures(), *known)
    assert logits.shape == (2, 5)
    assert logits.isfinite().all()
    logits.square().sum().backward()
    learned = {name: p for name, p in network.named_parameters() if p.requires_grad}
    assert [name for name, p in learned.items() if p.grad is None] == []
    assert all(p.grad is not None and p.grad.isfinite().all() for p in learned.values())
    fixed = {name for name, p in network.named_parameters() if not p.requires_grad}
    assert fixed == ({"head.queries"} if head == "ml-decoder" else set())


@pytest.mark.parametrize("backbone", FAMILIES)
@pytest.mark.parametrize("head", HEADS)
def test_a_teacher_of_one_label_comes_back_as_it_was_saved(
    head: str, backbone: str, tmp_path: Path
) -> None:
    labels = LABELS.select([3])
    network = classifier(head, backbone, labels=labels)
    with torch.no_grad():
        network.train()(pictures())  # moves what batch norm remembers
        expected = network.eval()(pictures())
    assert expected.shape == (2, 1)
    save_model(tmp_path, network, card_of(model_config(head, backbone), labels))
    loaded, _ = load_model(tmp_path)
    with torch.no_grad():
        assert torch.equal(loaded(pictures()), expected)


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("given", [False, True])
def test_all_labels_come_back_with_their_graph_and_embeddings(
    head: str, given: bool, tmp_path: Path
) -> None:
    # A file that is long gone when the model is loaded: its content is saved with the weights.
    changes = {"label_embeddings": "gone.npy"} if given else {}
    network = classifier(head, given=given)
    save_model(tmp_path, network, card_of(model_config(head, **changes)))
    loaded, card = load_model(tmp_path)
    with torch.no_grad():
        assert torch.equal(loaded(pictures()), network(pictures()))
    assert card.model["head"] == head
    assert all(
        torch.equal(value, network.state_dict()[key]) for key, value in loaded.state_dict().items()
    )


def assert_exported_for_any_number(network: nn.Module, example: Tensor) -> None:
    """Hold the graph of ``network``, traced with three pictures, to it with more and with fewer."""
    shapes = ({0: torch.export.Dim("batch")},)
    with torch.no_grad():
        graph = torch.export.export(network, (example,), dynamic_shapes=shapes).module()
        for number in (1, 5):
            images = torch.rand(number, *example.shape[1:])
            torch.testing.assert_close(graph(images), network(images), rtol=1e-5, atol=1e-6)


# Head and backbone meet in a feature map only, so what can be exported apart can be together; the
# table of benchmarks/heads.py has every pair.
@pytest.mark.parametrize("head", HEADS)
def test_heads_are_exported_for_any_number_of_pictures(head: str) -> None:
    assert_exported_for_any_number(classifier(head).head, torch.rand(3, 96, 2, 3))


@pytest.mark.parametrize("head", HEADS)
def test_heads_are_compiled_as_one_graph(head: str) -> None:
    network = classifier(head).head
    compiled: Any = torch.compile(network, backend="eager", fullgraph=True)
    example = torch.rand(3, 96, 2, 3)
    with torch.no_grad():
        torch.testing.assert_close(compiled(example), network(example))
    torch.compiler.reset()


@pytest.mark.parametrize("backbone", FAMILIES)
def test_networks_are_exported_for_any_number_of_pictures(backbone: str) -> None:
    assert_exported_for_any_number(classifier("linear", backbone), pictures(3))


def test_what_is_told_is_exported_with_the_network() -> None:
    network = Classifier(nn.Identity(), classifier("ctran").head, normalization=nn.Identity())
    predictor = ToldPredictor(network.eval(), LABELS, present=["cat"], absent=["ant"])
    assert_exported_for_any_number(predictor, torch.rand(3, 96, 2, 3))


@pytest.mark.parametrize(
    ("backbone", "head", "published"),
    [
        ("resnet101", "linear", 42_664_080),
        # The published one is handed its 80 x 300 embeddings as an input.
        ("resnet101", "transformer", 101_552_193 + 80 * 300),
        ("resnet101", "query", 198_103_184),
        ("tresnet_l", "linear", 53_750_896),
        ("resnext50_32x4d", "linear", 23_143_824),
    ],
)
def test_networks_have_as_many_parameters_as_the_published_checkpoints(
    backbone: str, head: Any, published: int
) -> None:
    labels = LabelSpace(tuple(f"label {i}" for i in range(80)))
    config = ModelConfig(backbone=backbone, weights="none", head=head)
    with torch.device("meta"):
        network = build_classifier(labels, config, LabelInformation(labels))
    assert sum(p.numel() for p in network.parameters() if p.requires_grad) == published


def test_a_part_gets_what_is_known_of_its_labels() -> None:
    part = LABELS.select([4, 1])
    network = build_classifier(part, model_config("gcn"), information(given=True))
    known = information(given=True).restricted_to(part)
    alone = build_classifier(part, model_config("gcn"), known)
    for key in ("head.adjacency", "head.label_embeddings.values"):
        assert torch.equal(network.state_dict()[key], alone.state_dict()[key])


def test_information_of_other_labels_is_refused() -> None:
    known = replace(information(), graph=None)
    with pytest.raises(ValueError, match="'fox' is not among the 5 labels"):
        build_classifier(LabelSpace(("fox",)), model_config("query"), known)
