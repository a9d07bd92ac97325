"""Files that say how far a stage is: read, or refused with what would do."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cpsd.cost import Cost
from cpsd.errors import RunError
from cpsd.files import read_hashed_json, write_hashed_json
from cpsd.stage import Stage

_OF_MARK = {"stage", "fingerprint", "finished", "outputs", "cost"}


def write_mark(path: Path, stage: Stage, cost: Cost) -> None:
    """Write the completion mark of ``stage``, which has cost so much."""
    write_hashed_json(
        path,
        {
            "stage": stage.name,
            "fingerprint": stage.fingerprint,
            "finished": datetime.now(UTC).isoformat(timespec="seconds"),
            "outputs": list(stage.outputs),
            "cost": cost.to_json(),
        },
    )


def read_mark(path: Path, stage: str) -> dict[str, Any] | None:
    """Return the completion mark of a stage, None where there is none.

    Raises:
        RunError: it is damaged.
    """
    if not path.exists():
        return None
    mark = read_object(path, stage)
    if not isinstance(mark.get("fingerprint"), str):
        raise damaged(path, "it has no fingerprint", stage)
    if not mark.keys() <= _OF_MARK:  # as the name of its hash, if that is what has changed
        raise damaged(path, "it says what no mark says", stage)
    return {**mark, "cost": cost_in(mark.get("cost"), path, stage).to_json()}


def read_object(path: Path, stage: str) -> dict[str, Any]:
    """Return the JSON object that says how far ``stage`` is."""
    try:
        content = read_hashed_json(path)
    except RunError as error:
        raise RunError(f"{error} {_remedy(stage)}") from error
    if not isinstance(content, dict):
        raise damaged(path, "it is no JSON object", stage)
    return content


def cost_in(value: object, path: Path, stage: str) -> Cost:
    """Return the cost that stands in the file ``path`` of ``stage``."""
    try:
        return Cost.from_json(value)
    except ValueError as error:
        raise damaged(path, str(error), stage) from error


def damaged(path: Path, what: str, stage: str) -> RunError:
    """Return what to raise where the file ``path`` of ``stage`` is not what was written."""
    return RunError(f"{path} is damaged: {what}. {_remedy(stage)}")


def _remedy(stage: str) -> str:
    return f"Remove this file to have the stage '{stage}' done again."
