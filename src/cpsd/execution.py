"""Performing the stages of a run: in their order, those that are wanted, each once."""

from collections.abc import Callable, Sequence
from typing import Any

from cpsd.errors import RunError
from cpsd.files import write_text
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
            directory.perform(stage)
        directory.write_manifest(facts, stages)
    return anything
