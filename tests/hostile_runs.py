"""Readers of what runs read and write, with sound files to mangle.

Models, partitions, soft labels, predictions, marks, and whole runs.
"""

import contextlib
import io
import tempfile
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

import page_comparison
import page_run
import tiny
from cpsd.config import ImageConfig
from cpsd.cost import Cost
from cpsd.errors import UserError
from cpsd.evaluation.prediction_files import write_predictions
from cpsd.evaluation.predictions import Predictions
from cpsd.evaluation.temperatures import Temperatures
from cpsd.evaluation.thresholds import Thresholds
from cpsd.files import read_json
from cpsd.graph import LabelGraph
from cpsd.model_config import ModelConfig
from cpsd.models.card import ModelCard
from cpsd.models.classifier import build_classifier, make_seeded
from cpsd.models.label_vectors import read_label_embeddings
from cpsd.models.store import save_model
from cpsd.run import RunDirectory
from cpsd.stage import MARKS, PARTIAL, Stage
from cpsd.training.soft_label_writing import write_soft_labels
from cpsd.training.soft_labels import SoftLabelStore
from hostile_data import LABELS, SIZE, lay_pictures, some_records


def saved(content: object) -> bytes:
    stream = io.BytesIO()
    torch.save(content, stream)
    return stream.getvalue()


def npy(array: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


def state_dict() -> dict[str, torch.Tensor]:
    return {"a.weight": torch.arange(6.0).reshape(2, 3), "module.b": torch.zeros(2)}


MODEL = ModelConfig(backbone="test_resnet", weights="none")


def lay_model(folder: Path) -> None:
    network = make_seeded(lambda labels: build_classifier(labels, MODEL), LABELS, seed=0)
    card = ModelCard(LABELS.names, vars(MODEL) | plain(MODEL), {"size": SIZE})
    save_model(folder, network, card)


def plain(config: ModelConfig) -> dict[str, Any]:
    return asdict(config)


def vectors(file: str) -> Callable[[Path], object]:
    return lambda folder: read_label_embeddings(folder / file, LABELS, width=2)


PARTITION = {"strategy": "random", "parts": [["ant", "cow"], ["bee"]], "labels": list(LABELS)}


def graph() -> bytes:
    with tempfile.TemporaryDirectory() as place:
        LabelGraph.from_targets(np.eye(3, dtype=np.int8), LABELS).save(Path(place) / "g.npz")
        return (Path(place) / "g.npz").read_bytes()


def lay_soft_labels(folder: Path) -> None:
    lay_pictures(folder)
    network = make_seeded(tiny.TinyNetwork, LABELS, seed=0)
    write_soft_labels(
        folder / "soft",
        {"co-occurrence": network},
        some_records(folder),
        [0, 1, 2],
        image=ImageConfig(size=SIZE),
        num_views=2,
        seed=0,
        machine=tiny.settings().machine,
        device=torch.device("cpu"),
        chunk_size=2,
    )


def read_soft_labels(folder: Path) -> object:
    store = SoftLabelStore(folder / "soft")
    rows = np.arange(3)
    store.require(some_records(folder), rows, ImageConfig(size=SIZE))
    return store(torch.zeros(3, 3, SIZE, SIZE), torch.from_numpy(rows), view_index=1)


def parquet() -> bytes:
    logits = np.linspace(-2, 2, 12, dtype=np.float32).reshape(4, 3)
    found = Predictions(("a", "b", "c", "d"), logits, np.ones((4, 3), np.int8), LABELS, "student")
    with tempfile.TemporaryDirectory() as place:
        write_predictions(Path(place) / "p.parquet", found)
        return (Path(place) / "p.parquet").read_bytes()


THRESHOLDS = {
    "criterion": {"kind": "precision", "wanted": 0.9},
    "default": 0.5,
    "kept_default": [],
    "unreachable": ["ant"],
    "labels": {
        name: {"threshold": 0.4, "positives": 3, "precision": 0.5, "recall": 1.0, "f1": None}
        for name in LABELS
    },
}


def thresholds_of(folder: Path) -> object:
    return Thresholds.from_json(read_json(folder / "thresholds.json")).of(LABELS)


def temperatures_of(folder: Path) -> object:
    return Temperatures.from_json(read_json(folder / "temperatures.json")).of(LABELS)


STAGE = Stage("student", "f1", ("student",), lambda folder: Cost())


def read_marks(folder: Path) -> object:
    directory = RunDirectory(folder)
    state = directory.state(STAGE)
    with contextlib.suppress(UserError):
        directory.cost(STAGE)
    directory.write_manifest({}, [STAGE])
    return state


def lay_mark(folder: Path) -> None:
    (folder / MARKS).mkdir()
    (folder / "student").mkdir()


def finish(folder: Path) -> object:
    return RunDirectory(folder).perform(STAGE)


def lay_partial(folder: Path) -> None:
    lay_mark(folder)
    place = folder / PARTIAL / STAGE.name
    place.mkdir(parents=True)
    (place / "fingerprint").write_text(STAGE.fingerprint)


def lay_run(folder: Path) -> None:
    page_run.make_run(folder, labels=(*LABELS, "elk"), num_images=20, splits=("test",), parts=1)


def lay_comparison(folder: Path) -> None:
    page_comparison.comparison(folder / "compared")
