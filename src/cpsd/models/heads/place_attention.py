"""Where labels look: attention maps of a network's ordinary forward pass, on request.

Shapes: B images, C labels, H' x W' places of the feature map, A attention heads.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol, runtime_checkable

from torch import Tensor, nn

from cpsd.errors import ModelError


class Observable(Protocol):
    """A module that hands what it attends to, whatever its shape, to ``observer``."""

    observer: Callable[[Tensor], None] | None


@runtime_checkable
class Attending(Protocol):
    """A head whose labels attend to places."""

    @property
    def place_attention(self) -> Observable:
        """The module whose weights say where labels look."""

    def label_maps(self, weights: Tensor, num_places: int) -> Tensor:
        """Return the weights as ``(B, C, num_places)``, summing to 1 over all that was seen."""


@contextmanager
def record_place_attention(network: nn.Module) -> Iterator[list[Tensor]]:
    """Collect a map ``(B, C, H', W')`` from each pass through ``network`` in the block.

    A label's map says what share of its attention each place got. Logits are as without it.

    Args:
        network: a classifier whose head attends: transformer, ctran, query, ml-decoder or csra.

    Raises:
        ModelError: no head of the network attends to places, or more than one does.
    """
    heads = [module for module in network.modules() if isinstance(module, Attending)]
    if len(heads) != 1:
        found = "no head" if not heads else f"{len(heads)} heads"
        raise ModelError(
            f"The network has {found} with attention from labels to places; one is needed "
            "(heads transformer, ctran, query, ml-decoder, csra)."
        )
    head = heads[0]
    assert isinstance(head, nn.Module)
    maps: list[Tensor] = []
    weights: list[Tensor] = []

    def collect(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:  # noqa: ANN401
        height, width = inputs[0].shape[-2:]
        flat = head.label_maps(weights.pop(), height * width)
        maps.append(flat.detach().reshape(*flat.shape[:2], height, width))

    hook = head.register_forward_hook(collect)
    head.place_attention.observer = weights.append
    try:
        yield maps
    finally:
        hook.remove()
        head.place_attention.observer = None
