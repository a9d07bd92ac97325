"""Runs on a Ray cluster of two nodes on this machine, whose workers and nodes are killed."""

import importlib.util
import os
import signal
import time
from contextlib import suppress
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

from attempts_at_job import Attempt, Job, processes, stat_of, wait_until
from disturbed_job import Struck, UnexpectedEndError
from jumping_clock import real_time
from suite import Suite, say

from ray_clusters import NODE, nodes

FAULTS = ("kill -9 of a Ray worker",) * 4 + ("kill -9 of a Ray node",)
"""Of each run: Ray gives a piece to another worker three times, and then no more."""
NUM_RUNS = 2
MOST_SECONDS = 5.0
"""Longest time from a worker's first work to its end."""
SECONDS_TO_END = 30.0
MARK = "CPSD_CHAOS_CLUSTER"
OTHERS = (b"ray::IDLE", b"ray::DashboardAgent", b"ray::RuntimeEnvAgent")
"""What bears a worker's kind of name and is none at work; without its agents a node ends, and with
the head's node the cluster."""


def strike_on_ray(suite: Suite) -> None:
    """Have faults befall runs on a cluster, and hold them to the undisturbed run."""
    if importlib.util.find_spec("ray") is None:
        say("Left out, for Ray is not installed: its workers and nodes")
        return
    for _ in range(NUM_RUNS):
        began = time.monotonic()
        os.environ[MARK] = str(os.getpid())
        with nodes() as cluster:
            options = ("--executor", "ray", "--ray-address", cluster.address)
            job = suite.new_job(*options)
            struck: list[Struck] = []
            ended = ""
            try:
                _disturb(job, cluster, suite.random, struck)
            except UnexpectedEndError as error:
                ended = str(error)
        left = _left_processes()
        failures = [f"process {process} of the cluster" for process in left]
        suite.note(job, struck, failures, ended, apart=("config.yaml",))
        say(f"{job.folder.name}: {len(struck)} faults in {time.monotonic() - began:.0f} s, on Ray")


def _disturb(job: Job, cluster: Any, random: Random, struck: list[Struck]) -> None:  # noqa: ANN401
    attempt = job.start(fresh=True)
    for kind in random.sample(FAULTS, len(FAULTS)):
        if not wait_until(attempt, lambda: bool(_workers())):
            if not _is_told_to_start_again(attempt):
                break
            attempt = job.start(fresh=True)
            if not wait_until(attempt, lambda: bool(_workers())):
                break
        time.sleep(random.uniform(0, MOST_SECONDS))
        if not wait_until(attempt, lambda: bool(_workers())):
            break
        saved = max(job.last_progress(), attempt.began)
        if kind.endswith("node"):
            node = min(cluster.worker_nodes, key=str)
            cluster.remove_node(node, allow_graceful=False)
            cluster.add_node(**NODE)
        else:
            killed = random.choice(_workers())
            with suppress(ProcessLookupError):
                os.kill(killed, signal.SIGKILL)
        strike = real_time()
        gone_on = wait_until(attempt, partial(_has_gone_on, job, strike))
        lost = real_time() - saved if gone_on else 0.0
        outcome = "Ray gave its piece to another" if gone_on else "refused in words, started again"
        struck.append(Struck(kind, outcome, lost))
    attempt.wait()
    while _is_told_to_start_again(attempt):
        attempt = job.start(fresh=True)
        attempt.wait()
    if attempt.code != 0:
        raise UnexpectedEndError(f"ended with {attempt.code}:\n{attempt.said[-3000:]}")


def _is_told_to_start_again(attempt: Attempt) -> bool:
    """Return whether a piece was lost more often than Ray gives it to another worker."""
    return attempt.code == 2 and "start the same command again" in attempt.said


def _has_gone_on(job: Job, strike: float) -> bool:
    return job.last_progress() > strike


def _workers() -> list[int]:
    """Return the processes of the cluster that work at a piece."""
    found = []
    for process in processes():
        with suppress(OSError):
            line = Path(f"/proc/{process}/cmdline").read_bytes()
            at_work = line.startswith(b"ray::") and not line.startswith(OTHERS)
            if at_work and _is_ours(process) and not _is_forked(process):
                found.append(process)
    return found


def _is_forked(process: int) -> bool:
    """Return whether it loads pictures for a worker, whose name it has."""
    fields = stat_of(process)
    parent = Path(f"/proc/{fields[1]}/cmdline") if fields is not None else None
    return parent is not None and parent.read_bytes().startswith(b"ray::")


def _is_ours(process: int) -> bool:
    mark = f"{MARK}={os.getpid()}\0".encode()
    fields = stat_of(process)
    # A worker that writes its task where its command stands writes over its environment too.
    for one in (process, int(fields[1]) if fields is not None else process):
        with suppress(OSError):
            if mark in Path(f"/proc/{one}/environ").read_bytes():
                return True
    return False


def _left_processes() -> list[int]:
    """Return the processes of a cluster that was shut down, once they have had time to end."""
    given_up = time.monotonic() + SECONDS_TO_END
    while (left := _living()) and time.monotonic() < given_up:
        time.sleep(0.2)
    return left


def _living() -> list[int]:
    return [
        process
        for process in processes()
        if process != os.getpid()
        and _is_ours(process)
        and (fields := stat_of(process)) is not None
        and fields[0] != "Z"
    ]
