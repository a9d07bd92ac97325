"""Clusters on this machine, for tests, the fault suite and benchmarks; runs held to each other."""

import json
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from cpsd.cli import EXIT_INTERRUPTED
from cpsd.cluster.connection import imported_ray

NODE: dict[str, Any] = {
    "num_cpus": 1, "node_ip_address": "127.0.0.1", "object_store_memory": 100 * 2**20,
}  # fmt: skip
"""A node with a core, bound to the loopback."""
SIGNALS = [
    (signal.SIGINT, EXIT_INTERRUPTED, "Interrupted. Start the same command again"),
    (signal.SIGTERM, 0, "Asked to end. Start the same command again"),
]
"""What a user or a system may send a command, its exit code then, and what it says."""


@contextmanager
def nodes(count: int = 2, environments: Sequence[Mapping[str, str]] = ()) -> Iterator[Any]:
    """Yield a cluster of so many nodes; ``environments`` are of those beside the first."""
    imported_ray("127.0.0.1:0")
    from ray.cluster_utils import Cluster

    cluster: Any = Cluster(
        initialize_head=True, head_node_args={**NODE, "include_dashboard": False}
    )
    try:
        for environment in environments or [{}] * (count - 1):
            cluster.add_node(**NODE, env_vars=dict(environment))
        yield cluster
    finally:
        cluster.shutdown()


def contents(folder: Path) -> dict[str, bytes]:
    """Return every file of a run that does not tell the time, or where the run lies."""
    timed = {"manifest.json", "report.html", "lock"}
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
        and path.name not in timed
        and not {"tensorboard", ".stages"} & {*path.relative_to(folder).parts}
    }


def figures(comparison: Path) -> Any:
    """Return what a comparison found of its arms, without costs, which tell the time."""
    content = json.loads((comparison / "compare.json").read_text())
    return [
        {key: row[key] for key in ("name", "intervals", "differences")} for row in content["rows"]
    ]


def assert_same_files(runs: Path, others: Path) -> None:
    """Hold runs to be the same bytes as others."""
    one, two = contents(runs), contents(others)
    assert list(one) == list(two)
    # Places and machine settings are told; they change no result.
    differ = [name for name in one if one[name] != two[name]]
    assert [name for name in differ if Path(name).name != "config.yaml"] == []


def assert_same_run(run: Path, other: Path) -> None:
    """Hold two finished runs to be the same bytes, and to have left nothing else."""
    assert_same_files(run, other)
    assert list((run / ".partial").glob("*")) == []
    assert not list(run.rglob("*.tmp"))


@contextmanager
def meanwhile(ready: Callable[[], bool], strike: Callable[[], None]) -> Iterator[list[str]]:
    """Strike once when it is ready, while the block runs; yield a list that then has an entry."""
    struck: list[str] = []
    over = threading.Event()

    def watch() -> None:
        while not over.wait(0.02):
            if ready():
                strike()
                struck.append("struck")
                return

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield struck
    finally:
        over.set()
        watcher.join()


def left_with(mark: str, seconds: float = 10.0) -> list[int]:
    """Return the processes whose environment has ``mark`` in it; they have a while to end.

    Loaders look every five seconds whether they are orphans.
    """
    deadline = time.monotonic() + seconds
    while (left := processes(mark.encode(), "environ")) and time.monotonic() < deadline:
        time.sleep(0.2)
    return left


def processes(mark: bytes, file: str = "cmdline") -> list[int]:
    """Return the processes whose command line or environment has ``mark`` in it."""
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            with suppress(OSError):
                if mark in (folder / file).read_bytes():
                    found.append(int(folder.name))
    return found
