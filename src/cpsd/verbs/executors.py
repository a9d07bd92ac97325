"""Who performs the stages that a verb asks for: this process, or a Ray cluster."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from jsonargparse import Namespace

from cpsd.addresses import CACHE, address_of, local_place
from cpsd.config import RunConfig
from cpsd.errors import ConfigError
from cpsd.execution import Executor, LocalExecutor
from cpsd.process_group import ALONE, ProcessGroup
from cpsd.report.piece_table import PieceTable
from cpsd.verbs.terminal import console, say


def require_executor(arguments: Namespace, config: RunConfig) -> None:
    """Refuse an executor that cannot be, before anything is read.

    Raises:
        ConfigError: Ray is not installed, options contradict each other, or devices that train
            together would not see one copy of a run at an address.
    """
    if arguments.executor == "ray":
        from cpsd.cluster.connection import imported_ray

        imported_ray(arguments.ray_address)
        return
    if arguments.ray_address is not None:
        raise ConfigError("--ray-address needs --executor ray; with local, leave it out.")
    out = arguments.out or ""
    if (
        config.trainer.num_nodes > 1
        and CACHE not in os.environ
        and address_of(local_place(out)) is not None
    ):
        raise ConfigError(
            f"--out is {out}, of which machines that train together (trainer.num_nodes) need one "
            f"copy: set {CACHE} to a folder on a disk that all of them share, at the same path, or "
            "take --executor ray."
        )


@contextmanager
def chosen_executor(
    arguments: Namespace,
    config: RunConfig,
    num_images: int,
    looked_at: Path,
    home: Path,
    group: ProcessGroup = ALONE,
) -> Iterator[Executor]:
    """Yield who performs the stages; what it has not done when the block ends, it stops.

    Args:
        arguments: with ``executor`` and ``ray_address``.
        config: of the run, or of a comparison's method.
        num_images: of the data set.
        looked_at: file that remembers which pictures are bad.
        home: folder of the run, or of the comparison.
        group: the processes that train together with this one.

    Raises:
        ConfigError: there is no cluster.
    """
    if arguments.executor == "local":
        yield LocalExecutor(group)
        return
    from cpsd.cluster.connection import connected
    from cpsd.cluster.demands import demands
    from cpsd.cluster.executor import RayExecutor

    with connected(arguments.ray_address) as cluster:
        machines = cluster.machines()
        cpus, gpus = sum(one.cpus for one in machines), sum(one.gpus for one in machines)
        needed = demands(config, num_images, machines, torch.get_num_threads())
        each = needed.computing
        say([
            f"Ray: {len(machines)} machine{'s' if len(machines) > 1 else ''}, {cpus:g} CPUs, "
            f"{gpus:g} GPUs; a training takes {each.cpus:g} CPUs, {each.gpus:g} GPUs and "
            f"{each.memory / 2**30:.1f} GiB of memory.",
            *([f"Ray's dashboard: {cluster.dashboard}"] if cluster.dashboard else []),
        ])  # fmt: skip
        table = PieceTable(console)
        with RayExecutor(
            cluster, needed, split_seed=config.seed, looked_at=looked_at, home=home, table=table
        ) as executor:
            yield executor
