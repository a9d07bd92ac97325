"""The verb compare: the method beside its controls, over seeds."""

from functools import partial
from pathlib import Path

from jsonargparse import Namespace

from cpsd import arguments as command_line
from cpsd.comparison.arms import CPSD, Arm, chosen_arms
from cpsd.comparison.results import Results
from cpsd.comparison.runs import ComparedRun, Comparison, Plan, Watching
from cpsd.config import RunConfig
from cpsd.config_yaml import as_yaml
from cpsd.errors import ConfigError
from cpsd.fast import fast
from cpsd.files import write_json
from cpsd.manifest import run_facts
from cpsd.report.comparison_tables import comparison_table, cost_table, learning_curve_table
from cpsd.report.page import REPORT_FILE, write_comparison_report, write_report
from cpsd.report.progress import counting, duration
from cpsd.report.tables import count_table, percent
from cpsd.run import RunDirectory
from cpsd.run_home import at_home, brought_if_there
from cpsd.stage import MARKS, Stage, StageState
from cpsd.verbs.executors import chosen_executor, require_executor
from cpsd.verbs.runs import PICTURE_MEMORY, checked_records, default_out, smoke_form
from cpsd.verbs.terminal import announce, console, say, say_page, stderr, training_progress

COMPARISON_FILE = "compare.json"
ENOUGH_TEACHER_SETS = 3
"""From three on, how much teacher sets differ is seen and not assumed (docs/evidence.md)."""


def compare(arguments: Namespace) -> int:
    """Run the arms over seeds; show what they come to as they come."""
    if arguments.resamples < 1:
        raise ConfigError(f"--resamples is {arguments.resamples}; it must be at least 1.")
    config = command_line.run_config(arguments)
    if config.trainer.num_devices > 1:
        raise ConfigError(
            f"trainer.devices x trainer.num_nodes is {config.trainer.devices} x "
            f"{config.trainer.num_nodes}, but trainings of a comparison are on one device each; "
            "leave them out. A single cpsd run can be spread over several."
        )
    require_executor(arguments, config)
    seeds, teacher_sets = arguments.seeds, arguments.teacher_seeds
    if teacher_sets is None:
        teacher_sets = min(seeds, ENOUGH_TEACHER_SETS)
    plan = Plan(_named_arms(arguments.arms), seeds, teacher_sets)
    place = arguments.out or f"{default_out(arguments)}-compared"
    if arguments.dry_run:
        return _compare_in(brought_if_there(place), arguments, config, plan)
    with at_home(place) as folder:
        return _compare_in(folder, arguments, config, plan)


def _compare_in(folder: Path, arguments: Namespace, config: RunConfig, plan: Plan) -> int:
    """Run the arms over seeds in a folder."""
    directory = RunDirectory(folder)
    if arguments.fast:
        config = fast(config)
    if arguments.smoke:
        config = smoke_form(config, directory.path)
    if arguments.dry_run:
        console.print(as_yaml(config), markup=False)
        _show_plan(plan, config.seed)
        return 0
    records, notices = checked_records(config, directory.path)
    say(notices)
    results = Results(
        directory.path,
        plan,
        records.test_splits(),
        config.evaluation,
        num_resamples=arguments.resamples,
    )
    looked_at = directory.path / MARKS / PICTURE_MEMORY
    with (
        directory.locked(),
        chosen_executor(arguments, config, len(records), looked_at, directory.path) as executor,
    ):
        comparison = Comparison(
            config,
            records,
            directory.path,
            plan,
            facts=run_facts(config, records, notices),
            redo=arguments.redo,
            watching=Watching(
                _announce, _announce_run, training_progress, partial(counting, stderr)
            ),
            executor=executor,
        )
        anew = False
        for run in comparison.runs():
            results.add(run)
            if run.arm.name == CPSD and (run.anew or not (run.path / REPORT_FILE).is_file()):
                write_report(run.path)
            _show_run(results, run)
            anew |= run.anew
            # Going through what was there already takes nothing back that is known of all of it.
            if anew:
                write_json(directory.path / COMPARISON_FILE, results.to_json())
            if anew and run.arm is plan.arms[-1]:
                write_comparison_report(directory.path)
                _show(results)
        if not anew:
            write_json(directory.path / COMPARISON_FILE, results.to_json())
            write_comparison_report(directory.path)
            _show(results)
    console.print(f"The comparison lies in {directory.path}", markup=False)
    say_page(directory.path / REPORT_FILE)
    return 0


def _named_arms(names: str | None) -> tuple[Arm, ...]:
    """Return the arms that are named with commas between them, all where none are named."""
    if names is None:
        return chosen_arms(None)
    return chosen_arms(tuple(filter(None, (name.strip() for name in names.split(",")))))


def _announce(stage: Stage, state: StageState) -> None:
    """Print a stage that there is something to do for; most are shared and there already."""
    if state is not StageState.DONE:
        announce(stage, state)


def _announce_run(arm: Arm, seed: int, number: int, total: int, seconds: float | None) -> None:
    left = "" if seconds is None else f", about {duration(seconds)} left"
    console.print(f"[bold cyan]{arm.name}, seed {seed}[/] (run {number} of {total}{left})")


def _show_run(results: Results, run: ComparedRun) -> None:
    row = results.rows[run.arm.name]
    figures = [f"{split} {percent(row.scores[split][-1].metrics.mAP)}" for split in results.splits]
    say([f"{run.arm.name}, seed {run.seed}: mAP {', '.join(figures)}"])


def _show(results: Results) -> None:
    """Print the tables of what is done so far, and what they say."""
    content = results.to_json()
    console.print(comparison_table(content), cost_table(content), learning_curve_table(content))
    for split, found in content["verdicts"].items():
        headline = [found["headline"]] if found["headline"] else []
        texts = [*headline, *(verdict["text"] for verdict in found["verdicts"])]
        say([f"{split}: {text}" for text in texts])


def _show_plan(plan: Plan, seed: int) -> None:
    runs = [
        (arm.name, seed + index, index % plan.num_teacher_sets)
        for index in range(plan.num_seeds)
        for arm in plan.arms
    ]
    console.print(count_table("Runs", ("arm", "seed", "teacher set"), runs))
