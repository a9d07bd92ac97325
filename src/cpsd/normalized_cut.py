"""Cut a weighted graph into parts with a small normalized cut.

    Ncut = sum over parts p of cut(p, rest) / vol(p)        (CPSD, section 3.2; Shi & Malik, 2000)

``vol(p)`` is the sum of the degrees of the part's nodes, ``cut(p, rest)`` the weight of the links
that leave it. A part without volume (isolated nodes only) cuts nothing and counts 0.

The search holds several states, one per start: spectral labellings, which alone find the best cut
of some graphs, and random ones. In a step every state moves one node to another part: the move that
lowers its cut most or, in a local minimum, raises it least; a node that has moved rests for a few
steps, so that a state does not just fall back. Sums of links and volumes run along, so that all
moves of a state are weighed in O(N K). A state that finds nothing better for a while goes on from a
shaken copy of a good cut. The best cut that any state has met is the result. Where nodes go by the
hundred, a step makes one move for each hundred of them, as far as they lower the cut, and there are
fewer states.

No step needs the affinity as a dense matrix: products with vectors, rows of single nodes and the
affinity of a part's nodes do (``cpsd.affinity``).

Parts keep a smallest size. Every second state may break it by one node for the length of one step:
two such moves are the swap that a state with only smallest parts needs.

Isolated nodes cost nothing wherever they are. They stay out of the search and fill up small parts
after it, so that a state may lack as many nodes as there are isolated ones.

Shapes: S states, K parts, N nodes.
"""

import numpy as np
from numpy.typing import NDArray

from cpsd.affinity import Affinity
from cpsd.cut_states import CutStates
from cpsd.errors import PartitionError
from cpsd.seeds import derive_seed
from cpsd.spectral import leading_vectors, spectral_labellings

Indices = NDArray[np.intp]

_STALE = 20
"""Steps without a better cut after which a state is shaken; fewer do not reach the next minimum."""
_SETTLED_PER_PART, _SETTLED_PER_NODE = 80, 20
"""Steps without a better cut in any state after which the search ends; the smaller of the two."""
_MAX_STEPS = 3000
_MAX_WORK = 3e8
"""Moves weighed at most, some seconds; it only binds on graphs of many hundred nodes."""
_MOST_SUMS = 600_000
"""Links of nodes to parts in all states, at most: with more of them there are fewer states."""
_FEWEST_STATES = 2


def normalized_cut(affinity: Affinity, assignment: Indices) -> float:
    """Return the normalized cut of an assignment of nodes to parts.

    Args:
        affinity: between N nodes.
        assignment: ``(N,)`` the part of every node, from 0 on.

    Example:
        >>> links = [[0, 3, 1, 0], [3, 0, 0, 0], [1, 0, 0, 3], [0, 0, 3, 0]]
        >>> cut = normalized_cut(Affinity.from_array(links), np.array([0, 0, 1, 1]))
        >>> round(cut, 4)  # 1/7 + 1/7
        0.2857
    """
    member_NK = np.eye(int(assignment.max()) + 1)[assignment]
    between_KK = member_NK.T @ (affinity @ member_NK)
    volume_K = between_KK.sum(axis=1)
    cut_K = volume_K - np.diag(between_KK)
    present_K = volume_K > 0
    return float((cut_K[present_K] / volume_K[present_K]).sum())


def cut_graph(
    affinity: Affinity, num_parts: int, *, seed: int, min_size: int = 1, starts: int = 16
) -> Indices:
    """Return an assignment of nodes to parts with a small normalized cut.

    The same arguments give the same assignment.

    Args:
        affinity: between N nodes.
        num_parts: how many parts; none is left empty.
        seed: seed of the starts and of the search.
        min_size: smallest number of nodes in a part.
        starts: how many states are searched from; the first ones are spectral. With thousands of
            nodes there are fewer.

    Returns:
        ``(N,)`` the part of every node, numbered from 0.

    Raises:
        PartitionError: there are too few nodes.

    Example:
        >>> blocks = np.kron(np.eye(2), np.ones((3, 3))) + 0.1
        >>> np.fill_diagonal(blocks, 0)
        >>> part = cut_graph(Affinity.from_array(blocks), 2, seed=0)
        >>> part.tolist() in ([0, 0, 0, 1, 1, 1], [1, 1, 1, 0, 0, 0])
        True
    """
    num_nodes = len(affinity)
    _require_room(num_nodes, num_parts, min_size, starts)
    linked = np.flatnonzero(affinity.linked)
    assignment = np.full(num_nodes, -1, dtype=np.intp)
    if num_parts == 1:
        return np.zeros(num_nodes, dtype=np.intp)
    if len(linked):
        core = affinity if len(linked) == num_nodes else affinity.select(linked)
        # Cuts do not depend on the scale of the weights; the search's tolerances do.
        assignment[linked] = _search(
            core.scaled(1 / core.greatest),
            num_parts,
            seed=seed,
            min_size=min_size,
            spare=num_nodes - len(linked),
            starts=starts,
        )
    size_K = np.bincount(assignment[linked], minlength=num_parts)
    for node in np.flatnonzero(assignment < 0):
        smallest = int(size_K.argmin())
        assignment[node] = smallest
        size_K[smallest] += 1
    return assignment


def _require_room(num_nodes: int, num_parts: int, min_size: int, starts: int) -> None:
    for name, value in (("num_parts", num_parts), ("min_size", min_size), ("starts", starts)):
        if value < 1:
            raise PartitionError(f"{name} is {value}; it must be at least 1.")
    if num_parts * min_size > num_nodes:
        raise PartitionError(
            f"{num_nodes} nodes cannot be cut into {num_parts} parts of at least {min_size}."
        )


def _search(
    affinity: Affinity, num_parts: int, *, seed: int, min_size: int, spare: int, starts: int
) -> Indices:
    """Search a graph without isolated nodes; ``spare`` of them will fill up small parts."""
    rng = np.random.default_rng(derive_seed(seed, "tabu search"))
    starts = min(starts, max(_FEWEST_STATES, _MOST_SUMS // (num_parts * len(affinity))))
    first = _starts(affinity, num_parts, seed=seed, min_size=min_size, spare=spare, rng=rng)
    first = first[:starts]
    while len(first) < starts:
        first.append(rng.permutation(len(affinity)) % num_parts)
    for assignment in first:
        _repair(assignment, num_parts, min_size=min_size, spare=spare, rng=rng)
    states = CutStates(affinity, num_parts, min_size=min_size, spare=spare, first=np.array(first))
    num_steps = min(_MAX_STEPS, int(_MAX_WORK / (starts * num_parts * len(affinity))) + 1)
    patience = min(_SETTLED_PER_PART * num_parts, _SETTLED_PER_NODE * len(affinity))
    best, settled_at = np.inf, 0
    for step in range(num_steps):
        states.step(rng)
        if states.best_S.min() < best * (1 - 1e-6) - 1e-9:
            best, settled_at = states.best_S.min(), step
        elif step - settled_at > patience or best < 1e-9:
            break
        stale = (states.stale_S >= _STALE).nonzero()[0]
        for state in stale:
            shaken = _shake(states, int(state), rng)
            _repair(shaken, num_parts, min_size=min_size, spare=spare, rng=rng)
            states.assignment_SN[state] = shaken
        states.restart(stale)
    # Running sums drift: the winner is chosen by its exact cut.
    cuts = [normalized_cut(affinity, assignment) for assignment in states.best_SN]
    best_N: Indices = states.best_SN[int(np.argmin(cuts))]
    return best_N


def _starts(
    affinity: Affinity,
    num_parts: int,
    *,
    seed: int,
    min_size: int,
    spare: int,
    rng: np.random.Generator,
) -> list[Indices]:
    """Return the starts that follow from the graph, in the order of their promise."""
    component_N = affinity.components()
    starts = []
    if component_N.any():
        # Whole components in one part cut nothing: the largest first, each to the smallest part.
        size_K = np.zeros(num_parts, dtype=np.intp)
        packed = np.empty(len(affinity), dtype=np.intp)
        sizes = np.bincount(component_N)
        for component in np.argsort(-sizes, kind="stable"):
            part = int(size_K.argmin())
            packed[component_N == component] = part
            size_K[part] += sizes[component]
        starts.append(packed)
        # Spectral embedding wants a connected graph; a faint link everywhere keeps its components.
        affinity = affinity.plus(1e-4 * affinity.degrees.mean() / len(affinity))
    vectors_NK = leading_vectors(affinity, num_parts, seed=seed)
    starts += spectral_labellings(affinity, vectors_NK, num_parts, seed=seed)
    # Isolated nodes can be parts of their own, which cut nothing and leave fewer to be cut.
    own_parts = min(num_parts - 1, spare // min_size)
    if own_parts:
        starts += spectral_labellings(affinity, vectors_NK, num_parts - own_parts, seed=seed)
        starts.append(rng.permutation(len(affinity)) % (num_parts - own_parts))
    return starts


def _repair(
    assignment: Indices, num_parts: int, *, min_size: int, spare: int, rng: np.random.Generator
) -> None:
    """Move nodes, in place, from the largest to the smallest part until sizes are allowed."""
    size_K = np.bincount(assignment, minlength=num_parts)
    while np.maximum(min_size - size_K, 0).sum() > spare:
        largest, smallest = int(size_K.argmax()), int(size_K.argmin())
        assignment[rng.choice(np.flatnonzero(assignment == largest))] = smallest
        size_K[largest] -= 1
        size_K[smallest] += 1


def _shake(states: CutStates, state: int, rng: np.random.Generator) -> Indices:
    """Return a changed copy of a good cut, from which a stale state goes on."""
    order = states.best_S.argsort(kind="stable")
    better = order[rng.integers(len(order) // 2 + 1)] if len(order) > 1 else 0
    assignment: Indices = states.best_SN[rng.choice([state, order[0], better])].copy()
    if rng.random() < 1 / 3:
        moved = rng.random(len(assignment)) < rng.uniform(0.05, 0.4)
        assignment[moved] = rng.integers(0, states.num_parts, int(moved.sum()))
    else:
        _merge_and_split(assignment, states.affinity, states.num_parts, rng)
    return assignment


def _merge_and_split(
    assignment: Indices, affinity: Affinity, num_parts: int, rng: np.random.Generator
) -> None:
    """Join two parts, mostly linked ones, and split them or another part anew, in place."""
    freed = int(rng.integers(num_parts))
    links_N = affinity @ (assignment == freed).astype(np.float64)
    links_K = np.bincount(assignment, links_N, minlength=num_parts)
    links_K[freed] = 0
    if links_K.any() and rng.random() < 0.7:
        joined = int(rng.choice(num_parts, p=links_K / links_K.sum()))
    else:
        joined = (freed + int(rng.integers(1, num_parts))) % num_parts
    assignment[assignment == freed] = joined
    size_K = np.bincount(assignment, minlength=num_parts)
    divisible = np.flatnonzero(size_K > 1)
    if not len(divisible):
        return
    divided = joined if size_K[joined] > 1 and rng.random() < 0.5 else rng.choice(divisible)
    members = np.flatnonzero(assignment == divided)
    assignment[members[_half(affinity.select(members), rng)]] = freed


def _half(affinity: Affinity, rng: np.random.Generator) -> Indices:
    """Return the nodes on one side of a good two-way cut, another one at each call.

    A few power iterations from a random vector give a mixture of the leading eigenvectors of the
    normalized affinity; of the cuts between neighbours in its order the best is taken.
    """
    degree = affinity.degrees + 1e-6
    root = np.sqrt(degree)
    trivial = root / np.linalg.norm(root)
    vector = rng.standard_normal(len(root))
    for _ in range(rng.integers(5, 21)):
        # The shift keeps eigenvalues near -1, whose vectors tell friends apart, from winning.
        vector = affinity @ (vector / root) / root + 0.3 * vector
        vector -= trivial * (trivial @ vector)
    order = np.argsort(vector / root, kind="stable")
    earlier = affinity.weights_before(order)
    before = np.cumsum(earlier)
    after = np.cumsum((affinity.degrees[order] - earlier)[::-1])[::-1]
    volume = np.cumsum(degree[order])
    together = before[:-1] / volume[:-1] + after[1:] / (volume[-1] - volume[:-1])
    return order[: int(together.argmax()) + 1]
