"""Affinities between nodes that need no dense matrix: one weight for every pair, and differences.

The co-occurrence affinity of many labels is sparse; the dis-occurrence affinity is one everywhere
less what is sparse. Both are ``shared`` for each pair of nodes plus a sparse matrix, and what a cut
asks of them (degrees, products with vectors, single rows) follows from the two.

Shapes: N nodes, R chosen nodes, M columns.
"""

from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import sparse
from scipy.sparse.csgraph import connected_components

from cpsd.errors import PartitionError

Floats = NDArray[np.float64]
Indices = NDArray[np.intp]

_MOST_DENSE = 512
"""Up to so many nodes (2 MB) the weights are dense as well: small sparse products cost more."""


class Affinity:
    """Symmetric weights, at least 0; none of a node with itself.

    Args:
        shared: weight that every pair of different nodes has.
        links: ``(N, N)`` sparse; what is added to it for single pairs, zero on the diagonal.

    Raises:
        PartitionError: weights that are negative, not finite, not symmetric, or on the diagonal.

    Example:
        >>> links = Affinity.from_array([[0, 0.25], [0.25, 0]]).links
        >>> Affinity(1.0, -links).toarray().tolist()
        [[0.0, 0.75], [0.75, 0.0]]
    """

    def __init__(self, shared: float, links: sparse.csr_array) -> None:
        links = sparse.csr_array(links, dtype=np.float64, copy=True)
        if links.shape[0] != links.shape[1] or not links.shape[0]:
            raise PartitionError(f"An affinity has shape {links.shape}; it must be square.")
        links.sum_duplicates()
        links.eliminate_zeros()
        # Rounding may leave a weight that is meant to be zero a little below it.
        if not np.isfinite(links.data).all() or (shared + links.data < -1e-12).any():
            raise PartitionError("An affinity has entries that are negative or not finite.")
        uneven = abs(links - links.T)
        if links.diagonal().any() or (uneven.nnz and uneven.max() > 1e-8 * abs(links).max()):
            raise PartitionError("An affinity must be symmetric with a zero diagonal.")
        self.shared = shared
        self.links = links

    @cached_property
    def links(self) -> sparse.csr_array:
        """``(N, N)`` sparse; what a pair has beyond what all have."""
        return sparse.csr_array(self._dense)  # of a few nodes that were selected

    @classmethod
    def from_array(cls, weights: ArrayLike) -> "Affinity":
        """Return the affinity of a dense matrix ``(N, N)``."""
        dense = np.asarray(weights, dtype=np.float64)
        if dense.ndim != 2:
            raise PartitionError(f"An affinity has shape {dense.shape}; it must be square.")
        return cls(0.0, sparse.csr_array(dense))

    def __len__(self) -> int:
        return int((self.links if self._dense is None else self._dense).shape[0])

    def __matmul__(self, columns: Floats) -> Floats:
        """Return the product with ``(N,)`` or ``(N, M)``."""
        if self._dense is not None:
            return np.asarray(self._dense @ columns)
        product: Floats = self.links @ columns
        if self.shared:
            product += self.shared * (columns.sum(axis=0) - columns)
        return product

    @cached_property
    def degrees(self) -> Floats:
        """``(N,)`` the sum of each node's weights."""
        return self @ np.ones(len(self))

    @cached_property
    def greatest(self) -> float:
        """The greatest weight, 0 where there is none."""
        num_pairs = len(self) * (len(self) - 1)
        of_links = float(self.links.data.max()) if self.links.nnz else 0.0
        absent = self.links.nnz < num_pairs
        return self.shared + (max(of_links, 0.0) if absent or not num_pairs else of_links)

    def toarray(self) -> Floats:
        """Return all weights ``(N, N)``: a matrix for few labels."""
        dense: Floats = self.links.toarray() + self.shared
        np.fill_diagonal(dense, 0)
        return dense

    def rows(self, nodes: Indices) -> Floats:
        """Return the weights ``(R, N)`` of some nodes with all."""
        if self._dense is not None:
            return self._dense[nodes]
        rows: Floats = self.links[nodes].toarray()
        rows += self.shared
        rows[np.arange(len(nodes)), nodes] = 0
        return rows

    @cached_property
    def _dense(self) -> Floats | None:
        return self.toarray() if self.links.shape[0] <= _MOST_DENSE else None

    def select(self, nodes: Indices) -> "Affinity":
        """Return the affinity of some nodes alone, in the given order."""
        if self._dense is None:
            return self._of(self.shared, self.links[nodes][:, nodes])
        part = object.__new__(type(self))
        part.shared, part._dense = 0.0, self._dense[nodes][:, nodes]
        return part

    def scaled(self, factor: float) -> "Affinity":
        """Return every weight times ``factor``."""
        return self._of(self.shared * factor, self.links * factor)

    def plus(self, weight: float) -> "Affinity":
        """Return the affinity with ``weight`` more for every pair."""
        return self._of(self.shared + weight, self.links)

    @classmethod
    def _of(cls, shared: float, links: sparse.csr_array) -> "Affinity":
        """Return what follows from an affinity that has been checked."""
        affinity = object.__new__(cls)
        affinity.shared, affinity.links = shared, links
        return affinity

    @property
    def linked(self) -> NDArray[np.bool_]:
        """``(N,)`` which nodes have a weight with another, by exact zeros and not by sums."""
        if not self.shared:
            return np.asarray(np.diff(self.links.indptr) > 0)
        return np.asarray(np.diff(self._absent.indptr) < len(self) - 1)

    @property
    def _absent(self) -> sparse.csr_array:
        """The pairs whose weight is zero although a weight is shared."""
        absent = self.links.copy()
        absent.data = (self.shared + absent.data <= 0).astype(np.float64)
        absent.eliminate_zeros()
        return absent

    def components(self) -> Indices:
        """Return ``(N,)`` the connected component of every node, numbered from 0."""
        if not self.shared:
            found: Indices = connected_components(self.links, directed=False)[1]
            return found
        # Nearly all pairs have weight: from each node to all that are left and not ruled out.
        absent = self._absent
        component_N = np.full(len(self), -1, dtype=np.intp)
        left = np.ones(len(self), dtype=np.bool_)
        for number in range(len(self)):
            reached = np.flatnonzero(left)[:1].tolist()
            if not reached:
                break
            left[reached] = False
            for node in reached:  # grows on the way
                near = left.copy()
                near[absent.indices[absent.indptr[node] : absent.indptr[node + 1]]] = False
                left &= ~near
                reached += np.flatnonzero(near).tolist()
                if not left.any():
                    break
            component_N[reached] = number
        return component_N

    def weights_before(self, order: Indices) -> Floats:
        """Return ``(N,)`` the weight of each node of ``order`` with all that stand before it."""
        if self._dense is not None:
            return np.asarray(np.tril(self._dense[order][:, order], -1).sum(axis=1))
        place = np.empty(len(self), dtype=np.intp)
        place[order] = np.arange(len(self))
        entries: Any = self.links.tocoo()
        first, second = place[entries.coords[0]], place[entries.coords[1]]
        earlier = second < first
        before = np.bincount(first[earlier], entries.data[earlier], minlength=len(self))
        return np.asarray(before + self.shared * np.arange(len(self)))
