"""What a training takes, counted while it runs."""

from collections.abc import Hashable, Iterator
from contextlib import contextmanager

from torch import Tensor

from cpsd.cost import Cost
from cpsd.flops import RepeatedFlops


class RunningCost:
    """Pictures, operations and seconds of a training so far, earlier attempts at it included.

    Attributes:
        seconds: wall time of the epochs that are through.
    """

    def __init__(self) -> None:
        self.seconds = 0.0
        self._images_forward = 0
        self._images_backward = 0
        self._flops = RepeatedFlops()

    @contextmanager
    def forward(self, images: Tensor, *kind: Hashable, num_networks: int = 1) -> Iterator[None]:
        """Count the forward pass of a batch.

        Args:
            images: the batch.
            kind: what the pass depends on beside the batch's shape.
            num_networks: that are trained, among those that see it.
        """
        with self._flops.adding("forward", *kind, *images.shape):
            yield
        self._images_forward += len(images) * num_networks

    @contextmanager
    def backward(self, images: Tensor, *kind: Hashable) -> Iterator[None]:
        """Count the backward pass of a network over a batch."""
        with self._flops.adding("backward", *kind, *images.shape):
            yield
        self._images_backward += len(images)

    def so_far(self) -> Cost:
        """Return the cost."""
        return Cost(
            self.seconds,
            self._images_forward,
            self._images_backward,
            self._flops.forward,
            self._flops.backward,
            not_counted=self._flops.reason,
        )

    def go_on_from(self, kept: object) -> None:
        """Take up what a checkpoint has kept of ``so_far().to_json()``.

        Raises:
            ValueError: it is no cost.
        """
        if isinstance(kept, list):  # of before operations were counted
            kept = dict(zip(("seconds", "images_forward", "images_backward"), kept, strict=True))
        cost = Cost.from_json(kept)
        self.seconds = cost.seconds
        self._images_forward = cost.images_forward
        self._images_backward = cost.images_backward
        self._flops = RepeatedFlops(cost.flops_forward, cost.flops_backward, cost.not_counted)
