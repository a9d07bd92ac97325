import csv
import math
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import tiny
from cpsd.training.members import (
    EMA,
    RAW,
    Best,
    Member,
    decayed_parameters,
    members_of,
    scaled_pixels,
)


@pytest.fixture
def member(tmp_path: Path) -> Member:
    return Member(tiny.network(), (0, 1, 2, 3), "baseline", tmp_path)


@pytest.mark.parametrize(
    ("scores", "kept"),
    [
        ([0.1, 0.3, 0.2], 1),
        # Of equal epochs the first, and of raw and averaged weights (considered after) the raw.
        ([0.3, 0.3], 0),
        # Without a score the last epoch, as long as there is none with a score.
        ([math.nan, math.nan, math.nan], 2),
        ([math.nan, 0.1, math.nan], 1),
        ([0.1, math.nan, 0.2], 2),
        ([0.0], 0),
    ],
)
def test_member_keeps_the_best_epoch(scores: list[float], kept: int, member: Member) -> None:
    networks = [tiny.network(seed=i) for i in range(len(scores))]
    for epoch, (score, network) in enumerate(zip(scores, networks, strict=True)):
        member.consider(Best(epoch, RAW, score), network)
    best = member.load_best()
    assert best.epoch == kept
    tiny.assert_same(tiny.weights(member.network), tiny.weights(networks[kept]))
    tiny.assert_same(load_file(member.best_file), tiny.weights(networks[kept]))


def test_resumed_member_takes_up_where_it_was(member: Member, tmp_path: Path) -> None:
    member.consider(Best(3, EMA, 0.25), member.network)
    member.history.append({"epoch": 0.0, "loss": 1.5})
    resumed = Member(tiny.network(seed=1), member.columns, member.name, tmp_path)
    resumed.load_state_dict(member.state_dict())
    assert resumed.best == Best(3, EMA, 0.25)
    assert resumed.history == member.history
    resumed.consider(Best(4, RAW, 0.2), tiny.network(seed=2))
    assert resumed.load_best() == Best(3, EMA, 0.25)
    tiny.assert_same(tiny.weights(resumed.network), tiny.weights(member.network))


def test_fresh_member_has_nothing_to_load(member: Member) -> None:
    member.load_state_dict(member.state_dict())
    assert member.best is None
    assert member.history == []


def test_metrics_are_a_row_an_epoch(member: Member) -> None:
    member.history = [{"epoch": 0.0, "loss": 2.5}, {"epoch": 1.0, "loss": 1 / 3, "new": math.nan}]
    member.write_metrics()
    with (member.folder / "metrics.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert rows == [
        {"epoch": "0", "loss": "2.5", "new": ""},
        {"epoch": "1", "loss": "0.3333333333", "new": "nan"},
    ]


def test_ensemble_has_a_member_a_part(tmp_path: Path) -> None:
    ensemble = tiny.ensemble()
    first, second = members_of(ensemble, range(4), name="teachers", folder=tmp_path)
    assert (first.columns, second.columns) == tiny.PARTITION.parts
    assert first.network is ensemble.teachers[0]
    assert second.network is ensemble.teachers[1]
    assert (first.name, second.folder) == ("teachers/0", tmp_path / "1")


def test_any_other_predictor_is_its_own_member(tmp_path: Path) -> None:
    network = tiny.network()
    (only,) = members_of(network, [2, 0], name="student", folder=tmp_path)
    assert (only.network, only.columns, only.name) == (network, (2, 0), "student")
    assert only.folder == tmp_path


def test_norms_and_biases_are_not_decayed() -> None:
    network = tiny.network()
    network.get_parameter("conv.weight").requires_grad_(False)
    names = {id(parameter): name for name, parameter in network.named_parameters()}
    decay, none = decayed_parameters(network, 0.1)
    assert (decay["weight_decay"], none["weight_decay"]) == (0.1, 0.0)

    def named(group: dict[str, float | list[torch.nn.Parameter]]) -> set[str]:
        assert isinstance(group["params"], list)
        return {names[id(parameter)] for parameter in group["params"]}

    assert named(decay) == {"linear.weight"}
    assert named(none) == {"norm.weight", "norm.bias", "linear.bias"}


def test_pixels_are_scaled_to_one() -> None:
    pixels = torch.tensor([0, 51, 255], dtype=torch.uint8).view(1, 3, 1, 1)
    assert scaled_pixels(pixels).flatten().tolist() == pytest.approx([0, 0.2, 1])
    assert pixels.flatten().tolist() == [0, 51, 255]
