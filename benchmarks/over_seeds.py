"""Mean and spread of the scores of runs that differ in their seed alone, as a Markdown table.

    python benchmarks/over_seeds.py runs/demo-0 runs/demo-1 runs/demo-2

The spread is the standard deviation over runs (n - 1); "to baseline" is the mean and spread of the
paired difference. A handful of seeds says little: look at the spread before the mean.
"""

import argparse
import json
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import yaml

BASELINE = "baseline"


def boards_of(run: Path) -> dict[str, Any]:
    """Return the scores of a finished run by split."""
    return {path.stem: json.loads(path.read_text()) for path in (run / "evaluation").glob("*.json")}


def settings_but_seed(run: Path) -> dict[str, Any]:
    """Return the run's settings without its seed and what belongs to the machine."""
    settings = yaml.safe_load((run / "config.yaml").read_text())
    return {key: value for key, value in settings.items() if key not in ("seed", "machine")}


def mean_and_spread(values: list[float]) -> str:
    """Return ``mean ± spread`` in points of 100."""
    spread = f" ± {100 * stdev(values):.2f}" if len(values) > 1 else ""
    return f"{100 * mean(values):.2f}{spread}"


def table(runs: list[Path], metric: str) -> list[str]:
    """Return the lines of the table: a row a predictor, two columns a split."""
    boards = [boards_of(run) for run in runs]
    splits = sorted(boards[0])
    heads = [f"{split} {head}" for split in splits for head in (metric, "to baseline")]
    lines = [f"| predictor | {' | '.join(heads)} |", f"|---{'|---' * len(heads)}|"]
    for predictor in boards[0][splits[0]]["predictors"]:
        cells = []
        for split in splits:
            scores = [board[split]["predictors"] for board in boards]
            own = [score[predictor][metric] for score in scores]
            paired = [score[predictor][metric] - score[BASELINE][metric] for score in scores]
            difference = "" if predictor == BASELINE else mean_and_spread(paired)
            cells += [mean_and_spread(own), difference]
        lines.append(f"| {predictor} | {' | '.join(cells)} |")
    return lines


def main() -> None:
    """Print the table of the runs named on the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", nargs="+", type=Path)
    parser.add_argument("--metric", default="mAP", choices=("mAP", "CF1", "OF1"))
    arguments = parser.parse_args()
    first = settings_but_seed(arguments.runs[0])
    for run in arguments.runs[1:]:
        if settings_but_seed(run) != first:
            raise SystemExit(f"{run} and {arguments.runs[0]} differ in more than their seed.")
    print("\n".join(table(arguments.runs, arguments.metric)))  # noqa: T201 - what the script is for


if __name__ == "__main__":
    main()
