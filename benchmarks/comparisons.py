"""What several comparisons (``cpsd compare``) have found, as a Markdown table.

    python benchmarks/comparisons.py comparisons/linear comparisons/query
    python benchmarks/comparisons.py --regimes comparisons/scratch "long=comparisons/scratch-36"

A block of rows a comparison: every arm's mAP with its 95 % interval, its difference to the
baseline, that of each seed, and what it costs in plain trainings. With ``--regimes`` a row a
comparison: plain training, and how the method, its teachers together and plain training of equal
cost differ from it. A comparison is called by its folder, or by what stands before ``=``.
"""

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cpsd.report.comparison_tables import interval_text

METRIC = "mAP"
BASELINE = "baseline"
METHOD, TEACHERS, LONG = "cpsd", "cpsd: teachers", "baseline-long"
REGIME_HEADS = (
    "variant", "plain training", "teachers together, to it", "student, to it", "seed by seed",
    "plain training of equal cost, to it", "plain trainings",
)  # fmt: skip
HEADS = ("comparison", "arm", METRIC, "to baseline", "seed by seed", "plain trainings")


def arm_table(comparisons: dict[str, Path], split: str) -> Iterator[str]:
    """Yield the lines of a table with a row an arm."""
    yield from (_line(HEADS), "|---|---|---|---|---|--:|")
    for name, folder in comparisons.items():
        rows = _rows(folder)
        plain = _by_seed(rows[BASELINE])
        for position, row in enumerate(rows.values()):
            cells = (
                "" if position else name,
                row["name"],
                interval_text(row["intervals"][split][METRIC]),
                _to_baseline(row, split),
                seed_by_seed(row, plain, split),
                f"{row['cost']['plain_trainings']:.1f}",
            )
            yield _line(cells)


def regime_table(comparisons: dict[str, Path], split: str) -> Iterator[str]:
    """Yield the lines of a table with a row a comparison."""
    yield from (_line(REGIME_HEADS), "|---|---|---|---|---|---|--:|")
    for name, folder in comparisons.items():
        rows = _rows(folder)
        cells = (
            name,
            interval_text(rows[BASELINE]["intervals"][split][METRIC]),
            _to_baseline(rows[TEACHERS], split),
            _to_baseline(rows[METHOD], split),
            seed_by_seed(rows[METHOD], _by_seed(rows[BASELINE]), split),
            _to_baseline(rows[LONG], split) if LONG in rows else "",
            f"{rows[METHOD]['cost']['plain_trainings']:.1f}",
        )
        yield _line(cells)


def _line(cells: tuple[str, ...]) -> str:
    return f"| {' | '.join(cells)} |"


def _rows(folder: Path) -> dict[str, dict[str, Any]]:
    """Return the rows of a comparison by name, in their order."""
    rows = json.loads((folder / "compare.json").read_text(encoding="utf-8"))["rows"]
    return {row["name"]: row for row in rows}


def _by_seed(row: dict[str, Any]) -> dict[int, dict[str, Any]]:
    return {run["seed"]: run for run in row["runs"]}


def _to_baseline(row: dict[str, Any], split: str) -> str:
    """Return the difference to the baseline; nothing where they have no seed in common."""
    difference = row["differences"].get(BASELINE, {}).get(split)
    return "" if difference is None else interval_text(difference[METRIC], signed=True)


def seed_by_seed(row: dict[str, Any], plain: dict[int, dict[str, Any]], split: str) -> str:
    """Return the difference to the baseline of each seed; nothing for teachers, who have none."""
    if row["name"] == BASELINE or any(run["seed"] is None for run in row["runs"]):
        return ""
    pairs = [(run, plain[run["seed"]]) for run in row["runs"] if run["seed"] in plain]
    gains = [own["scores"][split][METRIC] - base["scores"][split][METRIC] for own, base in pairs]
    return ", ".join(f"{100 * gain:+.1f}" for gain in gains)


def _named(argument: str) -> tuple[str, Path]:
    """Return the name and the folder of ``folder`` or ``name=folder``."""
    name, _, folder = argument.rpartition("=")
    return name or Path(folder).name, Path(folder)


def main() -> None:
    """Print the table of the comparisons named on the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("comparisons", nargs="+", type=_named, metavar="[NAME=]FOLDER")
    parser.add_argument("--split", default="test")
    parser.add_argument(
        "--regimes", action="store_const", dest="table", const=regime_table, default=arm_table,
        help="a row a comparison in place of a row an arm",
    )  # fmt: skip
    arguments = parser.parse_args()
    table = arguments.table(dict(arguments.comparisons), arguments.split)
    print("\n".join(table))  # noqa: T201 - what the script is for


if __name__ == "__main__":
    main()
