"""Networks that compute by compiled code while they learn (``machine.compile``)."""

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from cpsd.errors import TrainingError

BACKEND = "inductor"


@contextmanager
def compiled(networks: Sequence[nn.Module]) -> Iterator[None]:
    """Let ``networks`` compute by compiled code in training mode, until this ends.

    They stay the objects that they are, with the keys that they have; in evaluation mode, asked as
    seldom as compiling takes long, they compute as before. Random layers draw what they would draw
    uncompiled, so the weights are the same to rounding.

    Args:
        networks: of any kind; what cannot be compiled of one is left as it is.

    Raises:
        TrainingError: there is no working compiler.
    """
    import torch._dynamo  # takes a second, which only those pay who compile

    # Members share code, and torch counts the compiled forms of that: each has one for whole
    # batches and one for the last.
    limit = torch._dynamo.config.recompile_limit * len(networks)
    with torch._dynamo.config.patch(recompile_limit=limit, accumulated_recompile_limit=8 * limit):
        for network in networks:
            network._compiled_call_impl = _in_training(network)
        try:
            yield
        except RuntimeError as error:
            if not _is_of_compiler(error):
                raise
            raise TrainingError(
                f"machine.compile: the network cannot be compiled here ({_reason(error)}). Install "
                "what is missing, or set machine.compile to false; that changes no result."
            ) from error
        finally:
            for network in networks:
                network._compiled_call_impl = None


def _in_training(network: nn.Module) -> Callable[..., Any]:
    """Return what computes as ``network``, compiled in training mode alone."""
    plain = network._call_impl
    options: Any = {"fallback_random": True} if BACKEND == "inductor" else None
    quick = torch.compile(plain, backend=BACKEND, options=options)

    def call(*inputs: Any, **named: Any) -> Any:  # noqa: ANN401 - whatever the network takes
        return (quick if network.training else plain)(*inputs, **named)

    return call


def _is_of_compiler(error: RuntimeError) -> bool:
    dynamo = sys.modules["torch._dynamo"]
    return isinstance(error, dynamo.exc.TorchDynamoException)


def _reason(error: RuntimeError) -> str:
    """Return the first line of what went wrong in the first place."""
    cause: BaseException = getattr(error, "inner_exception", error)
    return next((line for line in str(cause).splitlines() if line.strip()), type(cause).__name__)
