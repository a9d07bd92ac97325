"""Floating-point operations, counted on networks while these do their work.

What is counted is what runs: a frozen layer has no backward pass and so none in the count, and a
part that several networks share counts as often as it is asked. Counted are products of matrices,
convolutions and attention, forward and backward, a multiplication and an addition as two
operations; not what is linear in the activations (norms, activations, losses), nor the optimizer.
"""

import sys
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from math import prod
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import (
    conv_flop_count,
    flop_registry,
    sdpa_backward_flop,
    sdpa_flop,
)

from cpsd.errors import is_of_killed_loader

_aten = torch.ops.aten
_NAMESPACES = {"aten", "prim", "prims"}
_FUSED = ("rnn", "lstm", "gru", "quantized")
"""What names of operations say that multiply matrices inside, which no formula is known of."""


@dataclass(frozen=True)
class Flops:
    """Operations forward and backward.

    Args:
        forward: of the forward pass.
        backward: of the backward pass.
        reason: why they could not be counted; None where they are.
    """

    forward: int = 0
    backward: int = 0
    reason: str | None = None


class FlopCounter(TorchDispatchMode):  # type: ignore[no-untyped-call] # torch's own is untyped
    """Counts the operations that run while it is entered; results stay what they are.

    Attributes:
        flops: so far.
        uncounted: names of operations that have no formula, though they take many operations.
    """

    supports_higher_order_operators = True

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.flops = 0
        self.uncounted: set[str] = set()

    @property
    def reason(self) -> str | None:
        """Why the count is not whole, in words; None where it is."""
        if not self.uncounted:
            return None
        return f"there is no count of the operations of {', '.join(sorted(self.uncounted))}"

    def __torch_dispatch__(
        self,
        func: Any,  # noqa: ANN401 - torch's own signature
        types: Any,  # noqa: ANN401
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:  # noqa: ANN401
        """Run an operation, and add what it takes."""
        kwargs = kwargs or {}
        if not isinstance(func, torch._ops.OpOverload):
            self.uncounted.add(str(func))
            return func(*args, **kwargs)
        packet, name = func._overloadpacket, str(func)
        if packet not in _FORMULAS and func is not torch.ops.prim.device.default:
            with self:  # what it is made of is counted instead
                result = func.decompose(*args, **kwargs)
            if result is not NotImplemented:
                return result
        result = func(*args, **kwargs)
        if packet in _FORMULAS:
            try:
                self.flops += _FORMULAS[packet](*args, **kwargs, out_val=result)
            # A formula of torch's that an unforeseen call breaks must not break the training.
            except Exception as error:
                if is_of_killed_loader(error):
                    raise
                self.uncounted.add(name)
        elif _may_multiply(func.namespace, name, result):
            self.uncounted.add(name)
        return result


@contextmanager
def counted() -> Iterator[FlopCounter]:
    """Yield a counter that counts what runs in the block, eagerly and operation by operation.

    Compiled networks run as they are written, and torch's attention takes the path that is made of
    countable operations: neither changes a result beyond rounding.
    """
    # Importing the compiler takes seconds, and where nobody has there is nothing compiled.
    compiles = "torch._dynamo" in sys.modules
    eager = torch.compiler.set_stance("force_eager") if compiles else nullcontext()
    fast_attention = torch.backends.mha.get_fastpath_enabled()
    counter = FlopCounter()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with eager, counter:
            yield counter
    finally:
        torch.backends.mha.set_fastpath_enabled(fast_attention)


@dataclass
class RepeatedFlops:
    """Counts work that is done again and again: the first time of each kind, and never after.

    Args:
        forward: operations so far; None where they could not be counted.
        backward: likewise.
        reason: why they could not be counted.

    Example:
        >>> layer, flops = nn.Linear(3, 4), RepeatedFlops()
        >>> for _ in range(10):
        ...     with flops.adding("forward", "step", 5):
        ...         _ = layer(torch.zeros(5, 3))
        >>> flops.forward == 10 * 2 * 5 * 3 * 4
        True
    """

    forward: int | None = 0
    backward: int | None = 0
    reason: str | None = None
    _known: dict[Hashable, FlopCounter] = field(default_factory=dict)

    @contextmanager
    def adding(self, direction: str, *kind: Hashable) -> Iterator[None]:
        """Add what the block takes.

        Args:
            direction: ``forward`` or ``backward``.
            kind: what the block's operations depend on, as the shape of its pictures.
        """
        key = (direction, *kind)
        if key in self._known:
            yield
        else:
            with counted() as counter:
                yield
            self._known[key] = counter
        counter = self._known[key]
        self.reason = self.reason or counter.reason
        so_far = getattr(self, direction)
        whole = so_far is not None and counter.reason is None
        setattr(self, direction, so_far + counter.flops if whole else None)


def inference_flops(
    infer: Callable[[Tensor], object],
    size: int,
    *,
    num_images: int,
    batch_size: int,
    device: torch.device,
) -> Flops:
    """Return the operations of ``infer`` over pictures in batches, counted on three of them.

    Two counts tell what a picture takes and what a batch takes whatever is in it, such as a graph
    convolution over label embeddings.

    Args:
        infer: puts pictures (B, 3, size, size) in [0, 1] through networks.
        size: height and width of the pictures.
        num_images: pictures in all.
        batch_size: pictures in a batch.
        device: of the networks.
    """
    totals, reason = [], None
    for batch in (1, 2):
        images = torch.zeros(batch, 3, size, size, device=device)
        with torch.inference_mode(), counted() as counter:
            infer(images)
        totals.append(counter.flops)
        reason = counter.reason
    image = totals[1] - totals[0]
    batches = -(-num_images // batch_size)
    return Flops(image * num_images + (totals[0] - image) * batches, reason=reason)


def step_flops(network: nn.Module, images: Tensor) -> Flops:
    """Return the operations of one forward and one backward pass of ``network`` over ``images``.

    Gradients are left as they are. On torch's meta device nothing is computed.
    """
    parameters = [parameter for parameter in network.parameters() if parameter.requires_grad]
    with counted() as forward:
        logits = network(images)
    with counted() as backward:
        if parameters:
            torch.autograd.grad(logits.sum(), parameters, allow_unused=True)
    return Flops(forward.flops, backward.flops, forward.reason or backward.reason)


def _may_multiply(namespace: str, name: str, result: object) -> bool:
    """Return whether an operation without a formula may take many operations all the same."""
    if namespace in _NAMESPACES:
        return any(word in name for word in _FUSED)
    results = result if isinstance(result, tuple | list) else (result,)
    return any(isinstance(one, Tensor) for one in results)  # a profiler's notes make none


def _convolution_backward(
    grad_out: Tensor,
    images: Tensor,
    weight: Tensor,
    bias_sizes: object,
    stride: object,
    padding: object,
    dilation: object,
    transposed: bool,
    output_padding: object,
    groups: int,
    output_mask: tuple[bool, bool, bool],
    *,
    out_val: object,
) -> int:
    """Count the gradients of input and weight: each has the products of the forward pass.

    Torch's own formula leaves groups out of the gradient of the weight, which makes a depthwise
    convolution of 100 channels a hundred times as large.
    """
    product = conv_flop_count(
        list(images.shape), list(weight.shape), list(grad_out.shape), transposed
    )
    return product * (output_mask[0] + output_mask[1])


def _vector_product(matrix: Tensor, *others: object, out_val: object) -> int:
    return 2 * prod(matrix.shape)


_FORMULAS: dict[Any, Callable[..., int]] = {
    **flop_registry,
    _aten.convolution_backward: _convolution_backward,
    _aten._scaled_dot_product_flash_attention_for_cpu: sdpa_flop,
    _aten._scaled_dot_product_flash_attention_for_cpu_backward: sdpa_backward_flop,
    _aten._scaled_dot_product_fused_attention_overrideable: sdpa_flop,
    _aten._scaled_dot_product_fused_attention_overrideable_backward: sdpa_backward_flop,
    _aten.mv: _vector_product,
    _aten.dot: _vector_product,
}
"""By operation, torch's formulas and those that it has none of, or another."""
