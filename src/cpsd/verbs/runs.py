"""The verbs that do stages of a run: run, partition, train, distill."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TypeVar

from jsonargparse import Namespace

from cpsd import arguments as command_line
from cpsd.addresses import address_of, local_place
from cpsd.computing import device_of
from cpsd.config import RunConfig
from cpsd.config_yaml import as_yaml
from cpsd.data.bad_pictures import PictureCheck
from cpsd.data.loader_sockets import remove_left_folders
from cpsd.data.picture_dataset import keeping_decoder
from cpsd.data.records import Records
from cpsd.data.sources import load_records
from cpsd.evaluation.scoreboard import STUDENT
from cpsd.execution import RunWork, follow
from cpsd.fast import fast
from cpsd.machine_config import TrainerConfig
from cpsd.manifest import run_facts
from cpsd.pipeline import Pipeline
from cpsd.process_group import (
    ALONE,
    ProcessGroup,
    gathered,
    joined,
    launch,
    needs_processes,
)
from cpsd.report.page import write_report
from cpsd.report.progress import counting
from cpsd.report.tables import count_table
from cpsd.run import RunDirectory
from cpsd.run_home import at_home, brought_if_there
from cpsd.smoke import data_are_there, smoke, with_smoke_data
from cpsd.stage import MARKS, Stage, StageState
from cpsd.verbs.executors import chosen_executor, require_executor
from cpsd.verbs.shown_run import show_partitions, show_run, told_of_plain_training
from cpsd.verbs.terminal import (
    announce,
    console,
    keep_quiet,
    say,
    say_page,
    stderr,
    training_progress,
)

Made = TypeVar("Made")

PARTITIONS = "partitions/"
"""How the names of the stages begin that cut the labels into parts."""
TRAINED_TEACHERS = "teachers/"
"""How the names of the stages begin that train teachers."""
PICTURE_MEMORY = "pictures.npz"
"""Beside the marks of stages: which pictures were looked at."""


def run(arguments: Namespace, *, last_stage: str = "") -> int:
    """Do the stages of a run up to the last one whose name begins with ``last_stage``."""
    config = command_line.run_config(arguments)
    require_executor(arguments, config)
    on_cpu = device_of(config).type == "cpu"
    if arguments.dry_run:
        return _run(arguments, config, last_stage, ALONE)
    # Ray starts the processes of each training where it performs it.
    trainer = config.trainer if arguments.executor == "local" else TrainerConfig()
    if needs_processes(trainer):
        return launch(arguments.argv, trainer, on_cpu=on_cpu)
    with joined(trainer, on_cpu=on_cpu) as group:
        if not group.leads:
            keep_quiet()
        return _run(arguments, config, last_stage, group)


def _run(arguments: Namespace, config: RunConfig, last_stage: str, group: ProcessGroup) -> int:
    """Do the stages, or follow the process of the group that does."""
    place = arguments.out or default_out(arguments)
    if arguments.dry_run:
        return _run_in(brought_if_there(place), arguments, config, last_stage, group)
    if not group.leads:
        return _run_in(local_place(place), arguments, config, last_stage, group)
    with at_home(place) as folder:
        return _run_in(folder, arguments, config, last_stage, group)


def _run_in(
    folder: Path, arguments: Namespace, config: RunConfig, last_stage: str, group: ProcessGroup
) -> int:
    """Do the stages in a folder, or follow the process of the group that does."""
    directory = RunDirectory(folder)
    if arguments.fast:
        config = fast(config)
    if arguments.smoke:
        config = _one_after_another(group, lambda: smoke_form(config, directory.path))
    if arguments.dry_run:
        console.print(as_yaml(config), markup=False)
    records, notices = _one_after_another(
        group, lambda: checked_records(config, directory.path, look=not arguments.dry_run)
    )
    say([*notices, *told_of_devices(config)])
    pipeline = Pipeline(
        config,
        records,
        directory.path,
        callbacks=training_progress if group.leads else lambda stage: (),
        counting=partial(counting, stderr),
    )
    stages = pipeline.stages()
    until = 1 + max(i for i, stage in enumerate(stages) if stage.name.startswith(last_stage))
    if arguments.dry_run:
        rows = [(stage.name, directory.state(stage).value) for stage in stages[:until]]
        console.print(count_table(f"Stages in {directory.path}", ("stage", "state"), rows))
        return 0
    if not group.leads:
        follow(stages, directory, group)
        return 0
    looked_at = directory.path / MARKS / PICTURE_MEMORY
    with (
        directory.locked(),
        chosen_executor(
            arguments, config, len(records), looked_at, directory.path, group
        ) as executor,
    ):
        work = RunWork(
            stages,
            directory,
            wanted=stages[:until],
            redo=arguments.redo,
            facts=run_facts(config, records, notices),
            announce=announcing(directory.path, stages),
            config=as_yaml(config),
        )
        executor.begin(work)
        executor.finish(work)
    show = show_partitions if last_stage == PARTITIONS else show_run
    show(directory.path)
    if not last_stage:
        say_page(write_report(directory.path))
    return 0


def announcing(run: Path, stages: Sequence[Stage]) -> Callable[[Stage, StageState], None]:
    """Return what prints stages, and whether plain training overfitted before teachers are trained.

    Then it can still be decided that they are not worth it.
    """
    first = next((stage.name for stage in stages if stage.name.startswith(TRAINED_TEACHERS)), None)

    def tell(stage: Stage, state: StageState) -> None:
        if stage.name == first and state is not StageState.DONE:
            say(told_of_plain_training(run))
        announce(stage, state)

    return tell


def told_of_devices(config: RunConfig) -> list[str]:
    """Return what is said of a training on several devices."""
    devices, size = config.trainer.num_devices, config.training.batch_size
    if devices == 1:
        return []
    return [
        f"{devices} devices train together: each takes {size // devices} of the {size} pictures of "
        "a batch. Batch size and learning rate are those of one device."
    ]


def _one_after_another(group: ProcessGroup, work: Callable[[], Made]) -> Made:
    """Do ``work`` in the first process, and only then in the others."""
    if not group.leads:
        gathered(None)
        return work()
    result = work()
    gathered(None)
    return result


partition = partial(run, last_stage=PARTITIONS)
train = partial(run, last_stage=TRAINED_TEACHERS)
distill = partial(run, last_stage=STUDENT)


def default_out(arguments: Namespace) -> str:
    """Return the run directory where none is named: after the table's folder or the recipe."""
    table, recipe = arguments.table or arguments.data.table, arguments.config
    runs = "runs/smoke" if arguments.smoke else "runs"
    form = "-fast" if arguments.fast else ""
    if table is not None:
        return f"{runs}/{Path(table).resolve().parent.name}{form}"
    return f"{runs}/{Path(str(recipe[-1])).stem if recipe else 'run'}{form}"


def checked_records(
    config: RunConfig, run: Path, *, look: bool = True
) -> tuple[Records, list[str]]:
    """Return the pictures of a run, each of which has been looked at, and what to say of them.

    What a killed process that loaded pictures has left is removed.

    Args:
        config: of the run.
        run: its folder, which remembers what was looked at; a long list of bad pictures is beside
            it.
        look: look at those that were not looked at before.

    Raises:
        DataError: as ``load_records``.
    """
    size, memory_share = config.image.size, config.machine.picture_memory
    remove_left_folders()
    with counting(stderr, "checking") as progress:
        check = PictureCheck(
            keeping_decoder(size, memory_share=memory_share) if look else None,
            memory=run / MARKS / PICTURE_MEMORY,
            told_in=_beside(run, "bad-pictures.csv"),
            progress=progress,
        )
        return load_records(config.data, seed=config.seed, check=check)


def _beside(run: Path, what: str) -> Path:
    """Return a place on this machine beside a run; of one at an address, in the working folder."""
    parent = run.parent if address_of(run) is None else Path()
    return parent / f"{run.resolve().name}-{what}"


def smoke_form(config: RunConfig, run: Path) -> RunConfig:
    """Return the smoke form of ``config``; data that are not there are made up beside the run."""
    config = smoke(config)
    if data_are_there(config.data):
        return config
    # Beside and not inside: the run directory holds what stages have written, nothing else.
    folder = _beside(run, "data")
    config = with_smoke_data(config, folder)
    say([f"The data are not there; digits in the format '{config.data.format}' take their place."])
    return config
