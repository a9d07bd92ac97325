"""The processes that train one network side by side, one for each device.

All of them run the same command. The first performs the run as ever and tells the others of each
stage that trains; they do its work with it, on their shares of every batch, and leave no result.
"""

import logging
import os
import platform
import shutil
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from cpsd.errors import EXIT_USER_ERROR, ConfigError, DataError, Preempted, TrainingError
from cpsd.machine_config import TrainerConfig
from cpsd.shares import WHOLE, Share

if TYPE_CHECKING:
    from lightning.fabric.plugins import ClusterEnvironment

_PATIENCE = timedelta(days=30)
"""For what the first process does without the others, such as storing soft labels."""
TIME_TO_MEET = timedelta(minutes=5)
"""For processes to find each other, when all of them have loaded what they need."""
_LOOPBACK = "127.0.0.1"
LOST = (
    "Another of the processes that train together has ended; what it said stands near this line. "
    "Start the same command again; a run goes on where it stopped."
)


@dataclass(frozen=True)
class ProcessGroup:
    """This process among those that train together; the only one, where nothing was started.

    Args:
        share: of every batch that is this process's.
    """

    share: Share = WHOLE

    @property
    def leads(self) -> bool:
        """Return whether this process performs the run, tells the others, and speaks."""
        return self.share.index == 0

    def tell(self, stage: str | None) -> None:
        """Call the other processes to a stage; None sends them home."""
        if self.share.of > 1:
            self._first_of(stage)
            if stage is not None:
                gathered(None)  # until all have seen what there is to go on from

    def told(self, look: Callable[[str], None]) -> str | None:
        """Wait for the first process; return the stage that it calls to, None to go home.

        Args:
            look: called with the stage before any process begins with its work.

        Raises:
            TrainingError: the first process has ended.
        """
        stage: str | None = self._first_of(None)
        if stage is not None:
            look(stage)
            gathered(None)
        return stage

    def _first_of(self, value: str | None) -> str | None:
        import torch

        values = [value]
        with plain_process_errors():
            torch.distributed.broadcast_object_list(values, src=0, device=torch.device("cpu"))
        return values[0]


ALONE = ProcessGroup()


def gathered(value: Any) -> list[Any]:  # noqa: ANN401 - whatever can be pickled
    """Return the values of all processes that train together, by rank; ``[value]`` of one alone.

    Raises:
        TrainingError: another process has ended.
    """
    import torch

    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return [value]
    values = [None] * torch.distributed.get_world_size()
    with plain_process_errors():
        torch.distributed.all_gather_object(values, value)
    return values


@contextmanager
def plain_process_errors() -> Iterator[None]:
    """Say in a sentence that another process has ended.

    Raises:
        TrainingError: in place of what torch makes of a connection that is lost.
    """
    try:
        yield
    except RuntimeError as error:
        text = str(error)
        if "gloo" in text or "NCCL" in text or "Connection" in text:
            raise TrainingError(LOST) from error
        raise


def share(config: TrainerConfig, *, batch_size: int, num_pictures: int) -> Share:
    """Return this process's share of every batch.

    Args:
        config: the devices.
        batch_size: pictures in a batch, of all devices.
        num_pictures: to train on.

    Raises:
        ConfigError: several devices are wanted, and the processes have not joined, or the devices
            cannot share a batch evenly.
        DataError: there are fewer pictures than devices.
    """
    of = config.num_devices
    if of == 1:
        return WHOLE
    if batch_size % of:
        raise ConfigError(
            f"training.batch_size is {batch_size}, which {of} devices cannot share evenly; it "
            f"means the pictures of all of them together: take {of * max(1, batch_size // of)}."
        )
    if num_pictures < of:
        raise DataError(f"{num_pictures} pictures to train on cannot be shared by {of} devices.")
    import torch

    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        raise ConfigError(
            f"trainer.devices x trainer.num_nodes is {config.devices} x {config.num_nodes}, but "
            "this process has not joined any other: call it in a block of "
            "cpsd.process_group.joined, in a script that torchrun starts."
        )
    return Share(torch.distributed.get_rank(), of=torch.distributed.get_world_size())


def needs_processes(config: TrainerConfig) -> bool:
    """Return whether this process has to start those that train: nobody has started them yet."""
    return config.num_devices > 1 and _environment() is None


def launch(argv: Sequence[str], config: TrainerConfig, *, on_cpu: bool) -> int:
    """Run ``cpsd`` with ``argv`` in a process for each device; return the exit code.

    torch's elastic agent starts them, watches them and ends all when one has ended badly.

    Raises:
        ConfigError: several machines are wanted, which this one cannot start.
    """
    if config.num_nodes > 1:
        raise ConfigError(
            f"trainer.num_nodes is {config.num_nodes}: start the command on each machine with "
            "torchrun or srun, as docs/several-devices.md shows."
        )
    from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    # What went wrong the processes say themselves; the agent adds tracebacks of its own.
    logging.getLogger("torch.distributed.elastic").setLevel(logging.CRITICAL + 1)
    if on_cpu:
        # Each would take all cores otherwise, and wait for the others half of the time.
        threads = max(1, (os.cpu_count() or 1) // config.devices)
        os.environ.setdefault("OMP_NUM_THREADS", str(threads))
    # Nor does anybody need to hear that a check for unused parameters found none.
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    logs = DefaultLogsSpecs()
    settings = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=config.devices,
        run_id="cpsd",
        rdzv_backend="c10d",
        rdzv_endpoint=f"{_LOOPBACK}:0",
        local_addr=_LOOPBACK,
        max_restarts=0,
        logs_specs=logs,
    )
    try:
        elastic_launch(settings, sys.executable)("-m", "cpsd", *argv)
    except ChildFailedError as error:
        code = error.get_first_failure()[1].exitcode
        return code if code > 0 else EXIT_USER_ERROR
    except SignalException as error:
        raise (Preempted if error.sigval == signal.SIGTERM else KeyboardInterrupt) from error
    finally:
        if logs.root_log_dir:
            shutil.rmtree(logs.root_log_dir, ignore_errors=True)
    return 0


@contextmanager
def joined(config: TrainerConfig, *, on_cpu: bool) -> Iterator[ProcessGroup]:
    """Join the processes that train together, or be the only one; the group ends with the block.

    Raises:
        ConfigError: another number of processes was started than ``config`` says.
    """
    if config.num_devices == 1:
        yield ALONE
        return
    environment = _environment()
    if environment is None or environment.world_size() != config.num_devices:
        started = 1 if environment is None else environment.world_size()
        raise ConfigError(
            f"trainer.devices x trainer.num_nodes is {config.devices} x {config.num_nodes}, but "
            f"{started} {'process was' if started == 1 else 'processes were'} started; start "
            f"{config.num_devices}, with torchrun or srun, or say other numbers."
        )
    _end_with_parent()
    os.environ["MASTER_ADDR"] = environment.main_address
    os.environ["MASTER_PORT"] = str(environment.main_port)
    rank, size = environment.global_rank(), environment.world_size()
    with formed(rank, size, on_cpu=on_cpu) as group:
        yield group


def met(rank: int, size: int, address: str, port: int) -> Any:  # noqa: ANN401 - torch exports none
    """Return what processes know of each other, once all of them are there.

    Args:
        rank: of this process; the first waits for the others.
        size: how many there are.
        address: of the machine of the first.
        port: where it waits.

    Raises:
        TrainingError: they are not, after a while.
    """
    import torch

    distributed: Any = torch.distributed  # it exports less than its documentation has
    try:
        return distributed.TCPStore(address, port, size, rank == 0, TIME_TO_MEET)
    except distributed.DistError as error:
        raise TrainingError(
            f"The machine {platform.node()} has not met the others that train with it at "
            f"{address}:{port} in {TIME_TO_MEET.total_seconds():.0f} s: the machines of a cluster "
            "have to reach each other's ports, whatever their number."
        ) from error


@contextmanager
def formed(
    rank: int,
    size: int,
    *,
    on_cpu: bool,
    store: Any = None,  # noqa: ANN401 - torch exports no type of it
) -> Iterator[ProcessGroup]:
    """Be one of the processes that train together; the group ends with the block.

    Args:
        rank: of this process.
        size: how many there are.
        on_cpu: all of them compute on CPUs.
        store: where they have met; by default they meet where the environment says.

    Raises:
        TrainingError: another has ended before all have met.
    """
    import torch

    if store is not None:
        store.set_timeout(_PATIENCE)
    with plain_process_errors():
        torch.distributed.init_process_group(
            "gloo" if on_cpu else "cpu:gloo,cuda:nccl",
            store=store,
            rank=rank,
            world_size=size,
            timeout=_PATIENCE,
        )
    try:
        yield ProcessGroup(Share(rank, of=size))
    finally:
        torch.distributed.destroy_process_group()


def _environment() -> "ClusterEnvironment | None":
    """Return who has started several processes of this command, None where nobody has."""
    from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
    from lightning.fabric.plugins.environments.torchelastic import TorchElasticEnvironment

    for kind in (TorchElasticEnvironment, SLURMEnvironment):
        if kind.detect():
            return kind()
    return None


def _end_with_parent() -> None:
    """Have Linux end this process when the agent that started it ends, however it ends."""
    if sys.platform == "linux":
        import ctypes

        with suppress(OSError, AttributeError):  # another C library: then the agent's end must do
            set_death_signal = 1  # PR_SET_PDEATHSIG of prctl(2)
            ctypes.CDLL(None).prctl(set_death_signal, signal.SIGTERM)
