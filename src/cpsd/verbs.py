"""The verbs: what each command does, and what it prints."""

import dataclasses
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import lightning
import numpy as np
from jsonargparse import Namespace
from rich.console import Console

from cpsd import arguments as command_line
from cpsd.config import DataConfig, EvaluationConfig, RunConfig
from cpsd.data.check import CheckReport, check_data
from cpsd.data.digits import write_digits
from cpsd.data.sources import load_records, read_records
from cpsd.data.splits import name_splits
from cpsd.errors import EXIT_USER_ERROR, ConfigError, DataError, RunError
from cpsd.evaluation.predictions import Predictions, write_predictions
from cpsd.evaluation.scoreboard import STUDENT, score
from cpsd.execution import execute
from cpsd.files import read_json, write_json
from cpsd.importing import PublishedPart, import_checkpoint
from cpsd.manifest import run_facts
from cpsd.method import predict
from cpsd.model_config import ModelConfig
from cpsd.models.classifier import model_factory
from cpsd.pipeline import Pipeline
from cpsd.report.predicted import as_csv, as_json_lines, show_table
from cpsd.report.progress import TrainingProgress, counting
from cpsd.report.tables import (
    count_table,
    distance_table,
    in_order,
    score_table,
    stage_table,
)
from cpsd.run import RunDirectory, Stage, StageState
from cpsd.smoke import data_are_there, smoke, with_smoke_data
from cpsd.trained import (
    Trained,
    load_trained,
    pictures_as_records,
    readable_pictures,
    run_evaluation,
)

EXIT_OK = 0
EXIT_WRONG = 1
"""Something is wrong with the data that were looked at."""

BOARD_REMEDY = "Remove the folder it lies in and start the run again to have it scored anew."
MANIFEST_REMEDY = "Start the run again to have it written anew."
LAST_STAGE = {"partition": "partitions/", "train": "teachers/", "distill": STUDENT}

# Where nobody looks at a terminal (a file, a pipe), lines are as long as their words.
console = Console(highlight=False, width=None if sys.stdout.isatty() else 200)
stderr = Console(stderr=True, highlight=False, soft_wrap=True)


def _run(arguments: Namespace, *, last_stage: str = "") -> int:
    """Do the stages of a run up to the last one whose name begins with ``last_stage``."""
    config = command_line.run_config(arguments)
    directory = RunDirectory(Path(arguments.out or _default_out(arguments)))
    if arguments.smoke:
        config = _smoke_form(config, directory.path)
    if arguments.dry_run:
        console.print(command_line.dump(config), markup=False)
    records, notices = load_records(config.data, seed=config.seed)
    _say(notices)
    pipeline = Pipeline(
        config, records, directory.path, callbacks=_progress, counting=partial(counting, stderr)
    )
    stages = pipeline.stages()
    until = 1 + max(i for i, stage in enumerate(stages) if stage.name.startswith(last_stage))
    if arguments.dry_run:
        rows = [(stage.name, directory.state(stage).value) for stage in stages[:until]]
        console.print(count_table(f"Stages in {directory.path}", ("stage", "state"), rows))
        return 0
    with directory.locked():
        execute(
            stages,
            directory,
            wanted=stages[:until],
            redo=arguments.redo,
            facts=run_facts(config, records, notices),
            announce=_announce,
            config=command_line.dump(config),
        )
    _show_run(directory.path)
    return 0


def _progress(title: str) -> list[lightning.Callback]:
    return [TrainingProgress(console, title)]


def _announce(stage: Stage, state: StageState) -> None:
    texts = {
        StageState.DONE: "done before, kept",
        StageState.STARTED: "going on where it stopped",
        StageState.CHANGED: "doing it again with the new settings",
    }
    console.print(f"[bold]{stage.name}[/bold] {texts.get(state, '')}")


def _default_out(arguments: Namespace) -> str:
    """Return the run directory where none is named: after the table's folder or the recipe."""
    table, recipe = arguments.table or arguments.data.table, arguments.config
    runs = "runs/smoke" if arguments.smoke else "runs"
    if table is not None:
        return f"{runs}/{Path(table).resolve().parent.name}"
    return f"{runs}/{Path(str(recipe[-1])).stem}" if recipe else f"{runs}/run"


def _smoke_form(config: RunConfig, run: Path) -> RunConfig:
    """Return the smoke form of ``config``; data that are not there are made up beside the run."""
    config = smoke(config)
    if data_are_there(config.data):
        return config
    # Beside and not inside: the run directory holds what stages have written, nothing else.
    folder = run.parent / f"{run.resolve().name}-data"
    config = with_smoke_data(config, folder)
    _say([f"The data are not there; digits in the format '{config.data.format}' take their place."])
    return config


def _show_run(run: Path) -> None:
    """Print a run's scores and costs, and where it lies."""
    files = (run / "evaluation").glob("*.json")
    boards = {
        path.stem: _object(path, ("predictors", "student_teacher_distance"), BOARD_REMEDY)
        for path in files
    }
    if boards:
        console.print(score_table(boards), distance_table(boards))
    for split in in_order(boards):
        _say_excluded(split, boards[split]["predictors"]["baseline"]["excluded_labels"])
    manifest = _object(run / "manifest.json", ("stages",), MANIFEST_REMEDY)
    console.print(stage_table(manifest["stages"]))
    console.print(f"The run lies in {run}", markup=False)


def _object(path: Path, keys: Sequence[str], remedy: str) -> dict[str, Any]:
    """Return the JSON object of a run that has an object under each of ``keys``."""
    content = read_json(path)
    for key in keys:
        if not isinstance(content, dict) or not isinstance(content.get(key), dict):
            raise RunError(f"{path} is damaged: it has no '{key}'. {remedy}")
    return dict(content)


def _trained(arguments: Namespace) -> Trained:
    make_model = None
    if arguments.factory is not None:
        make_model = model_factory(ModelConfig(factory=arguments.factory))
    return load_trained(Path(arguments.run), arguments.predictor, make_model=make_model)


def _evaluation_settings(arguments: Namespace) -> EvaluationConfig:
    """Return how to score and to predict: as asked for, otherwise as the run did."""
    settings = run_evaluation(Path(arguments.run))
    asked = {"threshold": arguments.threshold, "top_k": arguments.get("top_k")}
    return dataclasses.replace(settings, **{k: v for k, v in asked.items() if v is not None})


def _evaluate(arguments: Namespace) -> int:
    """Show a run's scores, or score one of its predictors on other data."""
    run = Path(arguments.run)
    data = arguments.data
    if arguments.table is not None:
        data = dataclasses.replace(data, table=arguments.table)
    if data.table is None and data.root is None:
        if not (run / "evaluation").is_dir():
            raise RunError(
                f"{run} has no evaluation yet: finish the run, or name data to score on "
                f"(cpsd evaluate {run} labels.csv)."
            )
        _show_run(run)
        return 0
    settings = _evaluation_settings(arguments)
    trained, name = _trained(arguments), arguments.predictor
    records, notices = read_records(data, labels=trained.labels)
    _say(notices)
    # Splits are called as in a run, but one that is none there is nothing wrong here.
    records, _ = name_splits(records, data.test_split)
    split = arguments.split or "all"
    rows = np.arange(len(records)) if split == "all" else records.indices(split)
    if len(rows) == 0:
        known = ", ".join(sorted(filter(None, set(records.splits)))) or "none"
        raise DataError(f"There is no picture in the split '{split}'; there are: {known}.")
    logits_NC = predict(trained.predictor, records, rows, trained.config(arguments.machine))
    board = score({name: logits_NC}, records.targets[rows], records.labels, settings)
    board_json = {"split": split, **board.to_json()}
    console.print(score_table({split: board_json}))
    _say_excluded(split, board.metrics[name].excluded_labels)
    if arguments.out is not None:
        folder = Path(arguments.out)
        images = tuple(records.paths[row] for row in rows)
        predictions = Predictions(images, logits_NC, records.targets[rows], records.labels, name)
        for path in (folder / f"{split}.json", folder / f"{split}.parquet"):
            if path.exists():
                raise RunError(f"{path} is there already; name another folder with --out.")
        write_predictions(folder / f"{split}.parquet", predictions)
        write_json(folder / f"{split}.json", board_json)
        _say([f"Scores and predictions lie in {folder}"])
    return 0


def _predict(arguments: Namespace) -> int:
    """Predict the labels of pictures; unreadable ones are named and the others predicted."""
    threshold = _evaluation_settings(arguments).threshold
    trained = _trained(arguments)
    told = [_names(arguments[key]) for key in ("present", "absent")]
    if any(told):
        trained = trained.told(present=told[0], absent=told[1])
    paths, faults = readable_pictures([Path(name) for name in arguments.pictures])
    for fault in faults:
        stderr.print(f"cpsd: {fault}", style="red", markup=False)
    if paths:
        records = pictures_as_records(paths, trained.labels)
        rows = np.arange(len(records))
        logits_NC = predict(trained.predictor, records, rows, trained.config(arguments.machine))
        probabilities_NC = 1 / (1 + np.exp(-logits_NC.astype(np.float64)))
        if arguments.format == "table":
            show_table(console, records, probabilities_NC, threshold)
        else:
            text = {"csv": as_csv, "jsonl": as_json_lines}[arguments.format]
            sys.stdout.write(text(records, probabilities_NC, threshold))
    return EXIT_USER_ERROR if faults else 0


def _import(arguments: Namespace) -> int:
    """Make a model folder of a published checkpoint."""
    part = None
    if arguments.part_file is not None and arguments.part is not None:
        part = PublishedPart(Path(arguments.part_file), arguments.part, arguments.strategy)
    elif {arguments.part_file, arguments.part, arguments.strategy} != {None}:
        raise ConfigError("A teacher's part takes both --part-file FILE and --part NUMBER.")
    embeddings = arguments.label_embeddings
    card = import_checkpoint(
        Path(arguments.file),
        Path(arguments.out),
        architecture=arguments.arch,
        labels=arguments.labels,
        label_embeddings=None if embeddings is None else Path(embeddings),
        part=part,
        image_size=arguments.image_size,
    )
    kind = "teacher" if card.part else "model"
    _say([f"A {kind} over {len(card.labels)} labels lies in {arguments.out}"])
    return 0


def _names(cell: str | None) -> list[str]:
    """Return the labels named in one argument."""
    return [name.strip() for name in (cell or "").split(DataConfig.separator) if name.strip()]


def _check(arguments: Namespace) -> int:
    """Account for every row of a data set."""
    data = arguments.data
    if arguments.table is not None:
        data = dataclasses.replace(data, table=arguments.table)
    with counting(stderr, "decoding") as progress:
        report = check_data(data, seed=arguments.seed, progress=progress)
    _show_check(report)
    return EXIT_WRONG if report.problems else 0


def _show_check(report: CheckReport) -> None:
    columns = ("split", "pictures", "with a positive", "without", "unlabelled", "with a problem")
    rows = [dataclasses.astuple(count) for count in report.counts]
    console.print(count_table(f"{report.source}: {report.num_rows:,} rows", columns, rows))
    _say(report.notices)
    if report.num_without_picture:
        _say([f"{report.num_without_picture:,} rows name no picture that could be made out."])
    if not report.problems:
        console.print("Nothing is wrong.")
        return
    kinds = list(report.kinds().items())
    console.print(count_table("Problems", ("kind", "count"), kinds))
    for problem in report.problems:
        console.print(f"{problem.origin}: {problem.kind}: {problem.detail}", markup=False)


def _demo(arguments: Namespace) -> int:
    """Write the embedded demo data."""
    table = write_digits(Path(arguments.folder), seed=arguments.seed)
    _say([f"The demo data lie in {table}"])
    return 0


def _say(sentences: Sequence[str]) -> None:
    for sentence in sentences:
        console.print(f"  {sentence}", markup=False)


def _say_excluded(split: str, labels: Sequence[str]) -> None:
    if labels:
        _say([f"{split}: no picture has {', '.join(labels)}, so these are not scored."])


VERBS: dict[str, Callable[[Namespace], int]] = {
    "run": _run,
    **{verb: partial(_run, last_stage=stage) for verb, stage in LAST_STAGE.items()},
    "evaluate": _evaluate,
    "predict": _predict,
    "import": _import,
    "data check": _check,
    "data demo": _demo,
}
