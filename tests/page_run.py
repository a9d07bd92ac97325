"""A made-up run directory with everything in it that the report page can show."""

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from cpsd.config import EvaluationConfig
from cpsd.evaluation.prediction_files import write_predictions
from cpsd.evaluation.predictions import Predictions
from cpsd.evaluation.scoreboard import score
from cpsd.files import write_json, write_text
from cpsd.graph import LabelGraph
from cpsd.labels import LabelSpace
from page_findings import FINDINGS, write_findings, write_gallery

HOSTILE = (
    "<script>window.hacked = 1</script>",
    "</script><script>window.hacked = 2</script>",
    '"><img src=x onerror="window.hacked = 3">',
    "it's & 'quoted'",
    "a/b~c #d?e=%41",
    "line\u2028separator",
    "日本語 🐈",
    "{{ 7 * 7 }}",
)
"""Label names that a page must show as they are."""
PREDICTORS = (
    "baseline",
    "teachers/co-occurrence",
    "teachers/dis-occurrence",
    "student",
    "teachers",
)
STRATEGIES = ("co-occurrence", "dis-occurrence")


def make_run(
    folder: Path,
    *,
    labels: Sequence[str] = (*HOSTILE, "cat", "dog", "fox", "elk"),
    num_images: int = 120,
    splits: Sequence[str] = ("test", "test-unseen"),
    parts: int = 3,
    findings: bool = True,
    predictors: Sequence[str] = PREDICTORS,
) -> Path:
    """Write a run directory; all numbers follow from a fixed seed."""
    generator = np.random.default_rng(5)
    space = LabelSpace(tuple(labels))
    _write_settings(folder, space, num_images, splits)
    targets = _targets(generator, 300, len(space))
    LabelGraph.from_targets(targets, space).save(folder / "label_graph.npz")
    for strategy in STRATEGIES:
        order = generator.permutation(len(space))
        names = [[labels[c] for c in part] for part in np.array_split(order, parts)]
        content = {"strategy": strategy, "num_parts": parts, "normalized_cut": 1.25}
        write_json(folder / "partitions" / f"{strategy}.json", {**content, "parts": names})
        for index, part in enumerate(names):
            _write_training(folder / "teachers" / strategy / str(index), part, generator)
    for name in ("baseline", "student"):
        _write_training(folder / name, labels, generator)
    for split in splits:
        write_evaluation(folder, split, space, num_images, generator, predictors)
    if findings:
        write_findings(folder, splits[0], labels, generator)
        write_gallery(folder, labels, generator)
    return folder


def _targets(generator: np.random.Generator, rows: int, columns: int) -> NDArray[np.int8]:
    groups = generator.random((rows, 4)) < 0.4
    share = np.where(groups[:, np.arange(columns) % 4], 0.5, 0.05)
    return (generator.random((rows, columns)) < share).astype(np.int8)


def write_evaluation(
    folder: Path,
    split: str,
    space: LabelSpace,
    num_images: int,
    generator: np.random.Generator,
    predictors: Sequence[str],
) -> None:
    """Write predictions, scores and intervals; one label without a positive, some unknowns."""
    targets = _targets(generator, num_images, len(space))
    targets[:, -1] = 0
    targets[generator.random(targets.shape) < 0.02] = -1
    targets[:, -1] = np.minimum(targets[:, -1], 0)
    logits = {
        name: (generator.normal(size=targets.shape) * 1.5 + 2 * targets - 1).astype(np.float32)
        for name in predictors
    }
    images = tuple(f"images/{split}-{row}.jpg" for row in range(num_images))
    board = score(logits, targets, space, EvaluationConfig()).to_json()
    write_json(folder / "evaluation" / f"{split}.json", {"split": split, **board})
    for name, scores in logits.items():
        place = folder / "predictions" / name.replace("/", ".") / f"{split}.parquet"
        write_predictions(place, Predictions(images, scores, targets, space, name))
    spans = {
        name: {
            metric: _interval(board["predictors"][name][metric], 0.02)
            for metric in ("mAP", "CF1", "OF1")
        }
        for name in predictors
    }
    first = board["predictors"]["baseline"]["mAP"]
    changes = {
        name: {"mAP": _interval(board["predictors"][name]["mAP"] - first, 0.015)}
        for name in predictors[1:]
    }
    verdict = {"text": "No difference between student and baseline is shown (0.3 points of mAP)."}
    content = {"predictors": spans, "differences": changes, "verdicts": [verdict], "level": 0.95}
    write_json(folder / FINDINGS / f"intervals-{split}.json", {"split": split, **content})


def _interval(mean: float, half: float) -> dict[str, Any]:
    note = "One seed: the interval is over test images only."
    return {"mean": mean, "low": mean - half, "high": mean + half, "note": note}


def _write_settings(
    folder: Path, space: LabelSpace, num_images: int, splits: Sequence[str]
) -> None:
    write_json(folder / "labels.json", list(space))
    config = {
        "seed": 7,
        "data": {
            "format": "table",
            "without_positive": "keep",
            "difficult": "unknown",
            "unlabelled": None,
            "test_split": None,
            "validation_fraction": 0.1,
            "test_fraction": 0.2,
            "limit": 300,
        },
        "image": {"size": 64},
        "model": {"backbone": "resnet18", "weights": "none", "head": "linear"},
        "training": {"epochs": 4},
        "teachers": {"epochs": 2, "given": None, "shared_stages": 3, "start": "baseline"},
        "student": {"epochs": None, "start": None},
        "distillation": {"weight": 0.5, "alpha": 0.25, "term": "squared-error"},
        "evaluation": {"threshold": 0.5, "top_k": 3},
    }
    write_text(folder / "config.yaml", yaml.safe_dump(config))
    stages = ("label-graph", "baseline", "teachers/co-occurrence", "student", "evaluation")
    costs = [
        {
            **{"seconds": 3.5 * i, "images_forward": 1000 * i, "images_backward": 700 * i},
            **{"flops_forward": 2 * 10 ** (3 * i), "flops_backward": 37 * 10 ** (2 * i)},
            **{"peak_memory": 123_456_789 * (i + 1), "peak_gpu_memory": None},
        }
        for i in range(5)
    ]
    # A network with an operation that nobody knows how to count.
    costs[2] |= {"flops_forward": None, "flops_backward": None}
    ratios = {"plain_trainings_by": "FLOPs", "plain_trainings_by_the_clock": 1.5}
    manifest: dict[str, Any] = {
        "versions": {"python": "3.11.7", "cpsd": "0.1.0"},
        "seed": 7,
        "data": {
            "fingerprint": "9274f0",
            "labels": len(space),
            "pictures": {"train": 300, **dict.fromkeys(splits, num_images)},
            "notices": ["2 pictures have no label <at all>."],
            "skipped": {
                "counts": {"train": 2},
                "pictures": [
                    {"picture": picture, "row": f"labels.csv, row {row}", "split": "train"}
                    | {"kind": "truncated", "detail": "The picture ends too early."}
                    for row, picture in ((12, "cut.jpg"), (13, "<img src=x onerror=alert(1)>"))
                ],
            },
        },
        "hardware": {"platform": "Linux", "cores": 2, "torch_threads": 1, "accelerators": []},
        "stages": {
            name: {"stage": name, "cost": cost, "plain_trainings": 0.75 * i, **ratios}
            for i, (name, cost) in enumerate(zip(stages, costs, strict=True))
        },
        "method": {
            "stages": ["label-graph", "teachers/co-occurrence", "student"],
            "cost": costs[3],
            "plain_trainings": 13.87,
            **ratios,
        },
    }
    by = "passes, for there is no count of the operations of odd::one"
    manifest["stages"]["teachers/co-occurrence"]["plain_trainings_by"] = by
    write_json(folder / "manifest.json", manifest)


def _write_training(folder: Path, labels: Sequence[str], generator: np.random.Generator) -> None:
    rows = [
        [epoch, 0.001, 3 / (epoch + 1), 0.2 + 0.1 * epoch, 0.15 + 0.1 * generator.random()]
        for epoch in range(4)
    ]
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(
        [["epoch", "learning_rate", "loss", "validation_raw", "validation_ema"], *rows]
    )
    write_text(folder / "metrics.csv", text.getvalue())
    training = {"epoch": 4, "weights": "raw", "validation_mAP": 0.5}
    write_json(folder / "model.json", {"labels": list(labels), "training": training})
