"""Measure what the project promises about speed and memory, as a table and ``results.json``.

    python benchmarks/bench.py                        # every topic
    python benchmarks/bench.py --only student_step    # one of them; the others' results stay
    python benchmarks/bench.py --smoke                # runs every topic for crashes; keeps nothing

A bar that is missed is said in the table and is no failure of the command; a topic that crashes is,
after all others have run.
"""

import argparse
import importlib
import json
import os
import platform
import sys
import time
import traceback
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from harness import Row

from cpsd.files import write_json

TOPICS: tuple[str, ...] = (
    "whole_run",
    "student_step",
    "soft_label_store",
    "cpu_prediction",
    "evaluation_speed",
    "partition_speed",
    "index_memory",
    "startup",
    "input_path",
    "teachers_together",
)
"""Modules beside this one, in the order of the table."""

RESULTS = Path(__file__).parent / "results.json"


def measured(topic: str, *, smoke: bool) -> dict[str, Any] | None:
    """Return what ``results.json`` holds of a topic; None where it crashed, which is printed."""
    begun = time.monotonic()
    try:
        rows: list[Row] = importlib.import_module(topic).measure(smoke=smoke)
    except Exception:
        traceback.print_exc()
        return None
    return {
        "measured": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": machine(),
        "seconds": round(time.monotonic() - begun, 1),
        "rows": [{**asdict(row), "met": row.met} for row in rows],
    }


def machine() -> dict[str, Any]:
    """Return what the figures were measured on."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.is_file() else []
    names = [line.partition(": ")[2] for line in lines if line.startswith("model name")]
    return {
        "processor": names[0] if names else platform.machine(),
        "cores": len(os.sched_getaffinity(0))
        if hasattr(os, "sched_getaffinity")
        else os.cpu_count(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "python": platform.python_version(),
        "torch": torch.__version__,
    }


def table(results: Mapping[str, Mapping[str, Any]]) -> Iterable[str]:
    """Yield the lines of a Markdown table, a line a row."""
    yield "| what | measured | must | met | bounded by | of the bound |"
    yield "|---|--:|--:|---|---|--:|"
    for topic in results.values():
        for row in topic["rows"]:
            met = {True: "yes", False: "NO", None: ""}[row["met"]]
            of_bound = "" if row["of_bound"] is None else f"{100 * row['of_bound']:.0f} %"
            yield (
                f"| {row['what']} | {figure(row['value'])} {row['unit']} | {row['must'] or ''} "
                f"| {met} | {row['bound']} | {of_bound} |"
            )


def figure(value: float) -> str:
    """Return three digits that count, and no fewer than there are before the point.

    Example:
        >>> figure(1.0449), figure(0.01234), figure(312345.6)
        ('1.04', '0.0123', '312,346')
    """
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def main(arguments: Sequence[str] | None = None, topics: Sequence[str] = TOPICS) -> int:
    """Measure, print and write; return 1 where a topic crashed."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--only", choices=topics, metavar="TOPIC", help=" or ".join(topics))
    parser.add_argument(
        "--smoke", action="store_true", help="for crashes only; results are not kept"
    )
    parser.add_argument("--out", type=Path, default=RESULTS, help="the file of results")
    asked = parser.parse_args(arguments)
    names = topics if asked.only is None else [asked.only]
    found: dict[str, dict[str, Any]] = {}
    for name in names:
        say(f"{name} ...", sys.stderr)
        topic = measured(name, smoke=asked.smoke)
        if topic is not None:
            found[name] = topic
            say(f"{name}: {topic['seconds']:.0f} s", sys.stderr)
            if not asked.smoke:  # at once: a later topic may be interrupted
                keep(found, asked.out, topics)
    for line in table(found):
        say(line)
    crashed = [name for name in names if name not in found]
    if crashed:
        say(f"crashed: {', '.join(crashed)}", sys.stderr)
    return 1 if crashed else 0


def keep(found: Mapping[str, dict[str, Any]], path: Path, topics: Sequence[str]) -> None:
    """Write results beside those of other topics that the file has.

    They are in the table's order, whichever was measured last; topics that are gone are dropped.
    """
    before = json.loads(path.read_text("utf-8"))["topics"] if path.is_file() else {}
    every = {**before, **found}
    ordered = {name: every[name] for name in topics if name in every}
    write_json(path, {"format_version": 1, "topics": ordered})


def say(line: str, stream: Any = None) -> None:  # noqa: ANN401 - what print takes
    """Print a line at once."""
    print(line, file=stream, flush=True)


if __name__ == "__main__":
    sys.exit(main())
