"""Findings and a gallery for the made-up run of ``page_run``, in the formats of a real one."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from cpsd.files import write_json

EXPLANATIONS = "explanations"
FINDINGS = "findings"
Fractions = Callable[..., dict[str, float]]


NAMES = ("baseline", "student")
GAPS = tuple(
    f"{kind}_{end}"
    for kind, ends in (
        ("recall", ("with_context", "without_context", "gap")),
        ("false_alarms", ("with_context", "without_context")),
        ("false_alarm", ("gap",)),
    )
    for end in ends
)
SIX_SCORES = ("CP", "CR", "CF1", "OP", "OR", "OF1")


def write_findings(
    folder: Path, split: str, labels: Sequence[str], generator: np.random.Generator
) -> None:
    """Write one file of each finding, in the formats that the evaluation writes."""

    def fractions(*keys: str) -> dict[str, float]:
        return {key: float(generator.random()) for key in keys}

    for kind, content in (
        ("context", context(labels, fractions)),
        ("unseen-combinations", unseen_combinations(labels, fractions)),
        ("biased-pairs", biased_pairs(labels, fractions)),
        ("thresholds", thresholds(labels, fractions)),
        ("calibration", calibration(labels, fractions)),
        ("label-errors", label_errors(labels, fractions)),
        ("pointing", pointing(labels, fractions)),
    ):
        place = EXPLANATIONS if kind == "pointing" else FINDINGS
        write_json(folder / place / f"{kind}-{split}.json", {"split": split, **content})
    Image.new("RGB", (64, 40), "teal").save(folder / FINDINGS / f"label-errors-{split}.png")


def context(labels: Sequence[str], fractions: Fractions) -> dict[str, Any]:
    pair = {
        "label": labels[0],
        "context": labels[1],
        "images": {"with_context": 31, "without_context": 12},
        "predictors": {name: fractions(*GAPS) for name in NAMES},
        "recall_gap_change": {"value": -0.12, "standard_error": 0.04},
        "false_alarm_gap_change": None,
    }
    return {
        "support": {"with_context": 10, "without_context": 10, "context_only": 10},
        "pairs_considered": 380,
        "pairs_supported": 120,
        "compared": list(NAMES),
        "means": {name: fractions(*GAPS) for name in NAMES},
        "predictors": {},
        "pairs": [pair],
        "rankings": {"recall_gap_moved": [0], "false_alarm_gap_moved": [0]},
    }


def unseen_combinations(labels: Sequence[str], fractions: Fractions) -> dict[str, Any]:
    return {
        "images": {"unseen": 812, "seen": 1100},
        "training_combinations": 233,
        "common_labels": 18,
        "predictors": {
            name: {
                "unseen": fractions("mAP_common_labels"),
                "seen": fractions("mAP_common_labels"),
                "difference": -0.1,
            }
            for name in NAMES
        },
    }


def biased_pairs(labels: Sequence[str], fractions: Fractions) -> dict[str, Any]:
    return {
        "chosen_on": "validation",
        "chosen_by": "baseline",
        "mean": {name: fractions("co_occurring", "exclusive") for name in NAMES},
        "pairs": [
            {
                "label": labels[2],
                "context": labels[3],
                "bias": 3.1,
                "predictors": {name: fractions("co_occurring", "exclusive") for name in NAMES},
            }
        ],
    }


def thresholds(labels: Sequence[str], fractions: Fractions) -> dict[str, Any]:
    chosen = {"threshold": 0.31, "positives": 20, "precision": 0.8, "recall": 0.6, "f1": 0.69}
    return {
        "chosen_on": "validation",
        "predictors": {
            name: {
                "thresholds": {
                    "criterion": {"kind": "f1"},
                    "default": 0.5,
                    "labels": {**dict.fromkeys(labels, chosen), labels[-1]: None},
                },
                "at_default": fractions(*SIX_SCORES),
                "at_thresholds": fractions(*SIX_SCORES),
            }
            for name in NAMES
        },
    }


def calibration(labels: Sequence[str], fractions: Fractions) -> dict[str, Any]:
    curve = {
        "expected_calibration_error": 0.031,
        "expected_calibration_error_with_temperature": 0.021,
        "temperature": 1.3,
        "mean_probability": [0.1, 0.4, 0.9],
        "observed_frequency": [0.05, 0.5, 0.8],
    }
    return {
        "bins": 15,
        "binning": "equal mass",
        "fitted_on": "validation",
        "predictors": {
            name: {
                "mean_expected_calibration_error": 0.03,
                "mean_expected_calibration_error_with_temperature": None,
                "overall": {**curve, "temperature": None},
                "labels": dict.fromkeys(labels, curve),
            }
            for name in NAMES
        },
    }


def label_errors(labels: Sequence[str], fractions: Fractions) -> dict[str, Any]:
    return {
        "ensembles": ["teachers/co-occurrence", "teachers/dis-occurrence"],
        "entries_considered": 20000,
        "estimated_rates": {"forgotten": 0.0625, "surplus": 0.003},
        "entries_suspected": 2,
        "entries": [
            {
                "image": "images/<b>bold</b>.jpg",
                "label": label,
                "given": given,
                "probabilities": fractions("teachers/co-occurrence", "teachers/dis-occurrence"),
                "score": 0.02,
            }
            for given, label in enumerate(labels[:2])
        ],
        "per_label": {labels[0]: 1, labels[1]: 1},
    }


def pointing(labels: Sequence[str], fractions: Fractions) -> dict[str, Any]:
    return {
        "num_pairs": 1432,
        "chance": 0.19,
        "predictors": {
            "baseline": {"energy": 0.41, "energy_interval": [0.4, 0.42], "hit_rate": 0.6},
            "student": {
                "energy": 0.5,
                "hit_rate": 0.7,
                "company": {"energy": 0.22, "hit_rate": 0.27},
                "difference": {"energy": 0.09, "hit_rate": 0.1},
            },
        },
    }


def write_gallery(folder: Path, labels: Sequence[str], generator: np.random.Generator) -> None:
    """Write a gallery of two entries."""
    place = folder / EXPLANATIONS
    place.mkdir(parents=True, exist_ok=True)
    predictors = ["baseline", "teachers/co-occurrence", "teachers/dis-occurrence", "student"]
    entries = []
    for number, label in enumerate(labels[:2]):
        files = {
            name: f"{number}-{name.replace('/', '.')}.jpg" for name in ("picture", *predictors)
        }
        for file in files.values():
            pixels = generator.integers(0, 256, (36, 48, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(place / file)
        entries.append(
            {
                "image": f"images/{number}.jpg",
                "label": label,
                "target": 1,
                "width": 48,
                "height": 36,
                "picture": files["picture"],
                "cells": [
                    {
                        "predictor": name,
                        "probability": 0.9,
                        "file": files[name],
                        "nothing_to_compare": "one place" if name == "student" else None,
                    }
                    for name in predictors
                ],
                "boxes": [[0.1, 0.2, 0.5, 0.6]],
            }
        )
    content = {
        "split": "test",
        "method": "Grad-CAM",
        "predictors": predictors,
        "selection": "The 2 pairs of picture and label on which the predictors differ most.",
        "entries": entries,
    }
    (place / "gallery.json").write_text(json.dumps(content), encoding="utf-8")
