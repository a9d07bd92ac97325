"""Whether a run that was disturbed ended as one that was not, and what it has left behind."""

import hashlib
import json
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from attempts_at_job import Job, described
from filelock import FileLock, Timeout

TIMED = ("manifest.json", "report.html", "lock")
"""Files that tell the time, or how long something took."""
MEASURED = (
    "seconds", "peak_memory", "peak_gpu_memory", "finished", "plain_trainings_by_the_clock",
    "sha256",
)  # fmt: skip
"""What two undisturbed runs do not have in common."""
SECONDS_FOR_LOADERS = 15.0
"""Processes that load pictures see within five seconds that their parent was killed."""


def contents(run: Path) -> dict[str, str]:
    """Return a hash of every file of a finished run that tells no time, by its name.

    TensorBoard's logs tell the time of every value. Of marks and the manifest there is their text,
    without what was measured.
    """
    found: dict[str, str] = {}
    for path in sorted(run.rglob("*")):
        name = path.relative_to(run)
        if (
            path.is_file()
            and path.name not in TIMED
            and not {"tensorboard", ".stages"} & {*name.parts}
        ):
            found[str(name)] = hashlib.sha256(path.read_bytes()).hexdigest()
    for path in [*sorted((run / ".stages").glob("*.json")), run / "manifest.json"]:
        told = without_measured(json.loads(path.read_text()))
        if path.name == "manifest.json":
            told = {key: told.get(key) for key in ("stages", "method")}
        found[str(path.relative_to(run))] = json.dumps(told, sort_keys=True)
    return found


def without_measured(content: Any) -> Any:  # noqa: ANN401 - JSON
    """Return JSON without what was measured."""
    if isinstance(content, dict):
        return {k: without_measured(v) for k, v in content.items() if k not in MEASURED}
    return [without_measured(value) for value in content] if isinstance(content, list) else content


def differences(
    found: dict[str, str], expected: dict[str, str], *, apart: Sequence[str] = ()
) -> list[str]:
    """Return sentences on what of a finished run is not as in the undisturbed one.

    Args:
        found: of the run.
        expected: of the undisturbed one.
        apart: files that are expected to differ.
    """
    names = sorted({*found, *expected} - {*apart})
    missing = [f"{name} is missing" for name in names if name not in found]
    more = [f"{name} is there in addition" for name in names if name not in expected]
    both = [name for name in names if name in found and name in expected]
    return (
        missing
        + more
        + [
            f"{name} differs{_where(found[name], expected[name])}"
            for name in both
            if found[name] != expected[name]
        ]
    )


def _where(found: str, expected: str) -> str:
    """Return what differs in two texts of JSON objects; nothing of two hashes."""
    if not found.startswith("{"):
        return ""
    one, other = dict(_values(json.loads(found))), dict(_values(json.loads(expected)))
    names = [name for name in {**one, **other} if one.get(name) != other.get(name)]
    return ": " + ", ".join(f"{name} is {one.get(name)}, not {other.get(name)}" for name in names)


def _values(content: Any, name: str = "") -> Iterator[tuple[str, Any]]:  # noqa: ANN401 - JSON
    """Yield the dotted name and the value of each leaf of a JSON object."""
    if not isinstance(content, dict):
        yield name, content
        return
    for key, value in content.items():
        yield from _values(value, f"{name}.{key}" if name else key)


def left_behind(job: Job) -> list[str]:
    """Return sentences on what attempts have left: temporary files, locks, processes."""
    run = job.run
    left = [f"temporary file {path}" for path in run.rglob("*.tmp")]
    left += [f"unfinished stage {path}" for path in (run / ".partial").glob("*")]
    left += [f"temporary file {path}" for path in job.temporary.iterdir()]
    try:
        with FileLock(run / ".stages" / "lock", blocking=False):
            pass
    except Timeout:
        left.append("the run is still locked")
    given_up = time.monotonic() + SECONDS_FOR_LOADERS
    while job.orphans() and time.monotonic() < given_up:
        time.sleep(0.1)
    return left + [f"process {described(process)}" for process in job.orphans()]
