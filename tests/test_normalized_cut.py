"""Normalized cuts: the definition against a loop, the search against all partitions."""

from collections.abc import Iterator

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import sparse

from cpsd import normalized_cut as cuts
from cpsd.affinity import Affinity
from cpsd.errors import PartitionError

Floats = NDArray[np.float64]


def random_graph(num_nodes: int, density: float, *, seed: int) -> Floats:
    rng = np.random.default_rng(seed)
    shape = (num_nodes, num_nodes)
    upper = np.triu((rng.random(shape) < density) * rng.random(shape), 1)
    graph: Floats = upper + upper.T
    return graph


def cut_graph(affinity: Floats, num_parts: int, **settings: int) -> NDArray[np.intp]:
    return cuts.cut_graph(Affinity.from_array(affinity), num_parts, **settings)


def normalized_cut(affinity: Floats, assignment: NDArray[np.intp]) -> float:
    return cuts.normalized_cut(Affinity.from_array(affinity), assignment)


def cut_by_loop(affinity: Floats, assignment: list[int]) -> float:
    total = 0.0
    for part in set(assignment):
        cut = volume = 0.0
        for i, mine in enumerate(assignment):
            for j, other in enumerate(assignment):
                volume += affinity[i, j] * (mine == part)
                cut += affinity[i, j] * (mine == part and other != part)
        total += cut / volume if volume else 0
    return total


def all_assignments(num_nodes: int, num_parts: int) -> Iterator[list[int]]:
    """Yield every partition into exactly ``num_parts`` parts once (restricted growth strings)."""

    def grow(prefix: list[int], used: int) -> Iterator[list[int]]:
        if len(prefix) == num_nodes:
            if used == num_parts:
                yield prefix
            return
        for part in range(min(used + 1, num_parts)):
            yield from grow([*prefix, part], max(used, part + 1))

    return grow([], 0)


@pytest.mark.parametrize("density", [0.2, 1.0])
def test_normalized_cut_equals_a_loop_over_links(density: float) -> None:
    affinity = random_graph(9, density, seed=1)
    for seed in range(5):
        assignment = np.random.default_rng(seed).integers(0, 3, 9)
        expected = cut_by_loop(affinity, assignment.tolist())
        assert normalized_cut(affinity, assignment) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(
    ("density", "min_size", "seed"),
    [
        # connected and fragmented graphs, with and without isolated nodes, tight and loose sizes
        (1.0, 1, 0),
        (1.0, 2, 1),
        (0.5, 2, 2),
        (0.3, 1, 3),
        (0.2, 2, 4),
        (0.1, 2, 5),
        (0.5, 3, 6),
    ],
)
def test_no_partition_of_a_small_graph_cuts_less(density: float, min_size: int, seed: int) -> None:
    num_nodes = 7
    affinity = random_graph(num_nodes, density, seed=seed)
    for num_parts in range(1, num_nodes // min_size + 1):
        least = min(
            cut_by_loop(affinity, assignment)
            for assignment in all_assignments(num_nodes, num_parts)
            if min(np.bincount(assignment)) >= min_size
        )
        found = cut_graph(affinity, num_parts, seed=0, min_size=min_size)
        assert np.bincount(found, minlength=num_parts).min() >= min_size
        assert cut_by_loop(affinity, found.tolist()) == pytest.approx(least, abs=1e-9)


def test_planted_blocks_are_found() -> None:
    rng = np.random.default_rng(3)
    block = rng.permutation(np.arange(60) % 4)
    linked = rng.random((60, 60)) < np.where(block[:, None] == block, 0.5, 0.05)
    upper = np.triu(linked, 1).astype(np.float64)
    found = cut_graph(upper + upper.T, 4, seed=0, min_size=2)
    assert len(set(zip(block.tolist(), found.tolist(), strict=True))) == 4


def test_whole_components_are_not_cut() -> None:
    affinity: Floats = np.kron(np.eye(5), np.ones((4, 4))).astype(np.float64)
    np.fill_diagonal(affinity, 0)
    for num_parts in range(1, 6):
        found = cut_graph(affinity, num_parts, seed=1, min_size=2)
        assert normalized_cut(affinity, found) == 0
        assert np.bincount(found, minlength=num_parts).min() >= 4


def test_isolated_nodes_fill_up_small_parts() -> None:
    # Two triangles and a lone pair, tied weakly: with two isolated nodes, min_size 3 can be kept.
    affinity = np.zeros((10, 10))
    for group in ((0, 1, 2), (3, 4, 5), (6, 7)):
        for i in group:
            for j in group:
                affinity[i, j] = i != j
    affinity[2, 3] = affinity[3, 2] = affinity[5, 6] = affinity[6, 5] = 0.01
    found = cut_graph(affinity, 3, seed=0, min_size=3)
    assert np.bincount(found).min() == 3
    assert normalized_cut(affinity, found) < 0.02


def test_a_graph_without_links_is_cut_into_parts_of_equal_size() -> None:
    assert sorted(np.bincount(cut_graph(np.zeros((7, 7)), 3, seed=0, min_size=2))) == [2, 2, 3]


@pytest.mark.parametrize("num_parts", [1, 9])
def test_one_part_and_one_part_a_node(num_parts: int) -> None:
    affinity = random_graph(9, 0.6, seed=2)
    found = cut_graph(affinity, num_parts, seed=0)
    assert len(set(found.tolist())) == num_parts


@pytest.mark.parametrize("starts", [1, 2, 16])
def test_the_same_seed_gives_the_same_assignment(starts: int) -> None:
    affinity = random_graph(30, 0.3, seed=4)
    np.random.seed(1)  # the global generator must not matter
    first = cut_graph(affinity, 4, seed=5, starts=starts)
    np.random.seed(2)
    assert np.array_equal(first, cut_graph(affinity, 4, seed=5, starts=starts))


def test_equal_weights_and_their_scale_do_not_matter() -> None:
    affinity = 1.0 - np.eye(12)
    for scale in (1e-9, 1.0, 1e9):
        found = cut_graph(affinity * scale, 4, seed=0, min_size=2)
        # every even partition is optimal: 4 x 27 / 33
        assert normalized_cut(affinity, found) == pytest.approx(4 * 27 / 33)


def test_large_graphs_are_cut_without_dense_matrices(monkeypatch: pytest.MonkeyPatch) -> None:
    # Planted groups of a sparse graph, and the same where every pair has a weight but theirs.
    rng = np.random.default_rng(0)
    group = rng.permutation(np.arange(800) % 4)
    linked = np.triu(rng.random((800, 800)) < np.where(group[:, None] == group, 0.2, 0.01), 1)
    links = sparse.csr_array(linked.astype(np.float64))
    links = links + links.T
    monkeypatch.setattr("cpsd.affinity._MOST_DENSE", 0)
    monkeypatch.setattr(Affinity, "toarray", None)
    for affinity, same in ((Affinity(0.0, links), True), (Affinity(1.0, -links), False)):
        found = cuts.cut_graph(affinity, 4, seed=0, min_size=2)
        together = found[:, None] == found
        share = together[np.nonzero(linked & (group[:, None] == group))].mean()
        assert share > 0.99 if same else share < 0.2
        assert np.bincount(found).min() >= 2
        again = cuts.cut_graph(affinity, 4, seed=0, min_size=2)
        assert np.array_equal(found, again)


def test_parts_keep_their_smallest_size_where_many_nodes_move_at_once() -> None:
    rng = np.random.default_rng(1)
    links = sparse.random_array((600, 600), density=0.02, rng=rng, format="csr")
    links.setdiag(0)
    found = cuts.cut_graph(Affinity(0.0, links + links.T), 6, seed=0, min_size=97)
    assert np.bincount(found, minlength=6).min() >= 97


def test_too_many_parts_are_refused() -> None:
    affinity = random_graph(5, 1.0, seed=0)
    with pytest.raises(PartitionError, match="5 nodes cannot be cut into 3 parts of at least 2"):
        cut_graph(affinity, 3, seed=0, min_size=2)
    with pytest.raises(PartitionError, match="starts is 0"):
        cut_graph(affinity, 2, seed=0, starts=0)
