"""The typed settings of the machine that a run works on; none of them is in a fingerprint."""

from dataclasses import dataclass
from typing import Literal

from cpsd.errors import ConfigError


def _require(condition: bool, key: str, value: object, needed: str) -> None:
    if not condition:
        raise ConfigError(f"machine.{key} is {value!r}; it must be {needed}.")


@dataclass(frozen=True)
class MachineConfig:
    """What the run may use of the machine; changes no result beyond rounding."""

    accelerator: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """What computes; 'auto' takes a GPU where there is one."""
    workers: int = 1
    """Processes that load pictures."""
    threads: int | None = None
    """Threads that compute on a CPU; by default torch's choice, one a core. Fewer can be faster
    where the network is tiny and loading takes as long as computing."""
    inference_batch_size: int = 128
    """Pictures in a batch where nothing is learned."""
    picture_memory: float = 0.2
    """Most of the machine's memory, as a share, for decoded pictures: where all of a data set fit,
    each is decoded once for all epochs and stages. 0 keeps none."""
    compile: bool = False
    """Compile the networks that learn (torch.compile): minutes at the start, and then faster steps,
    most of all on a GPU. Needs a C++ compiler, and Triton on a GPU."""

    def __post_init__(self) -> None:
        _require(self.workers >= 0, "workers", self.workers, "at least 0")
        enough = self.threads is None or self.threads >= 1
        _require(enough, "threads", self.threads, "at least 1")
        size = self.inference_batch_size
        _require(size >= 1, "inference_batch_size", size, "at least 1")
        share = self.picture_memory
        _require(0 <= share < 1, "picture_memory", share, "at least 0 and below 1")
