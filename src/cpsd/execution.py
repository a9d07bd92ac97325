"""Performing the stages of a run: in their order, those that are wanted, each once."""

import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from cpsd.cost import Cost
from cpsd.errors import RunError
from cpsd.files import write_text
from cpsd.process_group import ALONE, ProcessGroup
from cpsd.run import RunDirectory, Stage, StageState


def needed(stages: Sequence[Stage], *names: str) -> list[Stage]:
    """Return the stages ``names`` and all that they need, in the order of ``stages``."""
    wanted = set(names)
    for stage in reversed(stages):
        if stage.name in wanted:
            wanted.update(stage.needs)
    return [stage for stage in stages if stage.name in wanted]


def execute(
    stages: Sequence[Stage],
    directory: RunDirectory,
    *,
    wanted: Sequence[Stage],
    redo: bool,
    config: str,
    facts: dict[str, Any],
    announce: Callable[[Stage, StageState], None],
    sources: Sequence[RunDirectory] = (),
    group: ProcessGroup = ALONE,
) -> bool:
    """Perform the stages in order, skipping those that are done; return whether any was not.

    Args:
        stages: all of the run, in an order in which each finds what it needs.
        directory: held by this process (``RunDirectory.locked``).
        wanted: those of them to perform.
        redo: do stages again that were finished or begun under other settings.
        config: the resolved configuration as YAML.
        facts: what the manifest says about the run.
        announce: told of each stage before it is performed or skipped.
        sources: other runs, whose results are taken where fingerprints are the same.
        group: the processes that train with this one, which leads them; they ``follow``.

    Raises:
        RunError: settings of finished or begun stages have changed, and ``redo`` is not set.
    """
    # Later stages too: config.yaml must not say what results that stay there were not made with.
    changed = [stage.name for stage in stages if directory.state(stage) is StageState.CHANGED]
    if changed and not redo:
        raise RunError(
            f"Settings or data have changed for what {directory.path} already holds: "
            f"{', '.join(changed)}. Say --redo to do these again (their results are replaced), or "
            "choose another --out."
        )
    write_text(directory.path / "config.yaml", config)
    anything = False
    for stage in wanted:
        state = directory.state(stage)
        anything |= state is not StageState.DONE
        if state is StageState.NEW and any(directory.take(stage, run) for run in sources):
            state = StageState.DONE
        announce(stage, state)
        if state is not StageState.DONE:
            directory.perform(_done_together(stage, group) if stage.trains else stage)
        directory.write_manifest(facts, stages)
    group.tell(None)
    return anything


def follow(stages: Sequence[Stage], directory: RunDirectory, group: ProcessGroup) -> None:
    """Do the work of those stages that the first process calls to, until it sends us home.

    Args:
        stages: all of the run.
        directory: held by the first process.
        group: those that train together; this one is not the first.
    """
    known = {stage.name: stage for stage in stages}
    folders: list[Path] = []

    def look(name: str) -> None:
        folders.append(directory.copy_begun(name, group.share.index))

    try:
        while (name := group.told(look)) is not None:
            known[name].work(folders[-1])
            shutil.rmtree(folders.pop())
    finally:
        for folder in folders:
            shutil.rmtree(folder, ignore_errors=True)


def _done_together(stage: Stage, group: ProcessGroup) -> Stage:
    """Return ``stage`` with work that calls the other processes to it first."""

    def work(folder: Path) -> Cost:
        group.tell(stage.name)
        return stage.work(folder)

    return replace(stage, work=work)
