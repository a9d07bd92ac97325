"""What several comparisons (``cpsd compare``) have found, as a Markdown table.

    python benchmarks/comparisons.py comparisons/linear comparisons/query

A block of rows a comparison: every arm's mAP with its 95 % interval, its difference to the
baseline, that of each seed, and what it costs in plain trainings.
"""

import argparse
import json
from pathlib import Path
from typing import Any

from cpsd.report.comparison_tables import interval_text

METRIC = "mAP"
BASELINE = "baseline"
HEADS = ("comparison", "arm", METRIC, "to baseline", "seed by seed", "plain trainings")


def lines_of(folder: Path, split: str) -> list[str]:
    """Return the lines of one comparison."""
    rows = json.loads((folder / "compare.json").read_text(encoding="utf-8"))["rows"]
    plain = {run["seed"]: run for row in rows if row["name"] == BASELINE for run in row["runs"]}
    lines = []
    for position, row in enumerate(rows):
        difference = row["differences"].get(BASELINE, {}).get(split)
        cells = (
            "" if position else folder.name,
            row["name"],
            interval_text(row["intervals"][split][METRIC]),
            "" if difference is None else interval_text(difference[METRIC], signed=True),
            seed_by_seed(row, plain, split),
            f"{row['cost']['plain_trainings']:.1f}",
        )
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def seed_by_seed(row: dict[str, Any], plain: dict[int, dict[str, Any]], split: str) -> str:
    """Return the difference to the baseline of each seed; nothing for teachers, who have none."""
    if row["name"] == BASELINE or any(run["seed"] is None for run in row["runs"]):
        return ""
    pairs = [(run, plain[run["seed"]]) for run in row["runs"] if run["seed"] in plain]
    gains = [own["scores"][split][METRIC] - base["scores"][split][METRIC] for own, base in pairs]
    return ", ".join(f"{100 * gain:+.1f}" for gain in gains)


def main() -> None:
    """Print the table of the comparisons named on the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("comparisons", nargs="+", type=Path)
    parser.add_argument("--split", default="test")
    arguments = parser.parse_args()
    table = [f"| {' | '.join(HEADS)} |", "|---|---|---|---|---|--:|"]
    for folder in arguments.comparisons:
        table += lines_of(folder, arguments.split)
    print("\n".join(table))  # noqa: T201 - what the script is for


if __name__ == "__main__":
    main()
