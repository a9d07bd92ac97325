"""What computes on this machine, and on how many threads."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from cpsd.config import RunConfig
from cpsd.errors import ConfigError


@contextmanager
def computing_threads(config: RunConfig) -> Iterator[None]:
    """Compute on ``config.machine.threads`` threads for a while."""
    threads = torch.get_num_threads()
    torch.set_num_threads(config.machine.threads or threads)
    try:
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
