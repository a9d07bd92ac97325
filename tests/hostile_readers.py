"""Every reader of files that may come from elsewhere, with sound files to begin from.

A target is one file of one reader. What lies around it is sound; it is what gets mangled.
"""

import pickle
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import yaml
from safetensors.torch import save as safetensors

from cpsd.arguments import _check_recipe
from cpsd.cost import Cost
from cpsd.data.boxes import BOXES_FILE, read_boxes
from cpsd.data.rows import read_label_list
from cpsd.evaluation.prediction_files import read_predictions
from cpsd.evaluation.temperatures import Temperatures
from cpsd.graph import LabelGraph
from cpsd.models.card import read_card
from cpsd.models.store import load_model
from cpsd.models.weights import read_weights
from cpsd.partition import read_partition, read_published_partition
from cpsd.report.page import write_comparison_report, write_report
from cpsd.stage import MARKS, PARTIAL
from cpsd.trained import run_evaluation
from cpsd.training.checkpoint import checkpoint_to_resume
from cpsd.verbs.shown_run import show_run
from hostile_data import (
    ANNOTATION,
    CSV,
    INSTANCES,
    JSON_LINES,
    LABELS,
    MEMORY,
    PICTURES,
    as_json,
    data,
    lay_nuswide,
    lay_pictures,
    lay_voc,
    memory,
    picture,
    read_memory,
    read_pack,
    read_pictures,
    some_records,
    text,
)
from hostile_layers import lay, written
from hostile_runs import (
    PARTITION,
    THRESHOLDS,
    finish,
    graph,
    lay_mark,
    lay_partial,
    npy,
    parquet,
    read_marks,
    read_soft_labels,
    saved,
    state_dict,
    temperatures_of,
    thresholds_of,
    vectors,
)


@dataclass(frozen=True)
class Target:
    """A file that gets mangled, and what then reads it.

    Args:
        name: of the target.
        file: what is mangled, in the folder.
        seeds: sound contents of it.
        read: reads it, and all that belongs to it.
        prepare: lays what is sound around it.
        slow: takes more than a few milliseconds.
    """

    name: str
    file: str
    seeds: Sequence[bytes]
    read: Callable[[Path], object]
    prepare: Callable[[Path], object] = lambda folder: None
    slow: bool = False

    @property
    def is_json(self) -> bool:
        """Whether the file is one JSON value."""
        return self.file.endswith(".json")


def targets() -> list[Target]:
    """Return every target."""
    embeddings = np.arange(6, dtype=np.float32).reshape(3, 2)
    listed = [
        Target("csv table", "t.csv", CSV, data(table="t.csv"), lay_pictures),
        Target(
            "tsv table", "t.tsv", [CSV[0].replace(b",", b"\t")], data(table="t.tsv"), lay_pictures
        ),
        Target("json lines", "t.jsonl", JSON_LINES, data(table="t.jsonl"), lay_pictures),
        Target("label list", "l.txt", [text(*LABELS)], lambda f: read_label_list(str(f / "l.txt"))),
        Target(
            "coco",
            "annotations/instances_train2014.json",
            [as_json(INSTANCES)],
            data(format="coco", root=""),
            lay_pictures,
        ),
        Target(
            "voc list",
            "ImageSets/Main/train.txt",
            [b"a\nb\nc\n"],
            data(format="voc", root=""),
            lay_voc,
        ),
        Target(
            "voc annotation",
            "Annotations/a.xml",
            [ANNOTATION],
            data(format="voc", root=""),
            lay_voc,
        ),
        Target(
            "nus-wide list",
            "ImageList/TrainImagelist.txt",
            [b"a.png\r\nsub\\b.png\n"],
            data(format="nus-wide", root=""),
            lay_nuswide,
        ),
        Target(
            "nus-wide labels",
            "TrainTestLabels/Labels_ant_Train.txt",
            [b"0\n1\n"],
            data(format="nus-wide", root=""),
            lay_nuswide,
        ),
        Target(
            "nus-wide concepts",
            "Concepts81.txt",
            [text(*LABELS), b"../x\nant"],
            data(format="nus-wide", root=""),
            lay_nuswide,
        ),
        Target(
            "boxes",
            BOXES_FILE,
            [text("image,label,left,top,right,bottom", "a.png,ant,0,1,2,3.5", "b.png,bee,0,0,1,1")],
            lambda folder: read_boxes(some_records(folder)),
        ),
        Target("picture memory", MEMORY, [memory()], read_memory, lay_pictures),
        Target(
            "partition",
            "p.json",
            [as_json(PARTITION)],
            lambda folder: read_partition(folder / "p.json", LABELS),
        ),
        Target(
            "published partition",
            "p.json",
            [as_json([{"0": 0, "2": 1}, {"1": 0}])],
            lambda f: read_published_partition(f / "p.json", LABELS, strategy="random"),
        ),
        Target("label graph", "g.npz", [graph()], lambda folder: LabelGraph.load(folder / "g.npz")),
        Target("embeddings npy", "e.npy", [npy(embeddings)], vectors("e.npy")),
        Target(
            "embeddings pickle",
            "e.pkl",
            [pickle.dumps(embeddings, protocol) for protocol in (0, 2, 5)],
            vectors("e.pkl"),
        ),
        Target(
            "embeddings text", "e.txt", [text("ant 1 2", "bee 0.5 -3", "cow 1 1")], vectors("e.txt")
        ),
        Target(
            "weights safetensors",
            "w.safetensors",
            [safetensors({"a": torch.arange(6.0), "module.b": torch.zeros(2)})],
            lambda folder: read_weights(folder / "w.safetensors"),
        ),
        Target(
            "weights pth",
            "w.pth",
            [saved(state_dict()), saved({"state_dict": state_dict(), "epoch": 3})],
            lambda folder: read_weights(folder / "w.pth"),
        ),
        Target(
            "checkpoint",
            "last.ckpt",
            [saved({"state": state_dict()})],
            lambda f: checkpoint_to_resume(f / "last.ckpt"),
        ),
        Target(
            "predictions", "p.parquet", [parquet()], lambda f: read_predictions(f / "p.parquet")
        ),
        Target("thresholds", "thresholds.json", [as_json(THRESHOLDS)], thresholds_of),
        Target(
            "temperatures",
            "temperatures.json",
            [as_json(Temperatures(dict.fromkeys(LABELS, 1.5), (), ()).to_json())],
            temperatures_of,
        ),
        Target(
            "stage mark",
            f"{MARKS}/student.json",
            [as_json({"fingerprint": "f1", "cost": Cost(3.5).to_json()})],
            read_marks,
            lay_mark,
        ),
        Target(
            "unfinished stage",
            f"{PARTIAL}/student/finished.json",
            [as_json(Cost(3.5).to_json())],
            finish,
            lay_partial,
        ),
        Target(
            "attempts",
            f"{PARTIAL}/student/attempts.json",
            [as_json({"seconds": 2.5, "peak_memory": 3, "peak_gpu_memory": None, "begun": 1e9})],
            finish,
            lay_partial,
        ),
        Target(
            "recipe",
            "r.yaml",
            [yaml.safe_dump({"seed": 3, "training": {"epochs": 2}}).encode()],
            lambda f: _check_recipe(f / "r.yaml"),
        ),
    ]
    for kind, options in PICTURES:
        listed.append(Target(f"picture {kind}", "a.png", [picture(kind, **options)], read_pictures))
    for place in ("manifest.json", "files.npy", "pictures.txt", "pixels.npy"):
        place = f"pack/{place}"
        listed.append(Target(place, place, [written("pack")[place]], read_pack, lay("pack")))
    for place in ("manifest.json", "rows.npy", "00000.npy"):
        place = f"soft/{place}"
        listed.append(Target(place, place, [written("soft")[place]], read_soft_labels, lay("soft")))
    for place, content in written("model").items():
        listed.append(
            Target(f"model {place}", place, [content], load_model, lay("model"), slow=True)
        )
    listed.append(Target("model card", "model.json", [written("model")["model.json"]], read_card))
    for place, content in written("run").items():
        if not place.endswith(".jpg"):
            listed.append(
                Target(f"report of {place}", place, [content], write_report, lay("run"), slow=True)
            )
    listed += [
        Target(f"run shown, {place}", place, [written("run")[place]], show_run, lay("run"))
        for place in ("manifest.json", "evaluation/test.json", "findings/intervals-test.json")
    ]
    listed.append(
        Target(
            "run's settings",
            "config.yaml",
            [written("run")["config.yaml"]],
            run_evaluation,
            lay("run"),
        )
    )
    listed.append(
        Target(
            "comparison",
            "compared/compare.json",
            [written("comparison")["compared/compare.json"]],
            lambda folder: write_comparison_report(folder / "compared"),
            lay("comparison"),
            slow=True,
        )
    )
    return listed
