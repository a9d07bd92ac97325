"""Performing the stages of a run: in their order, those that are wanted, each once."""

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from cpsd.config_yaml import changed_settings
from cpsd.cost import Cost
from cpsd.errors import RunError
from cpsd.files import write_text
from cpsd.process_group import ALONE, ProcessGroup
from cpsd.run import RunDirectory
from cpsd.stage import Stage, StageState


def needed(stages: Sequence[Stage], *names: str) -> list[Stage]:
    """Return the stages ``names`` and all that they need, in the order of ``stages``."""
    wanted = set(names)
    for stage in reversed(stages):
        if stage.name in wanted:
            wanted.update(stage.needs)
    return [stage for stage in stages if stage.name in wanted]


@dataclass(frozen=True, eq=False)
class RunWork:
    """What is to be done in one run directory.

    Args:
        stages: all of the run, in an order in which each finds what it needs.
        directory: held by this process (``RunDirectory.locked``) until it is done.
        wanted: those of them to perform.
        redo: do stages again that were finished or begun under other settings.
        config: the resolved configuration as YAML.
        facts: what the manifest says about the run.
        announce: told of each stage before it is performed or skipped.
        sources: other runs, whose results are taken where fingerprints are the same; may grow.
        title: tells it from other work that is done meanwhile.
    """

    stages: Sequence[Stage]
    directory: RunDirectory
    wanted: Sequence[Stage]
    redo: bool
    config: str
    facts: dict[str, Any]
    announce: Callable[[Stage, StageState], None]
    sources: Sequence[RunDirectory] = ()
    title: str = ""

    def prepare(self) -> None:
        """Write the configuration, unless something stands there that it would contradict.

        Raises:
            RunError: settings of finished or begun stages have changed, and ``redo`` is not set.
        """
        # Later stages too: config.yaml must not say what results that stay were not made with.
        changed = [
            stage.name for stage in self.stages if self.directory.state(stage) is StageState.CHANGED
        ]
        kept = self.directory.path / "config.yaml"
        if changed and not self.redo:
            why = "; ".join(changed_settings(kept, self.config)) or (
                "no setting is another, so the data, a file that settings name, or the release of "
                "cpsd is"
            )
            raise RunError(
                f"Settings or data have changed for what {self.directory.path} already holds: "
                f"{', '.join(changed)} ({why}). Say --redo to do these again (their results are "
                "replaced), or choose another --out."
            )
        write_text(kept, self.config)

    def taken(self, stage: Stage, sources: Sequence[RunDirectory]) -> bool:
        """Return whether the result of ``stage`` was taken from one of ``sources``."""
        return any(self.directory.take(stage, source) for source in sources)


class Executor(Protocol):
    """Whoever performs stages; results are the files of the run directory, whoever it is."""

    works_ahead: bool
    """Whether what has begun is performed before somebody waits for it."""

    def begin(self, work: RunWork) -> None:
        """Let the work begin; ``finish`` waits for it.

        Raises:
            RunError: settings of finished or begun stages have changed.
        """

    def finish(self, work: RunWork) -> bool:
        """Return when all wanted stages are done; whether any was not done before.

        Raises:
            RunError: settings of finished or begun stages have changed, or files cannot be written.
            UserError: what a stage raises.
        """


class LocalExecutor:
    """Performs stage after stage in this process.

    Args:
        group: the processes that train with this one, which leads them; they ``follow``.
    """

    works_ahead = False

    def __init__(self, group: ProcessGroup = ALONE) -> None:
        self._group = group

    def begin(self, work: RunWork) -> None:
        """Write the configuration; nothing is performed yet."""
        work.prepare()

    def finish(self, work: RunWork) -> bool:
        """Perform the wanted stages in their order, skipping those that are done."""
        anything = False
        for stage in work.wanted:
            state = work.directory.state(stage)
            anything |= state is not StageState.DONE
            if state is StageState.NEW and work.taken(stage, work.sources):
                state = StageState.DONE
            work.announce(stage, state)
            if state is not StageState.DONE:
                together = done_together(stage, self._group) if stage.trains else stage
                work.directory.perform(together)
            work.directory.write_manifest(work.facts, work.stages)
        self._group.tell(None)
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
        folders.append(directory.copy_begun(known[name], group.share.index))

    try:
        while (name := group.told(look)) is not None:
            known[name].work(folders[-1])
            shutil.rmtree(folders.pop())
    finally:
        for folder in folders:
            shutil.rmtree(folder, ignore_errors=True)


def done_together(stage: Stage, group: ProcessGroup) -> Stage:
    """Return ``stage`` with work that calls the other processes to it first."""

    def work(folder: Path) -> Cost:
        group.tell(stage.name)
        return stage.work(folder)

    return replace(stage, work=work)
