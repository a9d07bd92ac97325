"""The label graph: how often labels appear, alone and together, and the affinities that follow.

CPSD, section 3.2. Shapes: N images, C labels.
"""

import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import sparse

from cpsd.errors import DataError, PartitionError
from cpsd.files import written_whole
from cpsd.labels import PRESENT, UNKNOWN, LabelSpace, Targets

Counts = NDArray[np.int64]
Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class LabelGraph:
    """Counts of labels and label pairs over a set of images.

    Args:
        labels: the C labels.
        num_images: images that were counted; None where a published count does not say.
        images_with_both: ``(C, C)`` symmetric; images with labels i and j; on the diagonal, images
            with label i.
        images_with_label_where_known: ``(C, C)``; entry (i, j) counts the images with label j among
            those where it is known whether label i is there. All rows are equal where nothing is
            unknown.

    Raises:
        PartitionError: the counts contradict each other.
    """

    labels: LabelSpace
    num_images: int | None
    images_with_both: Counts
    images_with_label_where_known: Counts

    def __post_init__(self) -> None:
        size = len(self.labels)
        both, known = self.images_with_both, self.images_with_label_where_known
        if both.shape != (size, size) or known.shape != (size, size):
            raise PartitionError(
                f"Counts of shape {both.shape} and {known.shape} do not fit {size} labels: "
                f"both must be ({size}, {size})."
            )
        for wrong, what in (
            (both < 0, "is negative"),
            (both != both.T, "differs from the count of the same pair the other way round"),
            (both > known, "is greater than the number of images with the second label"),
        ):
            if wrong.any():
                i, j = (int(index) for index in np.argwhere(wrong)[0])
                raise PartitionError(
                    f"The count of images with both '{self.labels.names[i]}' and "
                    f"'{self.labels.names[j]}' is {both[i, j]}, which {what}."
                )
        if self.num_images is not None and self.num_images < np.diag(both).max():
            raise PartitionError(
                f"num_images is {self.num_images}, but one label alone is in "
                f"{np.diag(both).max()} images."
            )

    @property
    def images_with_label(self) -> Counts:
        """``(C,)`` images with each label."""
        return np.diag(self.images_with_both)

    @classmethod
    def from_targets(cls, targets: Targets, labels: LabelSpace) -> "LabelGraph":
        """Count the labels of N images; a pair is counted where both labels are known.

        Args:
            targets: ``(N, C)`` int8; 1 present, 0 absent, -1 unknown.
            labels: the C labels.

        Raises:
            PartitionError: the targets do not have one column a label.

        Example:
            >>> targets = np.array([[1, 1], [1, 0], [-1, 1]], dtype=np.int8)
            >>> graph = LabelGraph.from_targets(targets, LabelSpace(("cat", "dog")))
            >>> graph.images_with_both.tolist()
            [[2, 1], [1, 2]]
            >>> graph.images_with_label_where_known.tolist()
            [[2, 1], [2, 2]]
        """
        if targets.ndim != 2 or targets.shape[1] != len(labels):
            raise PartitionError(
                f"Targets of shape {targets.shape} do not fit {len(labels)} labels: "
                f"they must be (images, {len(labels)})."
            )
        # Only images with a label count; with few labels an image, sparse products are far cheaper.
        labelled = targets[(targets == PRESENT).any(axis=1)]
        present = sparse.csr_array((labelled == PRESENT).astype(np.int64))
        unknown = sparse.csr_array((labelled == UNKNOWN).astype(np.int64))
        both = (present.T @ present).toarray()
        known = np.diag(both) - (unknown.T @ present).toarray()
        return cls(labels, len(targets), both, known)

    @classmethod
    def from_counts(
        cls,
        images_with_label: ArrayLike,
        images_with_both: ArrayLike,
        *,
        labels: LabelSpace,
        num_images: int | None = None,
    ) -> "LabelGraph":
        """Take over published counts, made where every label is known.

        Args:
            images_with_label: ``(C,)``.
            images_with_both: ``(C, C)`` symmetric; its diagonal is not read.
            labels: the C labels.
            num_images: images that were counted, where that is known.

        Raises:
            PartitionError: the counts have the wrong shape or contradict each other.
        """
        single = np.asarray(images_with_label, dtype=np.int64)
        both = np.array(images_with_both, dtype=np.int64)
        size = len(labels)
        if single.shape != (size,) or both.shape != (size, size):
            raise PartitionError(
                f"Counts of shape {single.shape} and {both.shape} do not fit {size} labels."
            )
        np.fill_diagonal(both, single)
        return cls(labels, num_images, both, np.tile(single, (size, 1)))

    def select(self, columns: NDArray[np.intp]) -> "LabelGraph":
        """Return the graph of the given labels alone, in the given order.

        Example:
            >>> labels = LabelSpace(("cat", "dog", "fox"))
            >>> both = [[0, 1, 2], [1, 0, 0], [2, 0, 0]]
            >>> graph = LabelGraph.from_counts([4, 2, 3], both, labels=labels)
            >>> graph.select(np.array([2, 0])).images_with_both.tolist()
            [[3, 2], [2, 4]]
        """
        pairs = np.ix_(columns, columns)
        return LabelGraph(
            self.labels.select(columns),
            self.num_images,
            self.images_with_both[pairs],
            self.images_with_label_where_known[pairs],
        )

    def save(self, path: Path) -> None:
        """Write the graph as ``.npz``, whole or not at all.

        Raises:
            RunError: the file cannot be written.
        """
        with written_whole(path) as temporary, temporary.open("wb") as file:
            np.savez_compressed(
                file,
                labels=np.array(self.labels.names),
                num_images=np.int64(-1 if self.num_images is None else self.num_images),
                images_with_both=self.images_with_both,
                images_with_label_where_known=self.images_with_label_where_known,
            )

    @classmethod
    def load(cls, path: Path) -> "LabelGraph":
        """Read what ``save`` wrote.

        Raises:
            PartitionError: there is no such file, or it does not hold a label graph.
        """
        try:
            # Opened here: NumPy leaves a damaged file open that it opened itself.
            with path.open("rb") as file, np.load(file, allow_pickle=False) as content:
                num_images = int(content["num_images"])
                return cls(
                    LabelSpace(tuple(str(name) for name in content["labels"])),
                    None if num_images < 0 else num_images,
                    content["images_with_both"],
                    content["images_with_label_where_known"],
                )
        except FileNotFoundError as error:
            raise PartitionError(f"There is no label graph at {path}.") from error
        except PartitionError as error:
            raise PartitionError(f"{path}: {error}") from error
        except (
            OSError,
            EOFError,
            KeyError,
            IndexError,
            TypeError,
            AttributeError,
            ValueError,
            zipfile.BadZipFile,
            DataError,
        ) as error:
            raise PartitionError(
                f"{path} does not hold a label graph, or is damaged; count the labels again."
            ) from error


def conditional_probability(graph: LabelGraph) -> Floats:
    """Return ``(C, C)``: P_ij = N_ij / N_j, how often label i is there when label j is.

    Over the images where both labels are known. It is 0 where label j was never seen in them.
    (CPSD, section 3.2.)

    Example:
        >>> labels = LabelSpace(("cat", "dog"))
        >>> graph = LabelGraph.from_counts([4, 2], [[0, 1], [1, 0]], labels=labels)
        >>> conditional_probability(graph).tolist()
        [[1.0, 0.5], [0.25, 1.0]]
    """
    known = graph.images_with_label_where_known
    return graph.images_with_both / np.maximum(known, 1)


def co_occurrence_affinity(graph: LabelGraph) -> Floats:
    """Return ``(C, C)``: sqrt(P), made symmetric, zero on the diagonal (CPSD, section 3.2).

    A label that was never seen has no link.

    Example:
        >>> labels = LabelSpace(("cat", "dog"))
        >>> graph = LabelGraph.from_counts([4, 1], [[0, 1], [1, 0]], labels=labels)
        >>> co_occurrence_affinity(graph).tolist()  # (sqrt(1) + sqrt(1/4)) / 2
        [[0.0, 0.75], [0.75, 0.0]]
    """
    return _symmetric(np.sqrt(conditional_probability(graph)))


def dis_occurrence_affinity(graph: LabelGraph) -> Floats:
    """Return ``(C, C)``: 1 - sqrt(P), made symmetric, zero on the diagonal (CPSD, section 3.2).

    A label that was never seen has a link of 1 to every other.

    Example:
        >>> labels = LabelSpace(("cat", "dog"))
        >>> graph = LabelGraph.from_counts([4, 1], [[0, 1], [1, 0]], labels=labels)
        >>> dis_occurrence_affinity(graph).tolist()
        [[0.0, 0.25], [0.25, 0.0]]
    """
    return _symmetric(1 - np.sqrt(conditional_probability(graph)))


def _symmetric(weights: Floats) -> Floats:
    affinity: Floats = (weights + weights.T) / 2
    np.fill_diagonal(affinity, 0)
    return affinity
