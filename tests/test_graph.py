"""Label graphs: counts against a plain loop, affinities against the formula, files."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy import sparse

from cpsd.errors import PartitionError
from cpsd.graph import (
    LabelGraph,
    co_occurrence_affinity,
    conditional_probability,
    dis_occurrence_affinity,
)
from cpsd.labels import LabelSpace, Targets

LABELS = LabelSpace(("ant", "bee", "cat", "dog"))


def random_targets(*, num_images: int = 60, unknown: float = 0.3, seed: int = 0) -> Targets:
    rng = np.random.default_rng(seed)
    shares = [unknown, 0.7 * (1 - unknown), 0.3 * (1 - unknown)]
    return rng.choice([-1, 0, 1], size=(num_images, len(LABELS)), p=shares).astype(np.int8)


def equal(first: sparse.csr_array, second: sparse.csr_array) -> bool:
    return np.array_equal(first.toarray(), second.toarray())


@pytest.mark.parametrize("unknown", [0.0, 0.3, 0.9])
def test_counts_and_probabilities_equal_a_loop_over_images(unknown: float) -> None:
    targets = random_targets(unknown=unknown)
    graph = LabelGraph.from_targets(targets, LABELS)
    probability = conditional_probability(graph).toarray()
    for i in range(len(LABELS)):
        for j in range(len(LABELS)):
            known = [row for row in targets.tolist() if row[i] != -1 and row[j] != -1]
            both = sum(row[i] == 1 and row[j] == 1 for row in known)
            second = sum(row[j] == 1 for row in known)
            assert graph.images_with_both[i, j] == both
            second_there = sum(row[i] == -1 and row[j] == 1 for row in targets.tolist())
            assert graph.images_with_label_where_unknown[i, j] == second_there
            assert probability[i, j] == (both / second if second else 0)
    assert graph.num_images == len(targets)
    assert graph.images_with_label.tolist() == (targets == 1).sum(axis=0).tolist()


def test_affinities_follow_the_formula() -> None:
    graph = LabelGraph.from_targets(random_targets(), LABELS)
    probability = conditional_probability(graph).toarray()
    together = co_occurrence_affinity(graph).toarray()
    apart = dis_occurrence_affinity(graph).toarray()
    for i in range(len(LABELS)):
        assert together[i, i] == apart[i, i] == 0
        for j in set(range(len(LABELS))) - {i}:
            mean = (probability[i, j] ** 0.5 + probability[j, i] ** 0.5) / 2
            assert together[i, j] == pytest.approx(mean, abs=1e-15)
            assert apart[i, j] == pytest.approx(1 - mean, abs=1e-15)


def test_a_label_never_seen_has_no_co_occurrence_and_full_dis_occurrence() -> None:
    targets = random_targets(unknown=0)
    targets[:, 2] = 0
    graph = LabelGraph.from_targets(targets, LABELS)
    assert not conditional_probability(graph).toarray()[:, 2].any()
    assert not co_occurrence_affinity(graph).toarray()[2].any()
    assert dis_occurrence_affinity(graph).toarray()[2].tolist() == [1, 1, 0, 1]


def test_images_of_which_nothing_is_known_count_only_as_images() -> None:
    targets = random_targets()
    more = np.vstack([targets, np.full((5, 4), -1, dtype=np.int8)])
    without, with_them = (LabelGraph.from_targets(t, LABELS) for t in (targets, more))
    assert equal(with_them.images_with_both, without.images_with_both)
    assert with_them.num_images == len(targets) + 5


def test_no_image_at_all_gives_an_empty_graph() -> None:
    graph = LabelGraph.from_targets(np.empty((0, 4), dtype=np.int8), LABELS)
    assert graph.num_images == 0
    assert conditional_probability(graph).nnz == 0


def test_published_counts_give_the_graph_of_their_targets() -> None:
    targets = random_targets(unknown=0)
    counted = LabelGraph.from_targets(targets, LABELS)
    pairs = counted.images_with_both.toarray() - np.diag(counted.images_with_label)
    graph = LabelGraph.from_counts(
        counted.images_with_label, pairs, labels=LABELS, num_images=len(targets)
    )
    assert equal(graph.images_with_both, counted.images_with_both)
    assert equal(conditional_probability(graph), conditional_probability(counted))


@pytest.mark.parametrize("num_images", [7, None])
def test_a_saved_graph_is_loaded_as_it_was(tmp_path: Path, num_images: int | None) -> None:
    labels = LabelSpace(("Bär", "dining table", "x", "雪"))
    counted = LabelGraph.from_targets(random_targets(num_images=7), labels)
    graph = replace(counted, num_images=num_images)
    path = tmp_path / "run" / "label_graph.npz"
    graph.save(path)
    loaded = LabelGraph.load(path)
    assert loaded.labels == labels
    assert loaded.num_images == num_images
    assert equal(loaded.images_with_both, graph.images_with_both)
    unknown = loaded.images_with_label_where_unknown
    assert equal(unknown, graph.images_with_label_where_unknown)
    assert [file.name for file in path.parent.iterdir()] == ["label_graph.npz"]


def test_a_graph_saved_with_dense_counts_is_read(tmp_path: Path) -> None:
    graph = LabelGraph.from_targets(random_targets(), LABELS)
    unknown = graph.images_with_label_where_unknown.toarray()
    path = tmp_path / "label_graph.npz"
    np.savez_compressed(
        path,
        labels=np.array(LABELS.names),
        num_images=np.int64(60),
        images_with_both=graph.images_with_both.toarray(),
        images_with_label_where_known=graph.images_with_label - unknown,
    )
    loaded = LabelGraph.load(path)
    assert unknown.any()
    assert equal(loaded.images_with_both, graph.images_with_both)
    assert equal(loaded.images_with_label_where_unknown, graph.images_with_label_where_unknown)


def test_sparse_targets_are_counted_as_dense_ones_and_left_as_they_were() -> None:
    targets = random_targets()
    stored = sparse.csr_array(targets)
    graph, dense = (LabelGraph.from_targets(found, LABELS) for found in (stored, targets))
    assert equal(graph.images_with_both, dense.images_with_both)
    assert equal(graph.images_with_label_where_unknown, dense.images_with_label_where_unknown)
    assert graph.num_images == len(targets)
    affinities = [co_occurrence_affinity(graph), dis_occurrence_affinity(graph)]
    assert [len(affinity) for affinity in affinities] == [4, 4]
    assert equal(graph.images_with_both, dense.images_with_both)
    assert np.array_equal(stored.toarray(), targets)


def test_targets_are_counted_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    targets = random_targets()
    whole = LabelGraph.from_targets(targets, LABELS)
    monkeypatch.setattr("cpsd.graph._CHUNK", 4 * 7)
    pieces = LabelGraph.from_targets(targets, LABELS)
    assert equal(pieces.images_with_both, whole.images_with_both)
    assert equal(pieces.images_with_label_where_unknown, whole.images_with_label_where_unknown)


def test_a_missing_graph_is_named(tmp_path: Path) -> None:
    with pytest.raises(PartitionError, match=r"There is no label graph at .*none\.npz"):
        LabelGraph.load(tmp_path / "none.npz")


@pytest.mark.parametrize("damage", ["empty", "text", "truncated", "other arrays", "pickle"])
def test_a_damaged_graph_is_named(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "label_graph.npz"
    LabelGraph.from_targets(random_targets(), LABELS).save(path)
    if damage == "other arrays":
        np.savez(path, counts=np.ones(3))
    elif damage == "pickle":
        np.save(tmp_path / "objects.npy", np.array([{}], dtype=object), allow_pickle=True)
        (tmp_path / "objects.npy").replace(path)
    else:
        content = {"empty": b"", "text": b"no graph", "truncated": path.read_bytes()[:200]}
        path.write_bytes(content[damage])
    with pytest.raises(PartitionError, match=r"label_graph.npz .*damaged"):
        LabelGraph.load(path)


@pytest.mark.parametrize(
    ("single", "both", "message"),
    [
        ([3, 2], np.zeros((3, 3)), r"Counts of shape \(2,\) and \(3, 3\) do not fit 3 labels"),
        ([3, 2, 1], [[0, 2, 0], [2, 0, 2], [0, 2, 0]], "'bee' and 'cat' is 2, which is greater"),
        ([3, 2, 1], [[0, 1, 0], [2, 0, 0], [0, 0, 0]], "'ant' and 'bee' is 1, which differs"),
        ([3, 2, 1], [[0, -1, 0], [-1, 0, 0], [0, 0, 0]], "'ant' and 'bee' is -1, which is neg"),
        ([9, 2, 1], np.zeros((3, 3)), "num_images is 5, but one label alone is in 9 images"),
    ],
)
def test_contradictory_counts_are_refused(single: list[int], both: object, message: str) -> None:
    labels = LabelSpace(("ant", "bee", "cat"))
    with pytest.raises(PartitionError, match=message):
        LabelGraph.from_counts(single, np.array(both), labels=labels, num_images=5)


def test_targets_with_other_columns_are_refused() -> None:
    with pytest.raises(PartitionError, match=r"\(60, 4\) do not fit 2 labels"):
        LabelGraph.from_targets(random_targets(), LabelSpace(("ant", "bee")))
