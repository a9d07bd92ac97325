"""What the page's scripts read: plain JSON, with the file of every list beside it."""

from typing import Any

from cpsd.report.page.curves import THRESHOLDS, CurveSet
from cpsd.report.page.partition_view import GRAPH_FILE, PartitionViews
from cpsd.report.page.run_files import RunFiles, in_predictor_order
from cpsd.report.page.traced import Traced
from cpsd.report.page.training import MemberHistory


def label_data(
    boards: dict[str, Traced],
    views: PartitionViews | None,
    curve_sets: list[CurveSet],
    labels: list[str],
) -> dict[str, Any]:
    """Return the labels with their average precision by split and predictor.

    Args:
        boards: by test split, its evaluation.
        views: the partitions, for part numbers and counts of training pictures.
        curve_sets: for counts of test pictures with a label.
        labels: of the run.
    """
    positives = {curves.split: curves.positives for curves in reversed(curve_sets)}
    counted = {curves.split: curves.predictor for curves in reversed(curve_sets)}
    return {
        "labels": labels,
        "trainImages": list(views.images) if views else None,
        "trainSource": GRAPH_FILE,
        "parts": [
            {"strategy": view.strategy, "source": view.source, "of": _part_of(view.parts, labels)}
            for view in (views.views if views else ())
        ],
        "splits": [
            {
                "name": split,
                "source": board.file,
                "positives": positives.get(split),
                "positivesOf": counted.get(split),
                "predictors": [
                    precision_column(
                        name,
                        board.at("predictors", name, "average_precision"),
                        labels,
                        compared_to="baseline" if name == "student" else None,
                    )
                    for name in in_predictor_order([n for n, _ in board.at("predictors").items()])
                ],
            }
            for split, board in boards.items()
        ],
    }


def graph_data(views: PartitionViews) -> dict[str, Any]:
    """Return the labels around each circle, and the links that are drawn."""
    return {
        "labels": list(views.labels),
        "images": list(views.images),
        "links": [[i, j, round(weight, 4)] for i, j, weight in views.links],
        "views": [
            {
                "strategy": view.strategy,
                "order": list(view.order),
                "sizes": [len(part) for part in view.parts],
            }
            for view in views.views
        ],
    }


def curve_data(files: RunFiles, curve_sets: list[CurveSet]) -> dict[str, Any]:
    """Return the encoded curves of all labels."""
    return {
        "thresholds": list(THRESHOLDS),
        "sets": [
            {
                "split": curves.split,
                "predictor": curves.predictor,
                "source": files.place(files.predictions_file(curves.predictor, curves.split)),
                "labels": list(curves.labels),
                "images": curves.images,
                "positives": curves.positives,
                "atThresholds": curves.at_thresholds,
                "atRecalls": curves.at_recalls,
            }
            for curves in curve_sets
        ],
    }


def training_data(histories: list[MemberHistory]) -> list[dict[str, Any]]:
    """Return the training curves of every member."""
    return [
        {
            "name": member.name,
            "group": member.group,
            "source": member.source,
            "epochs": member.epochs,
            "curves": member.curves,
            "keptEpoch": member.kept_epoch.number,
            "keptWeights": member.kept_weights.text,
        }
        for member in histories
    ]


def _part_of(parts: tuple[tuple[str, ...], ...], labels: list[str]) -> list[int | None]:
    numbers = {name: index for index, part in enumerate(parts) for name in part}
    return [numbers.get(name) for name in labels]


def precision_column(
    name: str, precisions: Traced, labels: list[str], *, compared_to: str | None
) -> dict[str, Any]:
    """Return one predictor's column of the table of labels.

    Args:
        name: at the head of the column.
        precisions: label to average precision.
        labels: in the order of the rows.
        compared_to: the column from which a difference is shown, if any.
    """
    values = precisions.value if isinstance(precisions.value, dict) else {}
    return {
        "name": name,
        "source": precisions.source,
        "comparedTo": compared_to,
        "ap": [values.get(label) for label in labels],
    }
