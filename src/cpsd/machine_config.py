"""The typed settings of the machine that a run works on; none of them is in a fingerprint."""

from dataclasses import dataclass
from typing import Literal

from cpsd.errors import ConfigError


def _require(condition: bool, key: str, value: object, needed: str) -> None:
    if not condition:
        raise ConfigError(f"{key} is {value!r}; it must be {needed}.")


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
        _require(self.workers >= 0, "machine.workers", self.workers, "at least 0")
        enough = self.threads is None or self.threads >= 1
        _require(enough, "machine.threads", self.threads, "at least 1")
        size = self.inference_batch_size
        _require(size >= 1, "machine.inference_batch_size", size, "at least 1")
        share = self.picture_memory
        _require(0 <= share < 1, "machine.picture_memory", share, "at least 0 and below 1")


@dataclass(frozen=True)
class TrainerConfig:
    """The devices that one training is spread over, each with its share of every batch.

    Batch size and learning rate mean what they mean on one device, and results are the same to
    rounding, but for batch norm that learns: each device normalizes its own share.
    """

    devices: int = 1
    """GPUs, or processes on a CPU, of each machine."""
    num_nodes: int = 1
    """Machines; with several, torchrun or SLURM starts the command on each, Ray each training."""

    def __post_init__(self) -> None:
        _require(self.devices >= 1, "trainer.devices", self.devices, "at least 1")
        _require(self.num_nodes >= 1, "trainer.num_nodes", self.num_nodes, "at least 1")

    @property
    def num_devices(self) -> int:
        """Devices of all machines."""
        return self.devices * self.num_nodes
