"""A Ray cluster: joined, or started on this machine for this command alone."""

import importlib
import ipaddress
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import ModuleType

from cpsd.cluster.demands import Machine
from cpsd.errors import ConfigError, RunError

OBJECT_STORE = 100 * 2**20
"""Bytes of shared memory for what tasks return. Results are files, so that it holds nothing but,
for a moment, what a gang has to go on from; what does not fit Ray keeps in a file."""
_NO_STATISTICS = ("RAY_USAGE_STATS_ENABLED", "0")
_LOOPBACK = ("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
"""Has Ray stay on 127.0.0.1 and not take this machine's address in the network, on any system. Ray
reads it when it is imported; ``_node_ip_address`` of ``ray.init`` does not do it."""


@dataclass(frozen=True)
class Cluster:
    """A cluster that this process is connected to.

    Args:
        ray: the module.
        dashboard: address of Ray's dashboard, None where there is none.
    """

    ray: ModuleType
    dashboard: str | None

    def machines(self) -> list[Machine]:
        """Return what there is now."""
        alive = [node["Resources"] for node in self.ray.nodes() if node["Alive"]]
        return [
            Machine(there.get("CPU", 0.0), there.get("GPU", 0.0), there.get("memory", 0.0))
            for there in alive
        ]


@contextmanager
def connected(address: str | None) -> Iterator[Cluster]:
    """Join the cluster at ``address``, or start one on this machine that ends with the block.

    What is started listens on 127.0.0.1 alone. No usage statistics are sent.

    Args:
        address: ``auto``, ``HOST:PORT`` or ``ray://HOST:PORT``; None to start one.

    Raises:
        ConfigError: Ray is not installed, or there is no cluster at ``address``.
        RunError: Ray could not be started here.
    """
    ray = imported_ray(address)
    local = {
        "include_dashboard": None,
        "dashboard_host": "127.0.0.1",
        "object_store_memory": OBJECT_STORE,
    }
    asked_to_end = signal.getsignal(signal.SIGTERM)
    try:
        context = ray.init(
            address="local" if address is None else address,
            log_to_driver=False,
            configure_logging=False,
            **(local if address is None else {}),
        )
    except Exception as error:  # Ray raises what its parts raise
        reason = str(error).strip().split("\n")[0]
        if address is None:
            raise RunError(f"Ray could not be started on this machine: {reason}") from error
        raise ConfigError(
            f"--ray-address is '{address}', but no cluster answers there ({reason}); 'ray status' "
            "on one of its machines says whether it is up. Left out, Ray is started here."
        ) from error
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, asked_to_end)  # Ray takes it; ours ends all that is flying
    try:
        yield Cluster(ray, context.dashboard_url or None)
    finally:
        ray.shutdown()


def imported_ray(address: str | None) -> ModuleType:
    """Return Ray, told to send nothing and, where all is on this machine, to stay on it.

    Raises:
        ConfigError: it is not installed.
    """
    os.environ.update([_NO_STATISTICS])
    if address is None or _is_loopback(address):
        os.environ.update([_LOOPBACK])
    try:
        return importlib.import_module("ray")
    except ImportError as error:
        raise ConfigError(
            "--executor ray needs Ray, which is not installed here: pip install 'cpsd[ray]'. "
            "Without it, --executor local does the same on this machine."
        ) from error


def _is_loopback(address: str) -> bool:
    """Return whether an address names this machine by its loopback.

    Example:
        >>> [_is_loopback(a) for a in ("127.0.0.1:6379", "ray://localhost:10001", "auto")]
        [True, True, False]
    """
    host = address.removeprefix("ray://").rpartition(":")[0]
    try:
        return host == "localhost" or ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False
