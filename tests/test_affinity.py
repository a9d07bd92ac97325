"""Affinities of a shared weight and sparse links, against the dense matrix they stand for."""

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import sparse

from cpsd import affinity as module
from cpsd.affinity import Affinity
from cpsd.errors import PartitionError

Floats = NDArray[np.float64]


def dense_affinity(num_nodes: int, *, seed: int, shared: float = 0.0) -> Floats:
    """Some pairs differ from what all others share; the third and the fifth node have none."""
    rng = np.random.default_rng(seed)
    upper = np.triu(rng.random((num_nodes, num_nodes)) < 0.3, 1) * rng.random((num_nodes,) * 2)
    dense: Floats = shared + (1 if shared == 0 else -shared) * (upper + upper.T)
    if not shared:
        dense[[2, 4]] = dense[:, [2, 4]] = 0
    np.fill_diagonal(dense, 0)
    return dense


@pytest.fixture(params=[0, 512], ids=["sparse", "small"])
def most_dense(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    """Whether affinities of a few nodes are held as dense matrices as well."""
    monkeypatch.setattr(module, "_MOST_DENSE", request.param)
    return int(request.param)


@pytest.mark.parametrize("shared", [0.0, 1.0])
@pytest.mark.usefixtures("most_dense")
def test_everything_asked_of_it_is_that_of_the_dense_matrix(shared: float) -> None:
    dense = dense_affinity(12, seed=1, shared=shared)
    links = sparse.csr_array((dense - shared) * (1 - np.eye(12)))
    affinity = Affinity(shared, links)
    rng = np.random.default_rng(0)
    columns, nodes = rng.random((12, 3)), np.array([7, 2, 9, 4])
    for found, expected in (
        (affinity, dense),
        (affinity.select(nodes), dense[np.ix_(nodes, nodes)]),
        (affinity.scaled(2.5), dense * 2.5),
        (affinity.plus(0.25), dense + 0.25 * (1 - np.eye(12))),
    ):
        size = len(expected)
        assert len(found) == size
        np.testing.assert_allclose(found.toarray(), expected, atol=1e-12)
        np.testing.assert_allclose(found @ columns[:size], expected @ columns[:size], atol=1e-12)
        np.testing.assert_allclose(found @ columns[:size, 0], expected @ columns[:size, 0])
        np.testing.assert_allclose(found.degrees, expected.sum(axis=1), atol=1e-12)
        np.testing.assert_allclose(found.rows(np.array([3, 0])), expected[[3, 0]], atol=1e-12)
        assert found.greatest == pytest.approx(expected.max())
        order = rng.permutation(size)
        before = np.tril(expected[np.ix_(order, order)], -1).sum(axis=1)
        np.testing.assert_allclose(found.weights_before(order), before, atol=1e-12)
    assert affinity.linked.tolist() == dense.any(axis=1).tolist()


def components_by_spreading(dense: Floats) -> list[int]:
    """Return each node's least node that it can be reached from."""
    least = list(range(len(dense)))
    for _ in dense:
        for i, j in np.argwhere(dense > 0).tolist():
            least[i] = least[j] = min(least[i], least[j])
    return least


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("shared", [0.0, 1.0])
def test_components_are_those_of_the_pairs_with_weight(shared: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    group = rng.integers(0, 3, 14)
    dense = ((group[:, None] == group) & (rng.random((14, 14)) < 0.9)).astype(np.float64)
    dense = np.minimum(dense, dense.T)
    np.fill_diagonal(dense, 0)
    links = sparse.csr_array((dense - shared) * (1 - np.eye(14)))
    found = Affinity(shared, links).components().tolist()
    expected = components_by_spreading(dense)
    assert len(set(zip(found, expected, strict=True))) == len(set(found)) == len(set(expected))
    assert len(set(found)) > 1


@pytest.mark.parametrize(
    ("affinity", "message"),
    [
        (np.ones((2, 3)), r"shape \(2, 3\)"),
        (np.ones(3), r"shape \(3,\)"),
        (np.array([[0.0, -1.0], [-1.0, 0.0]]), "negative or not finite"),
        (np.array([[0.0, np.nan], [np.nan, 0.0]]), "negative or not finite"),
        (np.array([[0.0, 1.0], [2.0, 0.0]]), "symmetric with a zero diagonal"),
        (np.eye(2), "symmetric with a zero diagonal"),
    ],
)
def test_what_is_no_affinity_is_refused(affinity: Floats, message: str) -> None:
    with pytest.raises(PartitionError, match=message):
        Affinity.from_array(affinity)


def test_links_below_what_is_shared_are_refused() -> None:
    links = sparse.csr_array(np.array([[0.0, -1.5], [-1.5, 0.0]]))
    with pytest.raises(PartitionError, match="negative or not finite"):
        Affinity(1.0, links)
    assert Affinity(1.5, links).linked.tolist() == [False, False]


def test_what_an_affinity_is_made_of_stays_as_it_was() -> None:
    links = sparse.csr_array(
        (np.array([0.0, 0.5, 0.5]), (np.array([0, 0, 1]), np.array([0, 1, 0]))), shape=(2, 2)
    )
    stored = links.nnz
    assert Affinity(0.0, links).links.nnz == 2
    assert links.nnz == stored == 3
