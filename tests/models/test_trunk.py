"""Shared trunks, on small networks of several families."""

import copy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from cpsd.errors import ConfigError, ModelError
from cpsd.graph import LabelGraph
from cpsd.labels import LabelSpace
from cpsd.model_config import GCNConfig, HeadName, MLDecoderConfig, ModelConfig, QueryConfig
from cpsd.models.card import ModelCard, PartCard
from cpsd.models.classifier import Classifier, build_classifier, make_seeded, model_factory
from cpsd.models.ensemble import MeanPredictor, TeacherEnsemble
from cpsd.models.label_information import LabelInformation
from cpsd.models.starting_weights import take_weights
from cpsd.models.store import load_ensemble, save_model
from cpsd.models.trunk import Trunk, join_trunks, one_pass, require_stages, trunk_of
from cpsd.partition import LabelPartition
from tiny import LABELS, OTHER_PARTITION, PARTITION, TinyNetwork, assert_same, weights

TINY = "test_byobnet.r160_in1k"
FAMILIES = {
    TINY: (2, "stages.0", 32),
    "test_efficientnet.r160_in1k": (2, "blocks.1", 32),
    "test_convnext.r160_in1k": (2, "stages.1", 32),
    "test_resnet.r160_in1k": (3, "layer2", 32),
    "regnetx_002": (2, "s1", 32),
    "tresnet_m": (1, "body.layer1", 32),
    "swin_tiny_patch4_window7_224": (1, "layers.0", 64),
    "test_vit.r160_in1k": (3, "blocks.2", 32),
}
"""Stages, the module that ends them, and pixels, for a network of each family."""


def classifier(seed: int, labels: LabelSpace = LABELS, backbone: str = TINY) -> Classifier:
    config = ModelConfig(backbone=backbone, weights="none")
    network = make_seeded(lambda space: build_classifier(space, config), labels, seed=seed)
    assert isinstance(network, Classifier)
    return network


def images(size: int = 32, seed: int = 0) -> Tensor:
    return torch.rand(2, 3, size, size, generator=torch.Generator().manual_seed(seed))


def on_one_trunk(num_stages: int = 2, backbone: str = TINY) -> tuple[Classifier, list[Classifier]]:
    """Return the source of a trunk, and the teachers of two parts on it."""
    source = classifier(0, backbone=backbone)
    trunk = Trunk(source, num_stages)
    teachers = [
        classifier(10 + i, LABELS.select(part), backbone) for i, part in enumerate(PARTITION.parts)
    ]
    for teacher in teachers:
        trunk.put_under(teacher)
    return source, teachers


class Calls:
    """Counts how often modules compute."""

    def __init__(self, *modules: nn.Module) -> None:
        self.count = 0
        for module in modules:
            module.register_forward_hook(self._called)

    def _called(self, *_: object) -> None:
        self.count += 1


@pytest.mark.parametrize("backbone", FAMILIES)
def test_teachers_on_a_trunk_are_the_whole_networks_they_are_saved_as(backbone: str) -> None:
    num_stages, end, size = FAMILIES[backbone]
    source, teachers = on_one_trunk(num_stages, backbone)
    given = images(size)
    ensemble = TeacherEnsemble(PARTITION, teachers).eval()
    with torch.no_grad():
        together = ensemble(given)
        for part, teacher in zip(PARTITION.parts, teachers, strict=True):
            whole = classifier(99, LABELS.select(part), backbone).eval()
            whole.load_state_dict(teacher.state_dict())
            torch.testing.assert_close(teacher(given), whole(given), rtol=1e-5, atol=1e-5)
            assert torch.equal(together[:, part], teacher(given))
    # What ends the trunk is the source's, what follows is each teacher's own.
    shared = source.backbone.get_submodule(f"network.{end}")
    for teacher in teachers:
        assert teacher.backbone.get_submodule(f"network.{end}") is shared
    apart = {id(p) for p in teachers[0].parameters()} & {id(p) for p in teachers[1].parameters()}
    assert apart == {id(p) for p in teachers[0].parameters() if not p.requires_grad}


@pytest.mark.parametrize("backbone", [TINY, "test_efficientnet.r160_in1k", "test_vit.r160_in1k"])
def test_no_gradient_reaches_the_trunk_and_training_does_not_change_it(backbone: str) -> None:
    num_stages, _, size = FAMILIES[backbone]
    source, teachers = on_one_trunk(num_stages, backbone)
    before = weights(source)
    optimizer = torch.optim.SGD(
        [p for teacher in teachers for p in teacher.parameters() if p.requires_grad], lr=0.1
    )
    for teacher in teachers:
        teacher.train()
    with one_pass():
        loss = torch.stack([teacher(images(size)).square().sum() for teacher in teachers]).sum()
    loss.backward()  # type: ignore[no-untyped-call]
    optimizer.step()
    frozen = [p for p in teachers[0].parameters() if not p.requires_grad]
    assert frozen
    assert all(p.grad is None for p in frozen)
    learned = [p for p in teachers[0].head.parameters() if p.requires_grad]
    assert all(p.grad is not None for p in learned)
    shared = {id(p) for p in frozen}
    assert shared <= {id(p) for p in source.parameters()}
    assert_same(before, weights(source))  # batch norm's statistics are among these


def test_a_trunk_computes_once_in_a_pass_and_each_time_outside() -> None:
    source, teachers = on_one_trunk()
    calls = Calls(*source.backbone.get_submodule("network.stem").children())
    first = len(list(source.backbone.get_submodule("network.stem").children()))
    given = images()
    with torch.no_grad():
        TeacherEnsemble(PARTITION, teachers)(given)
        assert calls.count == first
        for teacher in teachers:
            teacher(given)
        assert calls.count == 3 * first
        with one_pass():
            both = [TeacherEnsemble(PARTITION, teachers) for _ in range(2)]
            MeanPredictor(both)(given)
            teachers[0](given)
        assert calls.count == 4 * first


def test_other_images_in_a_pass_are_computed_anew() -> None:
    _, teachers = on_one_trunk()
    first, second = images(seed=1), images(seed=2)
    for teacher in teachers:
        teacher.eval()
    with torch.no_grad():
        alone = [teacher(given) for given in (first, second, first) for teacher in teachers]
        with one_pass():
            found = [teacher(given) for given in (first, second, first) for teacher in teachers]
    assert not torch.allclose(alone[0], alone[2])
    assert all(torch.equal(one, other) for one, other in zip(alone, found, strict=True))


def test_a_pass_that_fails_leaves_nothing_behind() -> None:
    source, teachers = on_one_trunk(3, "test_vit.r160_in1k")
    first, second = images(32), images(40)
    with pytest.raises(ModelError, match="does not take pictures"), one_pass():
        [teacher(given) for given in (first, second) for teacher in teachers]
    with torch.no_grad():
        for parameter in source.backbone.parameters():
            parameter.mul_(2)
        with one_pass():
            found = teachers[0](first)
        assert torch.equal(found, teachers[0](first))


def test_a_trunk_stays_in_evaluation_mode_and_its_copies_are_the_trunk_itself() -> None:
    _, teachers = on_one_trunk()
    teacher = teachers[0].train()
    stem = teacher.backbone.get_submodule("network.stem")
    assert not any(module.training for module in stem.modules())
    assert teacher.backbone.get_submodule("network.stages.2").training
    average = copy.deepcopy(teacher)
    assert average.backbone.get_submodule("network.stem") is stem
    assert trunk_of(average) is trunk_of(teacher)
    own = {id(p) for p in average.parameters()} & {id(p) for p in teacher.parameters()}
    assert own == {id(p) for p in teacher.parameters() if not p.requires_grad}


def save(folder: Path, partition: LabelPartition, teachers: list[Classifier], shared: int) -> None:
    for index, teacher in enumerate(teachers):
        model = {"backbone": TINY, "weights": "none"}
        part = PartCard(partition.strategy, index, partition.hash, shared)
        labels = partition.part_labels(index).names
        save_model(folder / str(index), teacher, ModelCard(labels, model, {}, part))


def test_saved_teachers_share_again_where_cards_and_weights_say_so(tmp_path: Path) -> None:
    _, teachers = on_one_trunk()
    save(tmp_path / "shared", PARTITION, teachers, 2)
    save(tmp_path / "not said", PARTITION, teachers, 0)
    others = [classifier(7, OTHER_PARTITION.part_labels(index)) for index in (0, 1)]
    save(tmp_path / "own", OTHER_PARTITION, others, 2)
    shared = load_ensemble(tmp_path / "shared", PARTITION)
    trunk = trunk_of(shared.teachers[0])
    assert trunk is not None
    assert trunk_of(shared.teachers[1]) is trunk
    assert trunk_of(load_ensemble(tmp_path / "not said", PARTITION).teachers[0]) is None
    own = load_ensemble(tmp_path / "own", OTHER_PARTITION)
    # Weights alike by their seed but for the head, so these two share as well, apart from the rest.
    again = load_ensemble(tmp_path / "shared", PARTITION)
    join_trunks([*shared.teachers, *again.teachers, *own.teachers])
    assert {trunk_of(teacher) for teacher in again.teachers} == {trunk}
    assert trunk not in {trunk_of(teacher) for teacher in own.teachers}
    given = images()
    with torch.no_grad():
        assert torch.equal(again(given), TeacherEnsemble(PARTITION, teachers).eval()(given))


def test_a_card_of_another_network_is_refused(tmp_path: Path) -> None:
    _, teachers = on_one_trunk()
    save(tmp_path, PARTITION, teachers, 6)
    with pytest.raises(ModelError, match=r"0/model\.json: .*r160_in1k' has 5 stages"):
        load_ensemble(tmp_path, PARTITION)


def test_what_cannot_be_shared_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"shared_stages is 6, .* has 5 stages \(stem, "):
        require_stages(TINY, 6)
    with pytest.raises(ConfigError, match=r"teachers\.shared_stages.*TinyNetwork.*set .* to 0"):
        Trunk(TinyNetwork(LABELS), 1)
    # Swin's relatives call the blocks of a stage one by one, and never the stage.
    with pytest.raises(ModelError, match=r"never calls 'block\.0'"):
        Trunk(classifier(0, backbone="twins_svt_small"), 1)
    with pytest.raises(ModelError, match="cannot be put under 'test_vit"):
        Trunk(classifier(0), 1).put_under(classifier(0, backbone="test_vit.r160_in1k"))


@pytest.mark.parametrize("head", ["linear", "query", "ml-decoder", "gcn"])
def test_teachers_start_where_the_baseline_ended(head: HeadName) -> None:
    config = narrow(ModelConfig(backbone=TINY, weights="none", head=head))
    targets = np.array([[1, 0, 1, 0], [1, 1, 1, 1], [0, 1, 1, 1]], dtype=np.int8)
    information = LabelInformation(LABELS, LabelGraph.from_targets(targets, LABELS))
    make_model, part = model_factory(config, information), (1, 3)

    def make(labels: LabelSpace, seed: int) -> nn.Module:
        return make_seeded(make_model, labels, seed=seed)

    baseline, teacher = make(LABELS, 0).eval(), make(LABELS.select(part), 1).eval()
    before = weights(teacher)
    take_weights(teacher, baseline, part, len(LABELS))
    for key, value in weights(baseline).items():
        if key.startswith("backbone."):
            assert torch.equal(teacher.state_dict()[key], value), key
    with torch.no_grad():
        if head in ("linear", "query", "ml-decoder"):  # a row a label: the whole head is taken
            expected = baseline(images())[:, list(part)]
            torch.testing.assert_close(teacher(images()), expected, rtol=1e-5, atol=1e-5)
    if head == "gcn":  # between the labels of the part alone
        assert torch.equal(before["head.adjacency"], teacher.state_dict()["head.adjacency"])


def narrow(config: ModelConfig) -> ModelConfig:
    return replace(
        config,
        query=QueryConfig(width=32, heads=2, feedforward=32),
        ml_decoder=MLDecoderConfig(width=32, heads=2, feedforward=32),
        gcn=GCNConfig(hidden=32),
    )


def test_a_network_with_nothing_in_common_is_told() -> None:
    with pytest.raises(ModelError, match=r"teachers\.start is 'baseline'"):
        take_weights(TinyNetwork(LABELS), nn.Linear(3, 7), (0, 1), 4)
