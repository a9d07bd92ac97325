"""What heads may know of labels: restricted to a part, and refused where it does not fit."""

import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from cpsd.errors import DataError, ModelError
from cpsd.graph import LabelGraph
from cpsd.labels import LabelSpace
from cpsd.models.label_information import (
    GivenTable,
    LabelInformation,
    LearnedTable,
    ProjectedTable,
    embedding_table,
    query_table,
)
from tiny_heads import LABELS, information

TARGETS = np.random.default_rng(3).integers(-1, 2, size=(50, 5)).astype(np.int8)


def whole() -> LabelInformation:
    return replace(information(given=True), graph=LabelGraph.from_targets(TARGETS, LABELS))


def test_a_part_knows_what_is_about_its_own_labels_in_its_own_order() -> None:
    part = LABELS.select([4, 0, 2])
    known = whole().restricted_to(part)
    counted = LabelGraph.from_targets(TARGETS[:, [4, 0, 2]], part)
    assert known.labels == part
    assert known.graph is not None
    assert known.graph.labels == part
    for name in ("images_with_both", "images_with_label_where_unknown"):
        found, expected = getattr(known.graph, name), getattr(counted, name)
        assert np.array_equal(found.toarray(), expected.toarray()), name
    embeddings = whole().embeddings
    assert embeddings is not None
    assert known.embeddings is not None
    assert np.array_equal(known.embeddings, embeddings[[4, 0, 2]])
    assert known.embedding_width == embeddings.shape[1]


def test_a_part_of_a_part_is_a_part() -> None:
    twice = whole().restricted_to(LABELS.select([4, 0, 2])).restricted_to(LABELS.select([2, 4]))
    once = whole().restricted_to(LABELS.select([2, 4]))
    assert twice.graph is not None
    assert once.graph is not None
    counts = (graph.images_with_both.toarray() for graph in (twice.graph, once.graph))
    assert np.array_equal(*counts)
    assert np.array_equal(twice.embeddings, once.embeddings)  # type: ignore[arg-type]


def test_what_is_not_known_stays_unknown() -> None:
    known = LabelInformation(LABELS).restricted_to(LABELS.select([1]))
    assert known.graph is None
    assert known.embeddings is None
    assert known.embedding_width == 300


def test_all_labels_in_the_same_order_need_no_change() -> None:
    known = whole()
    assert known.restricted_to(LabelSpace(LABELS.names)) is known


def test_labels_that_nothing_is_known_of_are_refused() -> None:
    with pytest.raises(DataError, match=r"'bea' is not among the 5 labels\. Did you mean 'bee'"):
        whole().restricted_to(LabelSpace(("ant", "bea")))


def test_a_graph_over_other_labels_is_refused() -> None:
    # In another order, too, every column would be another label's.
    other = LABELS.select([1, 0, 2, 3, 4])
    with pytest.raises(ModelError, match="over other labels"):
        LabelInformation(LABELS, LabelGraph.from_targets(TARGETS, other))


@pytest.mark.parametrize("shape", [(4, 6), (5, 7), (6, 5)])
def test_embeddings_of_another_shape_are_refused(shape: tuple[int, int]) -> None:
    vectors = np.zeros(shape, dtype=np.float32)
    with pytest.raises(ModelError, match=rf"{re.escape(str(shape))} do not fit 5 labels.*\(5, 6\)"):
        LabelInformation(LABELS, None, vectors, 6)


def test_a_missing_graph_is_asked_for_by_name() -> None:
    with pytest.raises(ModelError, match="'gcn' needs a label graph"):
        LabelInformation(LABELS).required_graph("gcn")
    graph = LabelGraph.from_targets(TARGETS, LABELS)
    assert LabelInformation(LABELS, graph).required_graph("gcn") is graph


def test_embeddings_are_given_or_learned() -> None:
    vectors = whole().embeddings
    assert vectors is not None
    given = embedding_table(whole())
    assert isinstance(given, GivenTable)
    assert list(given.parameters()) == []
    assert np.array_equal(given().numpy(), vectors)
    vectors[0] = 0  # the table has a copy
    assert not np.array_equal(given().numpy(), vectors)
    learned = embedding_table(information())
    assert isinstance(learned, LearnedTable)
    assert [tuple(p.shape) for p in learned.parameters()] == [(5, 6)]


def test_queries_are_learned_or_projected() -> None:
    projected = query_table(whole(), 9)
    assert isinstance(projected, ProjectedTable)
    assert sorted(name for name, _ in projected.named_parameters()) == [
        "projection.bias",
        "projection.weight",
    ]
    vectors = torch.tensor(whole().embeddings)
    expected = vectors @ projected.projection.weight.T + projected.projection.bias
    torch.testing.assert_close(projected(), expected)
    learned = query_table(information(), 9)
    assert isinstance(learned, nn.Module)
    assert learned().shape == (5, 9)
