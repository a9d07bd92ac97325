"""Training curves: what ``metrics.csv`` of each member says, and which epoch was kept."""

import math
from dataclasses import dataclass

from cpsd.report.page.run_files import RunFiles
from cpsd.report.page.traced import Figure, Traced, figure, length, show
from cpsd.training.learning_curve import LearningCurve, read_learning_curve

CURVES = ("loss", "validation_raw", "validation_ema")
"""Columns of ``metrics.csv`` that are drawn."""


@dataclass(frozen=True)
class MemberHistory:
    """One trained network.

    Args:
        name: ``baseline``, ``student``, ``teachers/<strategy>/<part>``.
        group: what it is drawn with: itself, or its teacher ensemble.
        source: its ``metrics.csv``.
        epochs: from one.
        curves: by column, a number an epoch; None where there is none.
        kept_epoch: from one, as the page says it.
        kept_weights: ``raw`` or ``ema``.
        score: mAP on validation of what was kept.
        last: the same weights' after the last epoch.
        overfitted: whether that is clearly lower.
        num_labels: that it learned.
        num_epochs: that it was trained for.
    """

    name: str
    group: str
    source: str
    epochs: list[int]
    curves: dict[str, list[float | None]]
    kept_epoch: Figure
    kept_weights: Figure
    score: Figure
    last: Figure
    overfitted: bool
    num_labels: Figure
    num_epochs: Figure


def histories(files: RunFiles) -> list[MemberHistory]:
    """Return the members of a run in order: baseline, student, teachers by strategy and part."""
    folders = [
        name.removesuffix("/metrics.csv")
        for pattern in ("baseline/metrics.csv", "student/metrics.csv")
        for name in files.names(pattern)
    ]
    teachers = [
        name.removesuffix("/metrics.csv") for name in files.names("teachers/*/*/metrics.csv")
    ]
    teachers.sort(key=lambda name: (name.split("/")[1], _part(name)))
    return [_history(files, folder) for folder in (*folders, *teachers)]


def _part(folder: str) -> int:
    last = folder.rsplit("/", maxsplit=1)[-1]
    return int(last) if last.isdecimal() else 0


def _history(files: RunFiles, folder: str) -> MemberHistory:
    file = f"{folder}/metrics.csv"
    header, *rows = files.csv(file) or [[]]
    columns = {name: index for index, name in enumerate(header)}
    card = files.json(f"{folder}/model.json")
    curve = read_learning_curve(files.path(folder))
    return MemberHistory(
        name=folder,
        group=folder if folder.count("/") == 0 else folder.rsplit("/", maxsplit=1)[0],
        source=files.place(file),
        # The file counts epochs from zero, people and the model card from one.
        epochs=[int(_number(row, columns.get("epoch")) or 0) + 1 for row in rows],
        curves={
            name: [_number(row, columns[name]) for row in rows]
            for name in CURVES
            if name in columns
        },
        kept_epoch=figure(_training(card, "epoch"), "count"),
        kept_weights=figure(_training(card, "weights"), "value"),
        score=figure(_training(card, "validation_mAP"), "percent"),
        last=_last(files.place(file), _training(card, "weights"), curve),
        overfitted=curve is not None and curve.overfits,
        num_labels=length(card.at("labels")),
        num_epochs=Figure(
            show(len(rows), "count"), (files.place(file),), "count", "rows", len(rows)
        ),
    )


def _last(file: str, weights: Traced, curve: LearningCurve | None) -> Figure:
    number = None if curve is None else curve.last
    sources = (file, weights.source)
    return Figure(show(number, "percent"), sources, "percent", "last-epoch", number)


def _training(card: Traced, key: str) -> Traced:
    return card.at("training", key)


def _number(row: list[str], column: int | None) -> float | None:
    """Return a cell as a number; None where it is empty, missing or not finite."""
    if column is None or column >= len(row):
        return None
    try:
        number = float(row[column])
    except ValueError:
        return None
    return number if math.isfinite(number) else None
