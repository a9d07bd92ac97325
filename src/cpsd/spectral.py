"""Spectral labellings of a graph: where the search for a small normalized cut begins.

The leading eigenvectors of the normalized affinity D^-1/2 A D^-1/2 solve the relaxed problem (Shi &
Malik, 2000; von Luxburg, 2007). They are asked of ARPACK by products with vectors alone. Ways to
round them to parts differ in what they are good at, so all are tried.

Shapes: N nodes, K parts.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import polar, qr
from scipy.sparse.linalg import ArpackNoConvergence, LinearOperator, eigsh
from sklearn.cluster import KMeans

from cpsd.affinity import Affinity
from cpsd.seeds import derive_seed

Floats = NDArray[np.float64]
Indices = NDArray[np.intp]

_EXACT_ENOUGH = 1e-3
"""Relative error of an eigenvalue: a start is rounded to parts and then searched from."""
_MOST_RESTARTS = 12
"""Of the eigensolver; vectors that have not converged by then are starts all the same."""


def leading_vectors(affinity: Affinity, num_vectors: int, *, seed: int) -> Floats:
    """Return ``(N, K)`` eigenvectors of the normalized affinity, that of the greatest value first.

    There are fewer where the graph has hardly more nodes than that, or where ARPACK does not come
    to an end with them.

    Args:
        affinity: between N nodes, none of them isolated.
        num_vectors: K.
        seed: of the vector that ARPACK begins with.
    """
    root_N = np.sqrt(affinity.degrees)
    num_nodes = len(affinity)
    if num_vectors >= num_nodes:
        return np.empty((num_nodes, 0))
    # The shift makes the operator positive: the greatest values are the greatest in size.
    operator: Any = LinearOperator(
        (num_nodes, num_nodes),
        dtype=np.float64,
        matvec=lambda v: affinity @ (v.ravel() / root_N) / root_N,
    )
    begin = np.random.default_rng(derive_seed(seed, "spectral start")).standard_normal(num_nodes)
    try:
        values, vectors = eigsh(
            operator,
            k=num_vectors,
            which="LA",
            v0=begin,
            tol=_EXACT_ENOUGH,
            ncv=min(num_nodes, max(3 * num_vectors, 20)),
            maxiter=_MOST_RESTARTS,
        )
    except ArpackNoConvergence as error:
        values, vectors = error.eigenvalues, error.eigenvectors
    return np.asarray(vectors[:, np.argsort(-values, kind="stable")], dtype=np.float64)


def spectral_labellings(
    affinity: Affinity, vectors_NK: Floats, num_parts: int, *, seed: int
) -> list[Indices]:
    """Return labellings ``(N,)`` with up to ``num_parts`` parts, none where there are no vectors.

    Args:
        affinity: between N nodes.
        vectors_NK: what ``leading_vectors`` gave, at least ``num_parts`` of them where it could.
        num_parts: K.
        seed: of k-means.
    """
    if num_parts == 1:
        return [np.zeros(len(affinity), dtype=np.intp)]
    vectors_NK = vectors_NK[:, :num_parts]
    if vectors_NK.shape[1] == 0:
        return []
    by_degree_NK = vectors_NK / np.sqrt(affinity.degrees)[:, None]
    length_N1 = np.linalg.norm(vectors_NK, axis=1, keepdims=True)
    on_sphere_NK = vectors_NK / np.maximum(length_N1, np.finfo(np.float64).tiny)
    return [
        _by_k_means(by_degree_NK, num_parts, seed=seed),
        _by_rotation(on_sphere_NK),
        _by_k_means(on_sphere_NK, num_parts, seed=seed),
    ]


def _by_k_means(points_NK: Floats, num_parts: int, *, seed: int) -> Indices:
    """Return the labelling by k-means (Ng, Jordan & Weiss, 2001, for points on the sphere)."""
    clusters = KMeans(num_parts, n_init=3, random_state=derive_seed(seed, "k-means") % 2**32)
    return np.asarray(clusters.fit(points_NK).labels_, dtype=np.intp)


def _by_rotation(points_NK: Floats) -> Indices:
    """Return the labelling by the axis nearest to each point once the axes fit the points.

    The pivots of a QR factorization are points of as many directions as there are axes; the
    rotation is the orthogonal matrix nearest to them (Damle, Minden & Ying, 2019).
    """
    _, pivots = qr(points_NK.T, mode="r", pivoting=True)
    rotation, _ = polar(points_NK[pivots[: points_NK.shape[1]]].T)
    return np.asarray(np.abs(points_NK @ rotation).argmax(axis=1), dtype=np.intp)
