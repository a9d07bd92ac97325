"""The label graph: how often labels appear, alone and together, and the affinities that follow.

CPSD, section 3.2. Counts are sparse: of ten thousand labels few pairs appear together.

Shapes: N images, C labels.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import sparse

from cpsd.affinity import Affinity
from cpsd.array_files import read_npz
from cpsd.errors import PartitionError
from cpsd.files import written_whole
from cpsd.labels import PRESENT, UNKNOWN, LabelSpace, Targets

Counts = NDArray[np.int64]

_CHUNK = 1 << 24
"""Targets looked at in one piece: what is made of them on the way takes some 100 MB."""


@dataclass(frozen=True, eq=False)
class LabelGraph:
    """Counts of labels and label pairs over a set of images.

    Args:
        labels: the C labels.
        num_images: images that were counted; None where a published count does not say.
        images_with_both: ``(C, C)`` symmetric, sparse; images with labels i and j; on the diagonal,
            images with label i.
        images_with_label_where_unknown: ``(C, C)``, sparse; entry (i, j) counts the images with
            label j among those where it is unknown whether label i is there.

    Dense arrays are taken as well.

    Raises:
        PartitionError: the counts contradict each other.
    """

    labels: LabelSpace
    num_images: int | None
    images_with_both: sparse.csr_array
    images_with_label_where_unknown: sparse.csr_array

    def __post_init__(self) -> None:
        size = len(self.labels)
        for name in ("images_with_both", "images_with_label_where_unknown"):
            counts = sparse.csr_array(getattr(self, name), dtype=np.int64, copy=True)
            counts.sum_duplicates()
            counts.eliminate_zeros()
            object.__setattr__(self, name, counts)
        both, unknown = self.images_with_both, self.images_with_label_where_unknown
        if both.shape != (size, size) or unknown.shape != (size, size):
            raise PartitionError(
                f"Counts of shape {both.shape} and {unknown.shape} do not fit {size} labels: "
                f"both must be ({size}, {size})."
            )
        self._refuse(both.data < 0, "is negative")
        uneven = (both - both.T).tocsr()
        uneven.eliminate_zeros()
        if uneven.nnz:
            i, j = (int(index[0]) for index in uneven.nonzero())
            self._refuse_pair(i, j, "differs from the count of the same pair the other way round")
        self._refuse(
            both.data > self._images_with_second_where_known(),
            "is greater than the number of images with the second label",
        )
        single = self.images_with_label
        if self.num_images is not None and self.num_images < single.max():
            raise PartitionError(
                f"num_images is {self.num_images}, but one label alone is in {single.max()} images."
            )

    def _refuse(self, wrong: NDArray[np.bool_], what: str) -> None:
        """Refuse counts of pairs of which any is ``wrong``, in the order of their entries."""
        if wrong.any():
            entry = int(wrong.argmax())
            both = self.images_with_both
            i = int(np.searchsorted(both.indptr, entry, side="right")) - 1
            self._refuse_pair(i, int(both.indices[entry]), what)

    def _refuse_pair(self, i: int, j: int, what: str) -> None:
        raise PartitionError(
            f"The count of images with both '{self.labels.names[i]}' and "
            f"'{self.labels.names[j]}' is {self.images_with_both[i, j]}, which {what}."
        )

    @property
    def images_with_label(self) -> Counts:
        """``(C,)`` images with each label."""
        counts: Counts = self.images_with_both.diagonal()
        return counts

    def _images_with_second_where_known(self) -> Counts:
        """Return, for each stored pair (i, j), images with j among those where i is known."""
        both, unknown = self.images_with_both, self.images_with_label_where_unknown
        counts: Counts = self.images_with_label[both.indices]
        if unknown.nnz:
            rows = np.repeat(np.arange(len(self.labels)), np.diff(both.indptr))
            counts = counts - np.asarray(unknown[rows, both.indices]).ravel()
        return counts

    @classmethod
    def from_targets(cls, targets: Targets | sparse.sparray, labels: LabelSpace) -> "LabelGraph":
        """Count the labels of N images; a pair is counted where both labels are known.

        Args:
            targets: ``(N, C)`` int8; 1 present, 0 absent, -1 unknown. With thousands of labels
                better a sparse array, in which what is not stored is absent.
            labels: the C labels.

        Raises:
            PartitionError: the targets do not have one column a label.

        Example:
            >>> targets = np.array([[1, 1], [1, 0], [-1, 1]], dtype=np.int8)
            >>> graph = LabelGraph.from_targets(targets, LabelSpace(("cat", "dog")))
            >>> graph.images_with_both.toarray().tolist()
            [[2, 1], [1, 2]]
            >>> graph.images_with_label_where_unknown.toarray().tolist()
            [[0, 1], [0, 0]]
        """
        if targets.ndim != 2 or targets.shape[1] != len(labels):
            raise PartitionError(
                f"Targets of shape {targets.shape} do not fit {len(labels)} labels: "
                f"they must be (images, {len(labels)})."
            )
        present = _entries(targets, PRESENT)
        unknown = _entries(targets, UNKNOWN)
        return cls(labels, targets.shape[0], present.T @ present, unknown.T @ present)

    @classmethod
    def from_counts(
        cls,
        images_with_label: ArrayLike,
        images_with_both: ArrayLike | sparse.sparray,
        *,
        labels: LabelSpace,
        num_images: int | None = None,
    ) -> "LabelGraph":
        """Take over published counts, made where every label is known.

        Args:
            images_with_label: ``(C,)``.
            images_with_both: ``(C, C)`` symmetric, dense or sparse; its diagonal is not read.
            labels: the C labels.
            num_images: images that were counted, where that is known.

        Raises:
            PartitionError: the counts have the wrong shape or contradict each other.
        """
        single = np.asarray(images_with_label, dtype=np.int64)
        both = sparse.csr_array(images_with_both, dtype=np.int64)
        size = len(labels)
        if single.shape != (size,) or both.shape != (size, size):
            raise PartitionError(
                f"Counts of shape {single.shape} and {both.shape} do not fit {size} labels."
            )
        both = both + sparse.diags_array(single - both.diagonal(), dtype=np.int64)
        return cls(labels, num_images, both, sparse.csr_array((size, size), dtype=np.int64))

    def select(self, columns: NDArray[np.intp]) -> "LabelGraph":
        """Return the graph of the given labels alone, in the given order.

        Example:
            >>> labels = LabelSpace(("cat", "dog", "fox"))
            >>> both = [[0, 1, 2], [1, 0, 0], [2, 0, 0]]
            >>> graph = LabelGraph.from_counts([4, 2, 3], both, labels=labels)
            >>> graph.select(np.array([2, 0])).images_with_both.toarray().tolist()
            [[3, 2], [2, 4]]
        """
        return LabelGraph(
            self.labels.select(columns),
            self.num_images,
            self.images_with_both[columns][:, columns],
            self.images_with_label_where_unknown[columns][:, columns],
        )

    def save(self, path: Path) -> None:
        """Write the graph as ``.npz``, whole or not at all.

        Of the symmetric counts one half is written, both as row pointers, columns and values.

        Raises:
            RunError: the file cannot be written.
        """
        halves = {
            "both": sparse.triu(self.images_with_both, format="csr"),
            "unknown": self.images_with_label_where_unknown,
        }
        arrays = {
            f"{name}_{part}": getattr(counts, part)
            for name, counts in halves.items()
            for part in _CSR_PARTS
        }
        with written_whole(path) as temporary, temporary.open("wb") as file:
            np.savez_compressed(
                file,
                allow_pickle=False,
                labels=np.array(self.labels.names),
                num_images=np.int64(-1 if self.num_images is None else self.num_images),
                **arrays,
            )

    @classmethod
    def load(cls, path: Path) -> "LabelGraph":
        """Read what ``save`` wrote, or wrote when counts were dense.

        Raises:
            PartitionError: there is no such file, or it does not hold a label graph.
        """
        try:
            content = read_npz(path)
            num_images = int(content["num_images"])
            return cls(
                LabelSpace(tuple(str(name) for name in content["labels"])),
                None if num_images < 0 else num_images,
                *_saved_counts(content),
            )
        except FileNotFoundError as error:
            raise PartitionError(f"There is no label graph at {path}.") from error
        except PartitionError as error:
            raise PartitionError(f"{path}: {error}") from error
        # Arrays that do not fit each other make SciPy fail in ways that have no common root.
        except Exception as error:
            raise PartitionError(
                f"{path} does not hold a label graph, or is damaged; count the labels again."
            ) from error


_CSR_PARTS = ("data", "indices", "indptr")


def _saved_counts(content: Mapping[str, NDArray[Any]]) -> tuple[Any, Any]:
    """Return the counts of pairs, and those where the first label is unknown."""
    if "images_with_both" in content:  # as files were before 0.2: dense, and where it is known
        both, known = content["images_with_both"], content["images_with_label_where_known"]
        return both, np.diag(both) - known
    size = len(content["labels"])
    half, unknown = (
        _csr_array(*(content[f"{name}_{part}"] for part in _CSR_PARTS), size=size)
        for name in ("both", "unknown")
    )
    return half + sparse.triu(half, 1).T, unknown


def _csr_array(
    data: NDArray[Any], indices: NDArray[Any], indptr: NDArray[Any], *, size: int
) -> sparse.csr_array:
    """Return a square array of its parts.

    SciPy believes them (``check_format`` too, where the last end is 0), and writes beyond its
    memory where they lead there.

    Raises:
        ValueError: they lead beyond the array or each other.
    """
    if not (
        all(np.issubdtype(places.dtype, np.integer) for places in (indices, indptr))
        and indptr.shape == (size + 1,)
        and indptr[0] == 0
        and (indptr[1:] >= indptr[:-1]).all()
        and data.shape == indices.shape == (indptr[-1],)
        and ((indices >= 0) & (indices < size)).all()
    ):
        raise ValueError("places lead beyond the counts")
    return sparse.csr_array((data, indices, indptr), shape=(size, size))


def _entries(targets: Targets | sparse.sparray, value: int) -> sparse.csr_array:
    """Return ``(N, C)`` with a 1 where a target has ``value``, piece by piece of the images."""
    if sparse.issparse(targets):
        entries = sparse.coo_array(targets)
        chosen = entries.data == value
        places = tuple(coords[chosen] for coords in entries.coords)
        ones = np.ones(np.count_nonzero(chosen), dtype=np.int64)
        return sparse.csr_array((ones, places), shape=targets.shape)
    rows = max(1, _CHUNK // targets.shape[1])
    pieces = [
        sparse.csr_array(targets[begin : begin + rows] == value)
        for begin in range(0, len(targets), rows)
    ]
    whole = sparse.vstack(pieces, format="csr") if pieces else sparse.csr_array(targets.shape)
    return whole.astype(np.int64)


def conditional_probability(graph: LabelGraph) -> sparse.csr_array:
    """Return ``(C, C)``, sparse: P_ij = N_ij / N_j, how often label i is there when label j is.

    Over the images where both labels are known. It is 0 where label j was never seen in them.
    (CPSD, section 3.2.)

    Example:
        >>> labels = LabelSpace(("cat", "dog"))
        >>> graph = LabelGraph.from_counts([4, 2], [[0, 1], [1, 0]], labels=labels)
        >>> conditional_probability(graph).toarray().tolist()
        [[1.0, 0.5], [0.25, 1.0]]
    """
    both = graph.images_with_both
    shares = both.data / graph._images_with_second_where_known()
    return sparse.csr_array((shares, both.indices, both.indptr), both.shape, copy=True)


def co_occurrence_affinity(graph: LabelGraph) -> Affinity:
    """Return sqrt(P), made symmetric, zero on the diagonal (CPSD, section 3.2).

    A label that was never seen has no link.

    Example:
        >>> labels = LabelSpace(("cat", "dog"))
        >>> graph = LabelGraph.from_counts([4, 1], [[0, 1], [1, 0]], labels=labels)
        >>> co_occurrence_affinity(graph).toarray().tolist()  # (sqrt(1) + sqrt(1/4)) / 2
        [[0.0, 0.75], [0.75, 0.0]]
    """
    return Affinity(0.0, _symmetric_root(graph))


def dis_occurrence_affinity(graph: LabelGraph) -> Affinity:
    """Return 1 - sqrt(P), made symmetric, zero on the diagonal (CPSD, section 3.2).

    A label that was never seen has a link of 1 to every other.

    Example:
        >>> labels = LabelSpace(("cat", "dog"))
        >>> graph = LabelGraph.from_counts([4, 1], [[0, 1], [1, 0]], labels=labels)
        >>> dis_occurrence_affinity(graph).toarray().tolist()
        [[0.0, 0.25], [0.25, 0.0]]
    """
    return Affinity(1.0, -_symmetric_root(graph))


def _symmetric_root(graph: LabelGraph) -> sparse.csr_array:
    """Return ``(sqrt(P) + sqrt(P)^T) / 2`` without its diagonal."""
    root = conditional_probability(graph)
    root.data = np.sqrt(root.data) / 2
    rows = np.repeat(np.arange(root.shape[0]), np.diff(root.indptr))
    root.data[rows == root.indices] = 0
    root.eliminate_zeros()
    return (root + root.T).tocsr()
