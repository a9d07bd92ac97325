"""The verbs that take or make trained models: evaluate, predict, import."""

import dataclasses
import sys
from pathlib import Path

import numpy as np
from jsonargparse import Namespace
from numpy.typing import NDArray
from scipy.special import expit, logit

from cpsd import arguments as command_line
from cpsd import method
from cpsd.addresses import folder_here, local_place
from cpsd.config import DataConfig, EvaluationConfig
from cpsd.data.bad_pictures import PictureCheck, without_bad_pictures
from cpsd.data.fetching import fetched_places
from cpsd.data.images import PictureError
from cpsd.data.picture_dataset import keeping_decoder
from cpsd.data.sources import read_records, with_pack
from cpsd.data.splits import name_splits
from cpsd.errors import EXIT_USER_ERROR, ConfigError, DataError, RunError
from cpsd.evaluation.prediction_files import write_predictions
from cpsd.evaluation.predictions import Predictions
from cpsd.evaluation.scoreboard import score
from cpsd.files import write_json
from cpsd.importing import PublishedPart, import_checkpoint
from cpsd.labels import LabelSpace
from cpsd.model_config import ModelConfig
from cpsd.models.classifier import MakeModel, model_factory
from cpsd.report.predicted import as_csv, as_json_lines, show_table
from cpsd.report.progress import counting
from cpsd.report.tables import score_table
from cpsd.run_home import brought
from cpsd.trained import (
    Trained,
    kept_temperatures,
    kept_thresholds,
    load_trained,
    pictures_as_records,
    pictures_at,
    run_evaluation,
)
from cpsd.verbs.shown_run import show_run
from cpsd.verbs.terminal import console, say, say_excluded, stderr


def own_factory(name: str | None) -> MakeModel | None:
    """Return the user's own factory ``package.module:function``, where one is named."""
    return None if name is None else model_factory(ModelConfig(factory=name))


def _trained(arguments: Namespace) -> Trained:
    make_model = own_factory(arguments.factory)
    return load_trained(local_place(arguments.run), arguments.predictor, make_model=make_model)


def _threshold(arguments: Namespace, labels: LabelSpace) -> float | NDArray[np.float64]:
    """Return the asked for threshold, otherwise those kept with the model, otherwise the run's."""
    if arguments.threshold is not None:
        return float(_evaluation_settings(arguments).threshold)
    kept = kept_thresholds(local_place(arguments.run), arguments.predictor)
    return _evaluation_settings(arguments).threshold if kept is None else kept.of(labels)


def _evaluation_settings(arguments: Namespace) -> EvaluationConfig:
    """Return how to score and to predict: as asked for, otherwise as the run did."""
    settings = run_evaluation(local_place(arguments.run))
    asked = {"threshold": arguments.threshold, "top_k": arguments.get("top_k")}
    return dataclasses.replace(settings, **{k: v for k, v in asked.items() if v is not None})


def evaluate(arguments: Namespace) -> int:
    """Show a run's scores, or score one of its predictors on other data."""
    run = brought(arguments.run)
    data = command_line.data_config(arguments)
    if data.table is None and data.root is None:
        if not run.is_dir():
            raise RunError(f"{run} is no folder; name the folder of a run, as --out had it.")
        if not (run / "evaluation").is_dir():
            raise RunError(
                f"{run} has no evaluation yet: finish the run, or name data to score on "
                f"(cpsd evaluate {run} labels.csv)."
            )
        show_run(run)
        return 0
    settings = _evaluation_settings(arguments)
    trained, name = _trained(arguments), arguments.predictor
    records, notices = read_records(data, labels=trained.labels)
    # Splits are called as in a run, but one that is none there is nothing wrong here.
    records, _ = name_splits(records, data.test_split)
    split = arguments.split or "all"
    rows = np.arange(len(records)) if split == "all" else records.indices(split)
    if len(rows) == 0:
        known = ", ".join(sorted(filter(None, set(records.splits))))
        there = f"there are: {known}" if known else "the data name no splits; leave --split out"
        raise DataError(f"There is no picture in the split '{split}'; {there}.")
    records = records.select(rows)
    with counting(stderr, "checking") as progress:
        decoder = keeping_decoder(trained.image.size, memory_share=arguments.machine.picture_memory)
        check = PictureCheck(decoder, progress=progress)
        records, skipped = without_bad_pictures(records, data, check)
    say([*notices, *skipped])
    records = with_pack(records, data.pack)
    rows = np.array([row for row in range(len(records)) if row not in records.skipped])
    if len(rows) == 0:
        raise DataError(f"No picture of the split '{split}' can be used.")
    machine = dataclasses.replace(arguments.machine, picture_memory=0.0)  # all are looked at once
    logits_NC = method.predict(trained.predictor, records, rows, trained.config(machine))
    thresholds = {name: _threshold(arguments, trained.labels)}
    board = score(
        {name: logits_NC}, records.targets[rows], records.labels, settings, thresholds=thresholds
    )
    board_json = {"split": split, **board.to_json()}
    console.print(score_table({split: board_json}))
    say_excluded(split, board.metrics[name].excluded_labels)
    if arguments.out is not None:
        folder = folder_here(arguments.out, "--out")
        images = tuple(records.paths[row] for row in rows)
        predictions = Predictions(images, logits_NC, records.targets[rows], records.labels, name)
        for path in (folder / f"{split}.json", folder / f"{split}.parquet"):
            if path.exists():
                raise RunError(f"{path} is there already; name another folder with --out.")
        write_predictions(folder / f"{split}.parquet", predictions)
        write_json(folder / f"{split}.json", board_json)
        say([f"Scores and predictions lie in {folder}"])
    return 0


def predict(arguments: Namespace) -> int:
    """Predict the labels of pictures; unreadable ones are named and the others predicted."""
    brought(arguments.run)
    trained = _trained(arguments)
    threshold = _threshold(arguments, trained.labels)
    temperature_C = np.ones(len(trained.labels))
    if arguments.calibrated:
        temperature_C = kept_temperatures(local_place(arguments.run), arguments.predictor).of(
            trained.labels
        )
        # The same labels are predicted: their thresholds move with the probabilities.
        threshold = expit(logit(threshold) / temperature_C)
    told = [label_names(arguments[key]) for key in ("present", "absent")]
    if any(told):
        trained = trained.told(present=told[0], absent=told[1])
    paths, faults = pictures_at(fetched_places(arguments.pictures))
    records = pictures_as_records(paths, trained.labels)
    # Each picture is looked at once, so none is kept.
    machine = dataclasses.replace(arguments.machine, picture_memory=0.0)
    rows, unreadable = np.arange(len(records)), dict[int, PictureError]()
    logits_NC = method.predict(
        trained.predictor,
        records,
        rows,
        trained.config(machine),
        on_unreadable=unreadable.__setitem__,
    )
    faults += [str(unreadable[row]) for row in sorted(unreadable)]
    for fault in faults:
        stderr.print(f"cpsd: {fault}", style="red", markup=False)
    if len(logits_NC):
        records = records.select(np.delete(rows, [*unreadable]))
        probabilities_NC = expit(logits_NC / temperature_C)
        if arguments.format == "table":
            show_table(console, records, probabilities_NC, threshold)
        else:
            text = {"csv": as_csv, "jsonl": as_json_lines}[arguments.format]
            sys.stdout.write(text(records, probabilities_NC, threshold))
    return EXIT_USER_ERROR if faults else 0


def import_published(arguments: Namespace) -> int:
    """Make a model folder of a published checkpoint."""
    part = None
    if arguments.part_file is not None and arguments.part is not None:
        part = PublishedPart(Path(arguments.part_file), arguments.part, arguments.strategy)
    elif {arguments.part_file, arguments.part, arguments.strategy} != {None}:
        raise ConfigError("A teacher's part takes both --part-file FILE and --part NUMBER.")
    embeddings = arguments.label_embeddings
    card = import_checkpoint(
        Path(arguments.file),
        folder_here(arguments.out, "--out"),
        architecture=arguments.arch,
        labels=arguments.labels,
        label_embeddings=None if embeddings is None else Path(embeddings),
        part=part,
        image_size=arguments.image_size,
    )
    kind = "teacher" if card.part else "model"
    say([f"A {kind} over {len(card.labels)} labels lies in {arguments.out}"])
    return 0


def label_names(cell: str | None) -> list[str]:
    """Return the labels named in one argument."""
    return [name.strip() for name in (cell or "").split(DataConfig.separator) if name.strip()]
