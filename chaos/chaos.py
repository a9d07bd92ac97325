"""Let faults befall small real runs, and hold these to a run that none has befallen: `make chaos`.

    python chaos/chaos.py --faults 200 --seed 0     # with Ray's kinds, where Ray is installed
    python chaos/chaos.py --faults 12 --no-ray      # the short form

Runs go on from where faults have left them until all have struck; then each run must have the
weights and numbers of the undisturbed one, to the bit, and have left no lock, process or temporary
file. Which faults, when and where follows from the seed, moments in processor seconds of the run.
Exit code 1 where something was not as it must be.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
MEGABYTES = 600
"""Of the file system that runs lie on, where one can be made."""
INSIDE = "CPSD_CHAOS_FOLDER"
"""Set where the process has mounts of its own: the folder for everything."""
MOUNTS = "CPSD_CHAOS_MOUNTS"
"""Whether the system allows it to mount: 'yes' or 'no'."""
ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
"""A process with more than one is not to be forked."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the suite and print its table; 1 where something failed."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--faults", type=int, default=200, help="how many, at least")
    parser.add_argument("--seed", type=int, default=0, help="of kinds, moments and damages")
    parser.add_argument("--ray", action=argparse.BooleanOptionalAction, default=True)
    asked = parser.parse_args(arguments)
    if INSIDE not in os.environ:
        return _with_own_mounts(sys.argv[1:] if arguments is None else list(arguments))
    sys.path[:0] = [str(ROOT / folder) for folder in ("chaos", "src", "tests")]
    import jumping_clock

    jumping_clock.put_in_place()  # before anything else is imported
    runs, beside = Path(os.environ[INSIDE], "runs"), Path(os.environ[INSIDE], "beside")
    runs.mkdir()
    may_mount = os.environ[MOUNTS] == "yes"
    if may_mount:
        options = ["-t", "tmpfs", "-o", f"size={MEGABYTES}m", "cpsd-chaos"]
        subprocess.run(["mount", *options, str(runs)], check=True)
    return _strike(asked, runs, beside, may_mount=may_mount)


def _strike(asked: argparse.Namespace, runs: Path, beside: Path, *, may_mount: bool) -> int:
    from suite import Suite, say

    began = time.monotonic()
    suite = Suite(runs, beside, asked.seed, may_mount=may_mount)
    suite.strike(asked.faults)
    if asked.ray:
        from ray_faults import strike_on_ray

        strike_on_ray(suite)
    say(suite.summary(time.monotonic() - began))
    return 1 if suite.failures else 0


def _with_own_mounts(arguments: Sequence[str]) -> int:
    """Do this command in a process whose mounts nobody else sees, where the system allows it."""
    ways: tuple[list[str], ...] = (
        ["unshare", "--mount"],
        ["unshare", "--user", "--map-root-user", "--mount"],
        [],
    )
    probe = ["sh", "-c", "mount -t tmpfs probe /mnt && mount --bind /proc/$$/mem /proc/version"]
    way = next(way for way in ways if not way or _succeeds([*way, *probe]))
    # Here and not there: what is forked from a process ends as if it had made its folders.
    with tempfile.TemporaryDirectory(prefix="cpsd-chaos-") as folder:
        inside = {INSIDE: folder, MOUNTS: "yes" if way else "no"}
        command = [*way, sys.executable, str(Path(__file__).resolve()), *arguments]
        environment = {**os.environ, **ONE_THREAD, **inside}
        return subprocess.run(command, env=environment, check=False).returncode


def _succeeds(command: list[str]) -> bool:
    try:
        return subprocess.run(command, capture_output=True, check=False).returncode == 0
    except OSError:
        return False


if __name__ == "__main__":
    sys.exit(main())
