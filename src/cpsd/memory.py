"""Memory that runs out while nothing is learned: what to change, in a sentence."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from cpsd.errors import ModelError


def is_out_of_memory(error: RuntimeError) -> bool:
    """Return whether ``error`` says that a GPU's or the machine's memory has run out."""
    return isinstance(error, torch.OutOfMemoryError) or "allocate memory" in str(error)


@contextmanager
def plain_inference_memory(batch_size: int) -> Iterator[None]:
    """Say what would fit where memory runs out in a forward pass of ``batch_size`` pictures.

    Raises:
        ModelError: it has run out.
    """
    try:
        yield
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        raise ModelError(
            "Memory ran out with a single picture. Try a smaller --image.size or --model.backbone."
            if batch_size == 1
            else f"Memory ran out with {batch_size} pictures in a batch where nothing is learned. "
            f"Try --machine.inference_batch_size {batch_size // 2}; it changes no result."
        ) from error
