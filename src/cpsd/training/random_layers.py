"""Random layers, such as dropout, whose numbers do not depend on who trains beside a network."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor


class RandomLayers:
    """Gives each of several networks the random numbers that it would have alone.

    All have the same stream, that of torch's generators where an epoch's first step begins, and
    each goes on in its own. A single network uses torch's generators as they are.

    Args:
        num_networks: how many take turns.
    """

    def __init__(self, num_networks: int) -> None:
        self._num_networks = num_networks
        self._streams: list[list[Tensor]] = []

    def begin_epoch(self) -> None:
        """Have all streams begin anew, from where the generators are at the next step."""
        self._streams = []

    @contextmanager
    def of(self, index: int, device: torch.device) -> Iterator[None]:
        """Draw from the stream of the network ``index``, which computes on ``device``."""
        if self._num_networks == 1:
            yield
            return
        generators = [torch.default_generator]
        if device.type == "cuda":
            generators.append(torch.cuda.default_generators[device.index or 0])
        if not self._streams:
            states = [generator.get_state() for generator in generators]
            self._streams = [states] * self._num_networks
        for generator, state in zip(generators, self._streams[index], strict=True):
            generator.set_state(state)
        yield
        self._streams[index] = [generator.get_state() for generator in generators]
