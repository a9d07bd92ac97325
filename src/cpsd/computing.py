"""What computes on this machine, on how many threads, in which memory."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from cpsd.config import RunConfig
from cpsd.errors import ConfigError
from cpsd.freed_memory import freed_memory_kept


@contextmanager
def computing(config: RunConfig) -> Iterator[None]:
    """Compute on ``config.machine.threads`` threads for a while, and keep freed memory so long."""
    threads = torch.get_num_threads()
    torch.set_num_threads(config.machine.threads or threads)
    try:
        with freed_memory_kept():
            yield
    finally:
        torch.set_num_threads(threads)


def device_of(config: RunConfig) -> torch.device:
    """Return the device that ``config.machine.accelerator`` stands for here.

    Raises:
        ConfigError: this machine has none of the kind.
    """
    wanted = config.machine.accelerator
    there = torch.accelerator.current_accelerator(check_available=True) or torch.device("cpu")
    if wanted in ("auto", there.type):
        return there
    if wanted == "cpu":
        return torch.device("cpu")
    raise ConfigError(
        f"machine.accelerator is '{wanted}', which this machine does not have (or torch does not "
        f"see); 'auto' takes what there is: {there.type}."
    )
