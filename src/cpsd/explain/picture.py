"""One picture explained: how baseline, teacher ensembles and student of a run see it."""

import csv
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray
from torch import nn

from cpsd.addresses import is_address, local_place, place_in
from cpsd.csv_cells import from_text
from cpsd.data.boxes import read_boxes
from cpsd.data.images import read_image
from cpsd.data.records import VALIDATION, Records
from cpsd.errors import ConfigError, DataError, RunError
from cpsd.evaluation.prediction_files import read_predictions
from cpsd.evaluation.scoreboard import BASELINE, STUDENT, TEACHERS, ensemble_name
from cpsd.explain.maps import METHOD_NAMES, Method, explanation_method, record_maps
from cpsd.explain.panel import PanelColumn, PanelRow, draw_panel
from cpsd.files import plain_damage, written_whole
from cpsd.labels import UNKNOWN, LabelSpace
from cpsd.machine_config import MachineConfig
from cpsd.method import predict
from cpsd.models.card import CARD_FILE
from cpsd.models.classifier import MakeModel
from cpsd.run_predictions import predictions_file, threshold_of
from cpsd.trained import (
    Trained,
    kept_thresholds,
    load_trained,
    pictures_as_records,
    run_evaluation,
)

MOST_LABELS = 40
"""Rows that a panel can have: as a picture it is ten thousand pixels high then."""
_MOST_PREDICTED = 8
_FEWEST_SHOWN = 3
_WORDS: dict[Method, str] = {
    "grad-cam": "the brighter a place, the more it speaks for the label",
    "attention": "the brighter a place, the more of its attention the label gives it",
}


def explain_picture(
    run: Path,
    picture: Path,
    *,
    labels: Sequence[str] = (),
    out: Path | None = None,
    machine: MachineConfig | None = None,
    make_model: MakeModel | None = None,
) -> Path:
    """Write a panel of the picture, a row a label and a column a predictor; return its path.

    Args:
        run: a finished run directory, or the folder of one model, which is then the only column.
        picture: the picture's file. Where the run was trained or scored on it, its targets stand
            beside the labels, and frames show where they are if the data say it.
        labels: names of at most 40; by default those that student or baseline predict, eight
            at most, or the three likeliest where they predict none.
        out: a PNG file that is not there yet; ``<picture's name>-explained.png`` by default.
        machine: where to compute.
        make_model: the user's own factory, where the models are of one.

    Raises:
        ConfigError: too many labels, or ``out`` is no PNG.
        DataError: the picture cannot be read, or a label is unknown (the nearest is offered).
        ModelError: a predictor is damaged or cannot be explained.
        RunError: ``run`` is none or has no student yet, ``out`` is there already, or cannot be
            written.
    """
    out = _free_place(out or Path(f"{picture.stem}-explained.png"))
    names = _predictors(run)
    image = read_image(picture)
    machine = replace(machine or MachineConfig(), workers=0)  # there is one picture to load
    source = _Source(run, picture, machine, make_model)
    chosen = list(dict.fromkeys(labels)) or source.predicted(names)
    if len(chosen) > MOST_LABELS:
        raise ConfigError(f"A panel shows at most {MOST_LABELS} labels, not {len(chosen)}.")
    columns: list[PanelColumn] = []
    methods: dict[Method, None] = {}
    for name in names:
        trained = source.load(name)
        where = trained.labels.indices(chosen)
        probabilities, method = source.probabilities(trained), explanation_method(trained.predictor)
        maps_Lhw = source.maps(trained, where)
        thresholds = source.thresholds(name, trained.labels)[where]
        columns.append(PanelColumn(heading(name), probabilities[where], maps_Lhw, thresholds))
        methods[method] = None
    rows = _rows(run, picture, chosen)
    panel = draw_panel(
        image,
        rows,
        columns,
        title=picture.name,
        note=_note(list(methods), columns, framed=any(row.boxes for row in rows)),
    )
    with written_whole(out) as temporary:
        panel.save(temporary, format="PNG")
    return out


def heading(name: str) -> str:
    """Return what people call a predictor.

    Example:
        >>> heading("teachers/co-occurrence"), heading("teachers"), heading("student")
        ('co-occurrence teachers', 'all teachers', 'student')
    """
    if name == TEACHERS:
        return "all teachers"
    kind, _, strategy = name.partition("/")
    return f"{strategy} teachers" if kind == TEACHERS else name


@dataclass(frozen=True)
class _Source:
    """What a run says of one picture. One predictor is held at a time: a run may have dozens."""

    run: Path
    picture: Path
    machine: MachineConfig
    make_model: MakeModel | None

    def load(self, name: str) -> Trained:
        """Return a predictor of the run."""
        return load_trained(self.run, name, make_model=self.make_model)

    def probabilities(self, trained: Trained) -> NDArray[np.float64]:
        """Return the probability of every label, ``(C,)``."""
        records = pictures_as_records([self.picture], trained.labels)
        config = trained.config(self.machine)
        logits_1C = predict(trained.predictor, records, np.arange(1), config)
        probabilities: NDArray[np.float64] = (1 + np.tanh(logits_1C[0].astype(np.float64) / 2)) / 2
        return probabilities

    def maps(self, trained: Trained, columns: NDArray[np.intp]) -> NDArray[np.float32]:
        """Return the maps of some labels, ``(L, h, w)``."""
        records = pictures_as_records([self.picture], trained.labels)
        predictor: nn.Module = trained.predictor
        pairs = [(0, column) for column in columns.tolist()]
        return record_maps(predictor, records, pairs, trained.config(self.machine))

    def thresholds(self, name: str, labels: LabelSpace) -> NDArray[np.float64]:
        """Return the probabilities ``(C,)`` from which a predictor's labels are predicted."""
        settings = run_evaluation(self.run)
        found: float | NDArray[np.float64] = settings.threshold
        kept = kept_thresholds(self.run, name)
        if kept is not None:
            found = kept.of(labels)
        elif predictions_file(self.run, name, VALIDATION).is_file():
            found = threshold_of(self.run, name, settings)
        return np.broadcast_to(np.asarray(found, dtype=np.float64), len(labels))

    def predicted(self, names: Sequence[str]) -> list[str]:
        """Return the labels that student or baseline predict, the likeliest first."""
        asked = [name for name in names if name in (BASELINE, STUDENT)] or names[:1]
        loaded = [self.load(name) for name in asked]
        labels = loaded[0].labels
        probabilities_MC = np.stack([self.probabilities(trained) for trained in loaded])
        thresholds_MC = np.stack([self.thresholds(name, labels) for name in asked])
        order = np.argsort(-probabilities_MC.max(axis=0), kind="stable")
        reached_C = (probabilities_MC >= thresholds_MC).max(axis=0)
        predicted = order[reached_C[order]]
        return list(labels.select(predicted[:_MOST_PREDICTED].tolist() or order[:_FEWEST_SHOWN]))


def _free_place(out: Path) -> Path:
    """Return ``out``, refused where it is no PNG or would overwrite a file."""
    if out.suffix.lower() != ".png":
        raise ConfigError(f"{out} is no PNG file; name one that ends in .png with --out.")
    if out.exists():
        raise RunError(f"{out} is there already; name another file with --out.")
    return out


def _predictors(run: Path) -> list[str]:
    """Return the predictors to show, in their order."""
    if (run / CARD_FILE).is_file():
        return [run.resolve().name]
    if not (run / "labels.json").is_file():
        raise RunError(f"{run} is neither a run directory nor the folder of a model.")
    settings = _settings(run)
    strategies = settings.get("partition", {}).get("strategies", [])
    names = [BASELINE, *map(ensemble_name, strategies), STUDENT]
    for name in names:
        card = run / name / (CARD_FILE if name in (BASELINE, STUDENT) else f"0/{CARD_FILE}")
        if not card.is_file():
            raise RunError(
                f"The run {run} has no {heading(name)} yet: finish it with cpsd run, or explain "
                "one model by its folder."
            )
    return names


def _settings(run: Path) -> dict[str, Any]:
    """Return the run's settings; nothing for a model folder."""
    try:
        settings = yaml.safe_load((run / "config.yaml").read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise RunError(f"{run / 'config.yaml'} cannot be read ({error}).") from error
    return settings if isinstance(settings, dict) else {}


def _rows(run: Path, picture: Path, labels: Sequence[str]) -> list[PanelRow]:
    """Return the rows of the panel, with what the run's data say of the picture."""
    data = _settings(run).get("data", {})
    place, table = data.get("root"), data.get("table")
    if not place and table:
        place = Path(table).parent if not is_address(table) else table.rpartition("/")[0]
    root = local_place(str(place)) if place else None
    listed = None if root is None else _listed(run, picture, root)
    if root is None or listed is None:
        return [PanelRow(label) for label in labels]
    path, split = listed
    targets = _targets(run, path, split)
    space = LabelSpace(tuple(labels))
    unknown = np.full((1, len(space)), UNKNOWN, dtype=np.int8)
    try:
        boxes = read_boxes(Records((path,), unknown, space, (split,), root, (path,)))
    except DataError:
        boxes = {}  # a fault in them is told where they are scored; the panel does without
    width, height = read_image(picture).size
    return [
        PanelRow(
            label,
            targets.get(label),
            [box.as_shares(width, height) for box in boxes.get((path, label), ())],
        )
        for label in labels
    ]


def _listed(run: Path, picture: Path, root: Path) -> tuple[str, str] | None:
    """Return what the run's data call the picture, and its split; None where they have it not."""
    file, wanted = run / "splits.csv", picture.resolve()
    if not file.is_file():
        return None
    with (
        plain_damage(file, "Remove it to have the stage 'label-graph' done again."),
        file.open(newline="", encoding="utf-8", errors="surrogateescape") as table,
    ):
        for row in csv.DictReader(table):
            path = from_text(row["image"])
            if path.endswith(picture.name) and Path(place_in(root, path)).resolve() == wanted:
                return path, row["split"]
    return None


def _targets(run: Path, path: str, split: str) -> dict[str, int]:
    """Return the picture's targets by label, as far as they stand beside stored predictions."""
    file = predictions_file(run, STUDENT, split)
    if not file.is_file():
        return {}
    predictions = read_predictions(file)
    targets_C = predictions.targets[predictions.images.index(path)].tolist()
    return dict(zip(predictions.labels, targets_C, strict=True))


def _note(methods: Sequence[Method], columns: Sequence[PanelColumn], *, framed: bool) -> str:
    """Return what the panel's footer says."""
    ways = "; ".join(f"{METHOD_NAMES[method]}: {_WORDS[method]}" for method in methods)
    thresholds = np.unique(np.concatenate([np.ravel(column.thresholds) for column in columns]))
    common = f"{thresholds[0]:g} or more" if len(thresholds) == 1 else "by its own threshold"
    frame = " White frame: where the label is." if framed else ""
    return (
        f"{ways[0].upper()}{ways[1:]}. Each map has its own scale: colours compare places of one "
        "map, not two maps. "
        f"Below: the probability, bold where the label is predicted ({common}).{frame}"
    )
