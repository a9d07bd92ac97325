"""A finished run in the terminal."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cpsd.errors import RunError
from cpsd.evaluation.scoreboard import BASELINE
from cpsd.files import plain_damage, read_json
from cpsd.partition import read_partition
from cpsd.pipeline import FINDINGS
from cpsd.report.tables import (
    distance_table,
    in_order,
    partition_table,
    percent,
    score_table,
    stage_table,
)
from cpsd.training.learning_curve import read_learning_curve
from cpsd.verbs.terminal import console, say, say_excluded

BOARD_REMEDY = "Remove the folder it lies in and start the run again to have it scored anew."
FINDINGS_REMEDY = "Remove this folder and start the run again to have them made anew."
MANIFEST_REMEDY = "Start the run again to have it written anew."
OVERFITTED = (
    "With pretrained weights this is where the fast form (--fast) was above plain training of the "
    "same cost, by little, and by less when it was run once more; from scratch no difference was "
    "shown. 'When it helps' in the README has the figures."
)
NOT_OVERFITTED = (
    "Where that was so, more epochs of plain training have done as much as the method or more; "
    "'When it helps' in the README has the figures."
)
"""What was found in docs/evidence.md, for a user who is about to pay for teachers."""


def show_partitions(run: Path) -> None:
    """Print a run's partitions, and where it lies."""
    files = sorted((run / "partitions").glob("*.json"))
    console.print(partition_table([read_partition(path) for path in files]))
    console.print(f"The run lies in {run}", markup=False)


def show_run(run: Path) -> None:
    """Print a run's scores and costs, and where it lies."""
    files = (run / "evaluation").glob("*.json")
    boards = {
        path.stem: _object(path, ("predictors", "student_teacher_distance"), BOARD_REMEDY)
        for path in files
    }
    with plain_damage(run / "evaluation", BOARD_REMEDY):
        if boards:
            console.print(score_table(boards), distance_table(boards))
        for split in in_order(boards):
            say_excluded(split, boards[split]["predictors"]["baseline"]["excluded_labels"])
            say([f"{split}: {verdict}" for verdict in _verdicts(run, split)])
    say(told_of_plain_training(run))
    manifest = _object(run / "manifest.json", ("stages",), MANIFEST_REMEDY)
    with plain_damage(run / "manifest.json", MANIFEST_REMEDY):
        console.print(stage_table(manifest["stages"], manifest.get("method")))
    console.print(f"The run lies in {run}", markup=False)


def told_of_plain_training(run: Path) -> list[str]:
    """Return whether a run's baseline overfitted, and what that has meant; nothing if not known."""
    curve = read_learning_curve(run / BASELINE)
    if curve is None:
        return []
    best = f"{percent(curve.best)} in epoch {curve.best_epoch} of {curve.epochs}"
    if curve.overfits:
        return [
            f"Plain training overfitted: its best mAP on validation was {best}, and "
            f"{percent(curve.lost)} points less at the end. {OVERFITTED}"
        ]
    return [
        f"Plain training did not overfit: its best mAP on validation was {best}, and "
        f"{percent(curve.last)} at the end. {NOT_OVERFITTED}"
    ]


def _verdicts(run: Path, split: str) -> list[str]:
    """Return what the run says of its student beside its baseline; nothing before it is there."""
    path = run / FINDINGS / f"intervals-{split}.json"
    if not path.is_file():
        return []
    content = read_json(path)
    try:
        return [str(verdict["text"]) for verdict in content["verdicts"]]
    except (KeyError, TypeError) as error:
        raise RunError(f"{path} is damaged: it has no verdicts. {FINDINGS_REMEDY}") from error


def _object(path: Path, keys: Sequence[str], remedy: str) -> dict[str, Any]:
    """Return the JSON object of a run that has an object under each of ``keys``."""
    content = read_json(path)
    for key in keys:
        if not isinstance(content, dict) or not isinstance(content.get(key), dict):
            raise RunError(f"{path} is damaged: it has no '{key}'. {remedy}")
    return dict(content)
