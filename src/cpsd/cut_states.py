"""The states of a normalized-cut search, side by side, and the step that improves them.

Shapes: S states, K parts, N nodes.
"""

import numpy as np
from numpy.typing import NDArray

from cpsd.affinity import Affinity

Floats = NDArray[np.float64]
Indices = NDArray[np.intp]

_MARGIN = 1e-10
"""A cut must be better by this much: running sums drift by less."""
_TINY = np.finfo(np.float64).tiny
_NODES_A_MOVE = 100
"""Nodes for each of which a step may make one move: so few of them hardly change each other's."""
_RESTING = 1e3
"""Added to the cost of moving a resting node: only moved where nothing else can be."""
_LEFT_AND_ENTERED = np.array((-1, 1))
"""What a move takes away from the part that a node leaves, and adds to the one that it enters."""


def _cost(within: Floats, volume: Floats, size: Indices) -> Floats:
    """Return cut / volume of parts, 0 for a part without nodes.

    Running sums may leave a rest where nothing is left, hence the bounds.
    """
    share = within / np.maximum(volume, _TINY)
    cost: Floats = (1 - np.minimum(np.maximum(share, 0), 1)) * (size > 0)
    return cost


class CutStates:
    """Assignments of nodes to parts with the sums that tell what each move would change.

    Args:
        affinity: between N nodes, none of them isolated.
        num_parts: K, at least 2.
        min_size: smallest number of nodes in a part.
        spare: how many nodes may be lacking to that.
        first: ``(S, N)`` the assignments to begin with.
    """

    def __init__(
        self, affinity: Affinity, num_parts: int, *, min_size: int, spare: int, first: Indices
    ) -> None:
        num_states, num_nodes = first.shape
        self.affinity = affinity
        self.num_parts = num_parts
        self.assignment_SN = first.copy()
        self.best_SN = first.copy()
        """The best assignment of each state so far, sizes respected."""
        self.best_S = np.full(num_states, np.inf)
        """Its normalized cut."""
        self.stale_S = np.zeros(num_states, dtype=np.intp)
        """Steps since the state last found a better cut than before in its present try."""
        self._min_size = min_size
        # Every second state may break the sizes by one node, until its next step.
        self._lack_S = spare + np.arange(num_states) % 2
        self._spare = spare
        self._degree_N = affinity.degrees
        self._batch = max(1, num_nodes // _NODES_A_MOVE)
        self._try_best_S = np.full(num_states, np.inf)
        self._rests_SN = np.zeros((num_states, num_nodes), dtype=np.intp)
        self._rows_S = np.arange(num_states)
        self._nodes_N = np.arange(num_nodes)
        # Where, among the parts of all states, each node's own part stands.
        self._own_SN = self._rows_S[:, None] * num_parts + first
        self._longest_rest = max(1, min(10, num_nodes // 4))
        self._links_SKN = np.empty((num_states, num_parts, num_nodes))
        self._within_SK = np.empty((num_states, num_parts))
        self._volume_SK = np.empty((num_states, num_parts))
        self._size_SK = np.empty((num_states, num_parts), dtype=np.intp)
        self._cost_SK = np.empty((num_states, num_parts))
        # The same memory by entry, a part of a state: numpy is faster at one index than at two.
        self._links_EN = self._links_SKN.reshape(-1, num_nodes)
        self._within_E = self._within_SK.reshape(-1)
        self._volume_E = self._volume_SK.reshape(-1)
        self._size_E = self._size_SK.reshape(-1)
        self._cost_E = self._cost_SK.reshape(-1)
        self._lacking_S = np.empty(num_states, dtype=np.intp)
        self._gain_SKN = np.empty((num_states, num_parts, num_nodes))
        self._gain_EN = self._gain_SKN.reshape(-1, num_nodes)
        # Taken once: memory of this size comes in new pages each time.
        self._change_SKN = np.empty((num_states, num_parts, num_nodes))
        self.restart(np.arange(num_states))

    def restart(self, states: Indices) -> None:
        """Compute the sums of ``states`` afresh from their assignments and forget their try."""
        if not len(states):
            return
        parts_K = np.arange(self.num_parts)
        member_SKN = (self.assignment_SN[states, None, :] == parts_K[:, None]).astype(np.float64)
        num_nodes = len(self._nodes_N)
        links_NX = self.affinity @ member_SKN.reshape(-1, num_nodes).T
        self._links_SKN[states] = links_NX.T.reshape(member_SKN.shape)
        self._within_SK[states] = (self._links_SKN[states] * member_SKN).sum(axis=2)
        self._volume_SK[states] = member_SKN @ self._degree_N
        self._size_SK[states] = member_SKN.sum(axis=2).astype(np.intp)
        self._own_SN[states] = states[:, None] * self.num_parts + self.assignment_SN[states]
        self._weigh_entries((states[:, None] * self.num_parts + parts_K).reshape(-1))
        self._rests_SN[states] = 0
        self._try_best_S[states] = np.inf
        self._record()

    def step(self, rng: np.random.Generator) -> None:
        """Make the best moves of every state: O(S K N).

        The best one in any case; of further ones, where there are nodes by the hundred, those that
        lower the cut. They are weighed together and made one after another.
        """
        moved = self._chosen_moves(self._weigh_moves())
        touched = []
        for rows, source, target, node in moved:
            # Both parts at once: a node never enters the one that it leaves.
            left, entered = rows * self.num_parts + source, rows * self.num_parts + target
            entries, nodes = np.concatenate((left, entered)), np.concatenate((node, node))
            sign = np.repeat(_LEFT_AND_ENTERED, len(rows))
            weights_RN = self.affinity.rows(node)
            self._within_E[entries] += 2 * sign * self._links_EN[entries, nodes]
            self._volume_E[entries] += sign * self._degree_N.take(nodes)
            self._size_E[entries] += sign
            self._links_EN[left] -= weights_RN
            self._links_EN[entered] += weights_RN
            self.assignment_SN[rows, node] = target
            self._own_SN[rows, node] = entered
            touched.append(entries)
        self._weigh_entries(touched[0] if len(touched) == 1 else np.unique(np.concatenate(touched)))
        np.maximum(self._rests_SN - 1, 0, out=self._rests_SN)
        for rows, _, _, node in moved:
            self._rests_SN[rows, node] = rng.integers(1, self._longest_rest + 1, len(rows))
        self.stale_S += 1
        self._record()

    def _chosen_moves(self, change_SKN: Floats) -> list[tuple[Indices, Indices, Indices, Indices]]:
        """Return the moves of a step by rank: states, each once, parts left and entered, nodes."""
        num_states, num_nodes = self.assignment_SN.shape
        rows = self._rows_S
        flat_SX = change_SKN.reshape(num_states, -1)
        best = flat_SX.argmin(axis=1)
        movable = np.isfinite(flat_SX[rows, best])
        rows, best = rows[movable], best[movable]
        target, node = np.divmod(best, num_nodes)
        moves = [(rows, self.assignment_SN[rows, node], target, node)]
        if self._batch == 1:
            return moves
        least_SN = change_SKN.min(axis=1)
        # A part may not fall below its smallest size by moves that were weighed together.
        ample_SK = self._size_SK > self._min_size + self._batch
        least_SN[~np.take_along_axis(ample_SK, self.assignment_SN, axis=1)] = np.inf
        least_SN[rows, node] = np.inf
        further_SM = np.argpartition(least_SN, self._batch, axis=1)[:, : self._batch - 1]
        for node in further_SM.T:
            rows = np.flatnonzero(least_SN[self._rows_S, node] < -_MARGIN)
            node = node[rows]
            target = change_SKN[rows, :, node].argmin(axis=1)
            moves.append((rows, self.assignment_SN[rows, node], target, node))
        return [move for move in moves if len(move[0])]

    def _weigh_entries(self, entries: Indices) -> None:
        """Update what the cost of a part changes by when a node enters it.

        Args:
            entries: state times K plus part, each.
        """
        within, volume = self._within_E.take(entries), self._volume_E.take(entries)
        before = _cost(within, volume, self._size_E.take(entries))
        gain_RN = 2 * self._links_EN.take(entries, axis=0)
        gain_RN += within[:, None]
        gain_RN /= volume[:, None] + self._degree_N
        np.subtract(1, gain_RN, out=gain_RN)
        gain_RN -= before[:, None]
        states, part = np.divmod(entries, self.num_parts)
        gain_RN[self.assignment_SN.take(states, axis=0) == part[:, None]] = np.inf
        self._gain_EN[entries] = gain_RN
        self._cost_E[entries] = before

    def _weigh_moves(self) -> Floats:
        """Return ``(S, K, N)`` the change of the cut by each move, inf where it is not allowed."""
        own_SN = self._own_SN
        size_SN = self._size_SK.take(own_SN)
        leave_SN = _cost(
            self._within_SK.take(own_SN)
            - 2 * self._links_SKN.take(own_SN * len(self._nodes_N) + self._nodes_N),
            self._volume_SK.take(own_SN) - self._degree_N,
            size_SN - 1,
        )
        leave_SN -= self._cost_SK.take(own_SN)
        leave_SN += _RESTING * (self._rests_SN > 0)
        change_SKN = np.add(self._gain_SKN, leave_SN[:, None, :], out=self._change_SKN)
        # How many nodes a state may still come to lack; a move changes that by one at most. A
        # state that lacks too many must mend that.
        lacking_S = self._lacking_S
        room_S = np.where(lacking_S > self._spare, self._spare, self._lack_S) - lacking_S
        full = ((room_S < 1) & (self._size_SK.min(axis=1) <= self._min_size)).nonzero()[0]
        if len(full):
            lost_RN = (size_SN[full] <= self._min_size).astype(np.intp)
            won_RK = (self._size_SK[full] < self._min_size).astype(np.intp)
            over = lost_RN[:, None, :] - won_RK[:, :, None] > room_S[full, None, None]
            change_SKN[full] = np.where(over, np.inf, change_SKN[full])
        return change_SKN

    def _record(self) -> None:
        """Keep what is better than before and has the sizes asked for."""
        cut_S = self._cost_SK.sum(axis=1)
        self._lacking_S = np.maximum(self._min_size - self._size_SK, 0).sum(axis=1)
        allowed_S = self._lacking_S <= self._spare
        fresh = (allowed_S & (cut_S < self._try_best_S - _MARGIN)).nonzero()[0]
        self._try_best_S[fresh] = cut_S[fresh]
        self.stale_S[fresh] = 0
        better = fresh[cut_S[fresh] < self.best_S[fresh] - _MARGIN]
        self.best_S[better] = cut_S[better]
        self.best_SN[better] = self.assignment_SN[better]
