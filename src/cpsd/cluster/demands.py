"""What a piece of a run asks a cluster's machines for."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from cpsd.config import RunConfig
from cpsd.data.kept_pixels import machine_memory
from cpsd.errors import ConfigError
from cpsd.machine_config import TrainerConfig
from cpsd.stage import Stage

GIB = 2**30
LIGHT_MEMORY = GIB
"""Bytes of a process that has loaded torch and puts no picture through a network."""
NETWORK_MEMORY = 2 * GIB
"""Bytes of one that does, on the host: a network with its optimizer on a CPU, or what CUDA maps."""
LOADER_MEMORY = GIB // 4
"""Bytes of a process that loads pictures; most of what it uses is shared."""


@dataclass(frozen=True)
class Machine:
    """What a machine of the cluster has for tasks.

    Args:
        cpus: cores.
        gpus: GPUs.
        memory: bytes.
    """

    cpus: float
    gpus: float
    memory: float


@dataclass(frozen=True)
class Demand:
    """What a task needs.

    Args:
        cpus: cores.
        gpus: GPUs.
        memory: bytes; for scheduling, nobody is held to it.
    """

    cpus: float
    gpus: float
    memory: int


@dataclass(frozen=True)
class Gang:
    """The devices that a training is spread over, a member for each.

    Args:
        devices: of each machine.
        num_nodes: machines.
        member: what each needs.
    """

    devices: int
    num_nodes: int
    member: Demand

    @property
    def size(self) -> int:
        """Members in all."""
        return self.devices * self.num_nodes

    def bundle(self, rank: int) -> int:
        """Return which of the machines a member is on."""
        return rank // self.devices

    def bundles(self) -> list[dict[str, float]]:
        """Return what Ray keeps for the gang: the same of each machine."""
        one = {
            "CPU": self.devices * self.member.cpus,
            "GPU": self.devices * self.member.gpus,
            "memory": float(self.devices * self.member.memory),
        }
        return [{name: amount for name, amount in one.items() if amount}] * self.num_nodes


@dataclass(frozen=True)
class Demands:
    """What the pieces of a run need, and what they may use of a machine.

    Args:
        light: of a stage that puts no picture through a network.
        computing: of any other.
        threads: that compute in a piece on a CPU. The same on all machines, so that their results
            are the same bits.
        picture_memory: ``machine.picture_memory`` of a piece: the pieces of one machine share it.
        trainer: the devices of a training.
    """

    light: Demand
    computing: Demand
    threads: int
    picture_memory: float
    trainer: TrainerConfig

    def of(self, stage: Stage) -> Demand:
        """Return what a piece of ``stage`` needs."""
        return self.computing if stage.computes else self.light

    def gang(self, stage: Stage) -> Gang | None:
        """Return the devices that ``stage`` is spread over, None for one."""
        if not stage.trains or self.trainer.num_devices == 1:
            return None
        return Gang(self.trainer.devices, self.trainer.num_nodes, self.computing)


def demands(
    config: RunConfig, num_images: int, machines: Sequence[Machine], threads: int
) -> Demands:
    """Return what pieces need, which is never more than the largest machine has.

    On a GPU, a piece has one, and a core for itself and each process that loads pictures. On a
    CPU it has a core for each thread.

    Args:
        config: of the run; ``machine`` and ``trainer`` are read, and the size of pictures.
        num_images: of the data set.
        machines: of the cluster, as they are now.
        threads: that compute where ``machine.threads`` does not say, and are shared by the devices
            of a machine on a CPU.

    Raises:
        ConfigError: ``machine.accelerator`` is one that a cluster's tasks are not given.
    """
    machine = config.machine
    if machine.accelerator not in ("auto", "cpu", "cuda"):
        raise ConfigError(
            f"machine.accelerator is '{machine.accelerator}', which --executor ray does not know "
            "of; take auto, cpu or cuda."
        )
    threads = machine.threads or max(1, threads // config.trainer.devices)
    on_gpu = machine.accelerator == "cuda" or (
        machine.accelerator == "auto" and any(one.gpus >= 1 for one in machines)
    )
    cpus = 1 + machine.workers if on_gpu else max(threads, machine.workers, 1)
    fitting = [one for one in machines if one.gpus >= 1] if on_gpu else machines
    most_cpus = max((one.cpus for one in fitting), default=float(cpus))
    most_memory = max((one.memory for one in fitting), default=float("inf"))
    cpus_of_piece = min(float(cpus), max(most_cpus, 1.0))
    at_once = max((_at_once(one, cpus_of_piece, on_gpu) for one in fitting), default=1)
    share = machine.picture_memory / at_once
    kept = num_images * 3 * config.image.size**2
    memory = NETWORK_MEMORY + machine.workers * LOADER_MEMORY
    memory += kept if kept <= share * machine_memory() else 0
    light = Demand(1.0, 0.0, int(min(LIGHT_MEMORY, most_memory)))
    computing = Demand(cpus_of_piece, float(on_gpu), int(min(memory, most_memory)))
    return Demands(light, computing, threads, share, config.trainer)


def with_demands(config: RunConfig, *, threads: int, picture_memory: float) -> RunConfig:
    """Return the settings of a piece: no other result, but its part of the machine."""
    machine = replace(config.machine, threads=threads, picture_memory=picture_memory)
    return replace(config, machine=machine)


def _at_once(machine: Machine, cpus: float, on_gpu: bool) -> int:
    """Return how many pieces fit on a machine."""
    fitting = int(machine.cpus // cpus)
    return max(1, min(fitting, int(machine.gpus)) if on_gpu else fitting)
