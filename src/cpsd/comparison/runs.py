"""The runs of a comparison: every arm for every seed, each an ordinary run directory.

    COMPARISON/
      compare.json                      scores, intervals, differences and costs (``results``)
      runs/<arm>/<seed>/                an ordinary run, as far as the arm needs it

Runs take from each other what has the same fingerprint, so that the partitions, teachers and soft
labels of a teacher set are made once. Whatever is interrupted goes on where it stopped.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning

from cpsd.comparison.arms import ARMS, CPSD, Arm, Budget, require_comparable
from cpsd.comparison.costs import (
    consumed,
    consumed_by_teachers,
    long_epochs,
    planned_passes,
    shared_share,
    whole_teachers,
)
from cpsd.config import RunConfig
from cpsd.config_yaml import as_yaml
from cpsd.cost import Cost
from cpsd.data.records import TRAIN, Records
from cpsd.errors import ConfigError
from cpsd.evaluation.scoreboard import BASELINE
from cpsd.execution import Executor, LocalExecutor, RunWork, needed
from cpsd.files import read_json
from cpsd.method import student_config
from cpsd.partition import read_partition
from cpsd.pipeline import EVALUATION, EXPLANATIONS, FINDINGS, Pipeline
from cpsd.run import RunDirectory
from cpsd.run_predictions import PREDICTIONS
from cpsd.stage import Stage, StageState
from cpsd.training.soft_label_writing import Progress, uncounted


@dataclass(frozen=True)
class Plan:
    """What a comparison is made of.

    Args:
        arms: in the order in which a seed's are run.
        num_seeds: baselines and students of each arm.
        num_teacher_sets: over how many independent sets of teachers the seeds are spread.

    Raises:
        ConfigError: no seed, or more teacher sets than seeds.
    """

    arms: tuple[Arm, ...] = ARMS
    num_seeds: int = 3
    num_teacher_sets: int = 2

    def __post_init__(self) -> None:
        if self.num_seeds < 1:
            raise ConfigError(f"--seeds is {self.num_seeds}; it must be at least 1.")
        if not 1 <= self.num_teacher_sets <= self.num_seeds:
            raise ConfigError(
                f"--teacher-seeds is {self.num_teacher_sets}; it must be at least 1 and at most "
                f"the number of seeds, {self.num_seeds}."
            )


@dataclass(frozen=True)
class ComparedRun:
    """A run of an arm that is done.

    Args:
        arm: whose it is.
        seed: of its baseline or student.
        teacher_set: which of the teacher sets, from 0.
        path: the run directory.
        cost: all that its predictor took, shared work included.
        teacher_costs: by ensemble of the arm, what its teachers took.
        anew: whether anything of it was not there yet.
    """

    arm: Arm
    seed: int
    teacher_set: int
    path: Path
    cost: Cost
    teacher_costs: dict[str, Cost]
    anew: bool


@dataclass(frozen=True)
class Watching:
    """Who is told what happens.

    Args:
        announce: told of each stage before it is performed or skipped.
        begins: told of each run: its arm, seed, number from 1, of how many, and the seconds that
            all the rest may take, None where nothing is known yet.
        callbacks: Lightning's, for progress; made anew for each training.
        counting: opens what shows the progress of a stage that trains nothing.
    """

    announce: Callable[[Stage, StageState], None] = lambda stage, state: None
    begins: Callable[[Arm, int, int, int, float | None], None] = lambda *about: None
    callbacks: Callable[[str], Sequence[lightning.Callback]] = lambda stage: ()
    counting: Callable[[str], AbstractContextManager[Progress]] = uncounted


class Comparison:
    """Performs the runs of a comparison.

    Args:
        config: the method's settings.
        records: the pictures, split once for all arms and seeds.
        folder: where runs lie.
        plan: arms and seeds.
        facts: what each manifest says about machine and data.
        redo: do stages again that were finished or begun under other settings.
        watching: who is told what happens.
        executor: who performs the stages; this process by default.

    Raises:
        ConfigError: settings under which arms could not be held against each other.
        ModelError: teachers are to share stages of a network that timm does not have.
    """

    def __init__(
        self,
        config: RunConfig,
        records: Records,
        folder: Path,
        plan: Plan,
        *,
        facts: dict[str, Any],
        redo: bool = False,
        watching: Watching | None = None,
        executor: Executor | None = None,
    ) -> None:
        require_comparable(config)
        self._shared = shared_share(config)
        self.config = config
        self.records = records
        self.folder = folder
        self.plan = plan
        self._facts = facts
        self._redo = redo
        self._watching = watching or Watching()
        self._executor = executor or LocalExecutor()
        self._done: list[RunDirectory] = []
        self._begun: dict[tuple[Arm, int], tuple[RunConfig, RunWork]] = {}

    def runs(self) -> Iterator[ComparedRun]:
        """Perform run after run, seed by seed, and yield each when it is done.

        Raises:
            RunError: settings of finished stages have changed, or files cannot be written.
            TrainingError: a training failed.
        """
        epochs = student_config(self.config).training.epochs
        budget = Budget(num_teachers=1, whole_teachers=1, long_epochs=epochs)
        left = _TimeLeft(self._planned(budget))
        baseline = None
        pieces = [(arm, index) for index in range(self.plan.num_seeds) for arm in self.plan.arms]
        with ExitStack() as held:
            if self._executor.works_ahead:
                self._begin([piece for piece in pieces if not piece[0].by_budget], budget, held)
            for number, (arm, index) in enumerate(pieces, start=1):
                seconds = None if self._executor.works_ahead else left.seconds()
                self._watching.begins(arm, self.config.seed + index, number, len(pieces), seconds)
                begun = time.monotonic()
                if (arm, index) not in self._begun:
                    self._begin([(arm, index)], budget, held)
                run = self._finish(arm, index)
                if arm.name == BASELINE and baseline is None:
                    baseline = run.cost
                if arm.name == CPSD and baseline is not None:
                    parts = _parts(run.path)
                    num_teachers = sum(parts.values())
                    budget = Budget(
                        num_teachers,
                        whole_teachers(self.config, num_teachers, len(parts), self._shared),
                        long_epochs=long_epochs(run.cost, baseline, epochs),
                    )
                    left.planned = self._planned(budget)
                    if self._executor.works_ahead:
                        of_seed = [piece for piece in pieces if piece[1] == index]
                        self._begin([p for p in of_seed if p[0].by_budget], budget, held)
                left.finished(time.monotonic() - begun)
                yield run

    def _begin(self, pieces: Sequence[tuple[Arm, int]], budget: Budget, held: ExitStack) -> None:
        """Hold the run directories of arms and seeds, and let their work begin."""
        for arm, index in pieces:
            teachers = self.config.seed + index % self.plan.num_teacher_sets
            seed = self.config.seed + index
            config = arm.config(self.config, budget, seed=seed, teachers=teachers)
            directory = RunDirectory(self.folder / "runs" / arm.name / str(seed))
            stages = Pipeline(
                config,
                self.records,
                directory.path,
                callbacks=self._watching.callbacks,
                counting=self._watching.counting,
            ).stages()
            scored = (arm.predictor, *arm.ensembles)
            # The method's own runs say what scores do not, unless it needs a further baseline.
            same_baseline = student_config(config).training.epochs == config.training.epochs
            told = (EVALUATION, FINDINGS, EXPLANATIONS)
            findings = told if arm.name == CPSD and same_baseline else ()
            work = RunWork(
                stages,
                directory,
                wanted=needed(stages, *(f"{PREDICTIONS}/{name}" for name in scored), *findings),
                redo=self._redo,
                config=as_yaml(config),
                facts=self._facts,
                announce=self._watching.announce,
                sources=self._done,
                title=f"{arm.name} {seed}",
            )
            held.enter_context(directory.locked())
            self._executor.begin(work)
            self._begun[arm, index] = (config, work)

    def _finish(self, arm: Arm, index: int) -> ComparedRun:
        config, work = self._begun[arm, index]
        anew = self._executor.finish(work)
        directory = work.directory
        self._done.append(directory)
        costs = {stage.name: directory.cost(stage) for stage in work.wanted}
        parts = _parts(directory.path)
        shared = self._shared if config.teachers.shared_stages else 0.0
        return ComparedRun(
            arm,
            self.config.seed + index,
            index % self.plan.num_teacher_sets,
            directory.path,
            consumed(arm, config.distillation, parts, costs, shared=shared),
            {name: consumed_by_teachers(name, parts, costs) for name in arm.ensembles},
            anew,
        )

    def _planned(self, budget: Budget) -> list[int]:
        """Return the forward passes of each run, without what it takes from earlier ones."""
        num_images, planned = len(self.records.indices(TRAIN)), []
        for index in range(self.plan.num_seeds):
            first_of_set = index < self.plan.num_teacher_sets
            planned += [
                planned_passes(
                    arm,
                    self.config,
                    budget,
                    num_images,
                    with_teachers=first_of_set,
                    shared=self._shared,
                )
                for arm in self.plan.arms
            ]
        return planned


class _TimeLeft:
    """Tells from what is done how long the rest may take.

    Args:
        planned: forward passes of each run, in order.
    """

    def __init__(self, planned: list[int]) -> None:
        self.planned = planned
        self._num_finished = 0
        self._passes = 0
        self._seconds = 0.0

    def finished(self, seconds: float) -> None:
        """Count a run; one that was there already says nothing about the speed."""
        planned = self.planned[self._num_finished]
        self._num_finished += 1
        if seconds > 1:
            self._passes += planned
            self._seconds += seconds

    def seconds(self) -> float | None:
        """Return the seconds that the rest may take; None before anything is known."""
        if self._passes == 0:
            return None
        return sum(self.planned[self._num_finished :]) * self._seconds / self._passes


def _parts(run: Path) -> dict[str, int]:
    """Return the number of parts by strategy of a run, in the order of its soft labels."""
    manifest = run / "soft_labels" / "manifest.json"
    if not manifest.exists():
        return {}
    teaching: list[str] = read_json(manifest)["strategies"]
    return {
        strategy: read_partition(run / "partitions" / f"{strategy}.json").num_parts
        for strategy in teaching
        if strategy != BASELINE
    }
