"""The head 'gcn' against ML-GCN's equations in loops."""

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from cpsd.errors import ConfigError, ModelError
from cpsd.graph import LabelGraph
from cpsd.labels import LabelSpace, Targets
from cpsd.model_config import GCNConfig
from cpsd.models.heads.gcn import MOST_LABELS, GCNHead, re_weighted_adjacency
from cpsd.models.label_information import LabelInformation
from tiny_heads import LABELS, features, information, shake

Matrix = list[list[float]]


def targets(*, unknown: bool) -> Targets:
    """Return targets of six labels.

    The first is in most pictures, so others imply it and it implies none; the second mostly comes
    with the third; the last was never seen.
    """
    generator = np.random.default_rng(11)
    present = generator.random((80, 6)) < [0.9, 0.3, 0.2, 0.3, 0.2, 0]
    present[:, 2] |= present[:, 1] & (generator.random(80) < 0.8)
    found = present.astype(np.int8)
    if unknown:
        found[generator.random(found.shape) < 0.2] = -1
    return found


def adjacency_by_loops(targets_NC: Targets, threshold: float, neighbours: float) -> Matrix:
    """Return equations 7 and 8, then D^-1/2 A D^-1/2, from the pictures themselves."""
    size = targets_NC.shape[1]
    adjacency = [[0.0] * size for _ in range(size)]
    for i in range(size):
        for j in range(size):
            with_i = [row for row in targets_NC.tolist() if row[i] == 1 and row[j] != -1]
            both = sum(row[j] == 1 for row in with_i)
            # P(L_j | L_i): how often j is there when i is; equation 7.
            if i != j and with_i and both / len(with_i) >= threshold:
                adjacency[i][j] = 1.0
    for i in range(size):  # equation 8
        others = sum(adjacency[i])
        adjacency[i] = [neighbours * edge / others if others else 0.0 for edge in adjacency[i]]
        adjacency[i][i] = 1 - neighbours
    degree = [sum(row) for row in adjacency]
    return [
        [adjacency[i][j] / math.sqrt(degree[i] * degree[j]) for j in range(size)]
        for i in range(size)
    ]


@pytest.mark.parametrize("unknown", [False, True])
@pytest.mark.parametrize(("threshold", "neighbours"), [(0.4, 0.2), (0.6, 0.5), (0.4, 0.0)])
def test_adjacency_is_that_of_equations_7_and_8(
    unknown: bool, threshold: float, neighbours: float
) -> None:
    targets_NC = targets(unknown=unknown)
    graph = LabelGraph.from_targets(targets_NC, LabelSpace(tuple("abcdef")))
    found = re_weighted_adjacency(graph, threshold, neighbours)
    expected = np.array(adjacency_by_loops(targets_NC, threshold, neighbours))
    np.testing.assert_allclose(found, expected, atol=1e-12)
    # Guards the rest: some edges are kept, some are not, and they are not the same both ways.
    kept = expected != np.diag(np.diag(expected))
    if neighbours:
        assert 0 < kept.sum() < 30
        assert not np.array_equal(kept, kept.T)
        assert not kept[0].any()


def test_no_weight_of_its_own_leaves_the_adjacency_finite() -> None:
    graph = LabelGraph.from_targets(targets(unknown=False), LabelSpace(tuple("abcdef")))
    assert np.isfinite(re_weighted_adjacency(graph, 0.4, 1.0)).all()


def times(left: Matrix, right: Matrix) -> Matrix:
    return [[sum(a * b for a, b in zip(row, c, strict=True)) for c in zip(*right)] for row in left]  # noqa: B905


@pytest.mark.parametrize("given", [False, True])
def test_logits_are_those_of_two_graph_convolutions(given: bool) -> None:
    known = information(given=given)
    head = GCNHead(5, known, GCNConfig(hidden=7))
    shake(head)
    adjacency = head.adjacency.tolist()
    vectors: Tensor = head.label_embeddings()
    if known.embeddings is not None:
        assert np.array_equal(vectors.float().numpy(), known.embeddings)
    hidden = times(adjacency, times(vectors.tolist(), head.first.weight.T.tolist()))
    hidden = [[x if x > 0 else 0.2 * x for x in row] for row in hidden]
    classifiers = times(adjacency, times(hidden, head.second.weight.T.tolist()))
    features_BDHW = features(2, 5, 2, 3)
    pooled = [[max(channel.flatten().tolist()) for channel in image] for image in features_BDHW]
    expected = [
        [sum(w * x for w, x in zip(row, image, strict=True)) for row in classifiers]
        for image in pooled
    ]
    torch.testing.assert_close(head(features_BDHW), torch.tensor(expected, dtype=torch.float64))


def test_a_parts_graph_is_the_one_counted_on_its_labels_alone() -> None:
    labels, part = LabelSpace(tuple("abcdef")), [2, 0, 4]
    targets_NC = targets(unknown=True)
    whole = LabelInformation(labels, LabelGraph.from_targets(targets_NC, labels), None, 6)
    alone = LabelGraph.from_targets(targets_NC[:, part], labels.select(part))
    restricted = whole.restricted_to(labels.select(part))
    head = GCNHead(5, restricted, GCNConfig(hidden=7))
    expected = adjacency_by_loops(targets_NC[:, part], 0.4, 0.2)
    np.testing.assert_allclose(head.adjacency, np.array(expected), atol=1e-6)
    np.testing.assert_allclose(head.adjacency, re_weighted_adjacency(alone, 0.4, 0.2), atol=1e-6)
    # Cut out of the whole adjacency it would not be: neighbours outside the part count there.
    cut = GCNHead(5, whole, GCNConfig(hidden=7)).adjacency[part][:, part]
    assert not torch.allclose(head.adjacency, cut, atol=1e-3)


def test_the_graph_is_saved_with_the_weights() -> None:
    head = GCNHead(5, information(), GCNConfig())
    assert torch.equal(head.state_dict()["adjacency"], head.adjacency)
    assert "adjacency" not in dict(head.named_parameters())


def test_without_a_graph_it_is_refused() -> None:
    with pytest.raises(ModelError, match="'gcn' needs a label graph: give model_factory a Label"):
        GCNHead(5, replace(information(), graph=None), GCNConfig())


def test_more_labels_than_a_matrix_has_room_for_are_refused() -> None:
    labels = LabelSpace(tuple(f"label {i}" for i in range(MOST_LABELS + 1)))
    with pytest.raises(ModelError, match=r"takes at most 4,096 of them; there are 4,097"):
        GCNHead(5, LabelInformation(labels), GCNConfig())


def test_published_parameter_count() -> None:
    labels = LabelSpace(tuple(f"label {i}" for i in range(80)))
    nothing = np.zeros((80, 80), dtype=np.int64)
    vectors = np.zeros((80, 300), dtype=np.float32)
    known = LabelInformation(labels, LabelGraph(labels, 0, nothing, nothing), vectors)
    head = GCNHead(2048, known, GCNConfig())
    # ML-GCN: 300 -> 1024 -> 2048 without biases; the word vectors are given.
    assert sum(p.numel() for p in head.parameters()) == 300 * 1024 + 1024 * 2048
    assert isinstance(head.first, nn.Linear)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"threshold": 1.1}, r"gcn\.threshold is 1\.1"),
        ({"neighbours": -0.1}, r"gcn\.neighbours is -0\.1"),
        ({"hidden": 0}, r"gcn\.hidden is 0"),
    ],
)
def test_settings_that_do_not_fit_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        GCNConfig(**changes)


def test_one_label_has_a_graph_too() -> None:
    head = GCNHead(5, information().restricted_to(LABELS.select([2])), GCNConfig(hidden=7))
    assert head.adjacency.tolist() == [[1.0]]
    assert head(features(2, 5, 1, 1).float()).shape == (2, 1)
