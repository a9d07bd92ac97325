"""Every reader of files that may come from elsewhere, with sound files to begin from.

A target is one file of one reader. What lies around it is sound; it is what gets mangled.
"""

import contextlib
import io
import json
import pickle
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from PIL import Image
from safetensors.torch import save as safetensors

import page_comparison
import page_run
import tiny
from cpsd.arguments import _check_recipe
from cpsd.config import DataConfig, ImageConfig
from cpsd.cost import Cost
from cpsd.data.bad_pictures import PictureCheck, without_bad_pictures
from cpsd.data.boxes import BOXES_FILE, read_boxes
from cpsd.data.check import check_data
from cpsd.data.images import content_hash, read_image
from cpsd.data.pack import open_pack
from cpsd.data.pack_writing import write_pack
from cpsd.data.pixels import read_pixels
from cpsd.data.records import Records
from cpsd.data.rows import read_label_list
from cpsd.errors import UserError
from cpsd.evaluation.prediction_files import read_predictions, write_predictions
from cpsd.evaluation.predictions import Predictions
from cpsd.evaluation.temperatures import Temperatures
from cpsd.evaluation.thresholds import Thresholds
from cpsd.files import read_json
from cpsd.graph import LabelGraph
from cpsd.labels import LabelSpace
from cpsd.model_config import ModelConfig
from cpsd.models.card import ModelCard, read_card
from cpsd.models.classifier import build_classifier, make_seeded
from cpsd.models.label_vectors import read_label_embeddings
from cpsd.models.store import load_model, save_model
from cpsd.models.weights import read_weights
from cpsd.partition import read_partition, read_published_partition
from cpsd.report.page import write_comparison_report, write_report
from cpsd.run import RunDirectory
from cpsd.stage import MARKS, PARTIAL, Stage
from cpsd.trained import run_evaluation
from cpsd.training.checkpoint import checkpoint_to_resume
from cpsd.training.soft_label_writing import write_soft_labels
from cpsd.training.soft_labels import SoftLabelStore
from cpsd.verbs.shown_run import show_run

LABELS = LabelSpace(("ant", "bee", "cow"))
SIZE = 8


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


def picture(kind: str, mode: str = "RGB", **options: Any) -> bytes:
    """Return a small picture as a file of a kind."""
    y, x = np.mgrid[0:12, 0:16]
    pixels = np.stack([16 * x, 20 * y, 8 * (x + y)], axis=-1).astype(np.uint8)
    stream = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(stream, kind, **options)
    return stream.getvalue()


def lay_pictures(folder: Path) -> None:
    """Lay pictures where the tables and data sets below say that they are."""
    for name in ("a.png", "b.png", "c.png"):
        for parent in ("", "train2014", "JPEGImages", "Flickr"):
            place = folder / parent / (name if parent != "JPEGImages" else f"{name[0]}.jpg")
            place.parent.mkdir(exist_ok=True)
            place.write_bytes(picture("PNG"))


def data(**settings: Any) -> Callable[[Path], object]:
    """Return what checks a data set in all ways: rows, splits, pictures."""

    def read(folder: Path) -> object:
        settled: dict[str, Any] = {
            key: str(folder / value) if key in ("table", "root", "label_list") else value
            for key, value in settings.items()
        }
        return check_data(DataConfig(**settled), seed=0)

    return read


def text(*lines: str) -> bytes:
    return "\n".join(lines).encode()


def as_json(value: object) -> bytes:
    return json.dumps(value).encode()


CSV = (
    text("image,labels,split", "a.png,ant; bee,train", "b.png,?cow,val", "c.png,,test"),
    text("image,ant,bee,unknown", "a.png,1,0,bee", "b.png,?,-1,", "c.png,true,absent,*"),
    text("\ufeffimage,labels\r", '"a.png","ant; ""bee"""\r', "../b.png,=cmd()\r", "/etc/x,nan"),
)
JSON_LINES = (
    text(
        as_json({"image": "a.png", "labels": ["ant"], "split": "train"}).decode(),
        as_json({"image": "b.png", "labels": {"ant": 1, "bee": None}, "unknown": "cow"}).decode(),
        as_json({"image": "c.png", "labels": None, "split": "test-night"}).decode(),
    ),
)
INSTANCES = {
    "images": [{"id": i, "file_name": f"{name}.png"} for i, name in enumerate("abc")],
    "annotations": [{"id": 1, "image_id": 0, "category_id": 3, "bbox": [0, 0, 2, 2]}],
    "categories": [{"id": 3, "name": "ant"}, {"id": 4, "name": "bee"}],
}
ANNOTATION = text(
    "<annotation><filename>a.jpg</filename>",
    "<object><name>ant</name><difficult>0</difficult></object>",
    "<object><name>bee</name><difficult>1</difficult></object></annotation>",
)


def lay_voc(folder: Path) -> None:
    lay_pictures(folder)
    for name in ("ImageSets/Main", "Annotations"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    (folder / "ImageSets/Main/train.txt").write_text("a\nb\nc\n")
    for name in "abc":
        (folder / f"Annotations/{name}.xml").write_bytes(ANNOTATION)


def lay_nuswide(folder: Path) -> None:
    lay_pictures(folder)
    for name in ("ImageList", "TrainTestLabels"):
        (folder / name).mkdir(exist_ok=True)
    for part in ("Train", "Test"):
        (folder / f"ImageList/{part}Imagelist.txt").write_text("a.png\nb.png\n")
        for label in LABELS:
            (folder / f"TrainTestLabels/Labels_{label}_{part}.txt").write_text("0\n1\n")
    (folder / "Concepts81.txt").write_text("\n".join(LABELS))


def some_records(folder: Path) -> Records:
    return Records(
        paths=("a.png", "b.png", "c.png"),
        targets=np.eye(3, dtype=np.int8),
        labels=LABELS,
        splits=("train", "validation", "test"),
        root=folder,
        origins=("row 2", "row 3", "row 4"),
    )


def lay_pack(folder: Path) -> None:
    lay_pictures(folder)
    write_pack(folder / "pack", some_records(folder), SIZE)


def read_pack(folder: Path) -> object:
    packed = open_pack(folder / "pack", some_records(folder))
    return [packed(row) for row in range(3)]


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


def read_pictures(folder: Path) -> object:
    path = folder / "a.png"
    results: list[object] = []
    for read in (read_image, content_hash, lambda p: read_pixels(p, SIZE)):
        try:
            results.append(read(path))
        except UserError as error:
            results.append(error)
    return results


MODEL = ModelConfig(backbone="test_resnet", weights="none")


def lay_model(folder: Path) -> None:
    network = make_seeded(lambda labels: build_classifier(labels, MODEL), LABELS, seed=0)
    card = ModelCard(LABELS.names, vars(MODEL) | plain(MODEL), {"size": SIZE})
    save_model(folder, network, card)


def plain(config: ModelConfig) -> dict[str, Any]:
    from dataclasses import asdict

    return asdict(config)


@cache
def written(name: str) -> dict[str, bytes]:
    """Return the files that a layer of the targets below writes, by their place."""
    import tempfile

    layers = {
        "pack": lay_pack,
        "soft": lay_soft_labels,
        "model": lay_model,
        "run": lay_run,
        "comparison": lay_comparison,
    }
    with tempfile.TemporaryDirectory() as place:
        layers[name](Path(place))
        return {
            path.relative_to(place).as_posix(): path.read_bytes()
            for path in sorted(Path(place).rglob("*"))
            if path.is_file()
        }


def lay(name: str) -> Callable[[Path], None]:
    """Return what lays the files of a layer, made once."""

    def prepare(folder: Path) -> None:
        for place, content in written(name).items():
            (folder / place).parent.mkdir(parents=True, exist_ok=True)
            (folder / place).write_bytes(content)

    return prepare


def lay_run(folder: Path) -> None:
    page_run.make_run(folder, labels=(*LABELS, "elk"), num_images=20, splits=("test",), parts=1)


def lay_comparison(folder: Path) -> None:
    page_comparison.comparison(folder / "compared")


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


def state_dict() -> dict[str, torch.Tensor]:
    return {"a.weight": torch.arange(6.0).reshape(2, 3), "module.b": torch.zeros(2)}


def saved(content: object) -> bytes:
    stream = io.BytesIO()
    torch.save(content, stream)
    return stream.getvalue()


def npy(array: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


def parquet() -> bytes:
    import tempfile

    logits = np.linspace(-2, 2, 12, dtype=np.float32).reshape(4, 3)
    found = Predictions(("a", "b", "c", "d"), logits, np.ones((4, 3), np.int8), LABELS, "student")
    with tempfile.TemporaryDirectory() as place:
        write_predictions(Path(place) / "p.parquet", found)
        return (Path(place) / "p.parquet").read_bytes()


def graph() -> bytes:
    import tempfile

    with tempfile.TemporaryDirectory() as place:
        LabelGraph.from_targets(np.eye(3, dtype=np.int8), LABELS).save(Path(place) / "g.npz")
        return (Path(place) / "g.npz").read_bytes()


PARTITION = {"strategy": "random", "parts": [["ant", "cow"], ["bee"]], "labels": list(LABELS)}
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
MEMORY = "pictures.npz"


def read_memory(folder: Path) -> object:
    check = PictureCheck(
        lambda records: lambda row: read_image(records.image_path(row)), memory=folder / MEMORY
    )
    skipping = DataConfig(on_bad_image="skip")
    return without_bad_pictures(some_records(folder), skipping, check)


@cache
def memory() -> bytes:
    import tempfile

    with tempfile.TemporaryDirectory() as place:
        lay_pictures(Path(place))
        (Path(place) / "b.png").write_bytes(b"")
        with contextlib.suppress(UserError):
            read_memory(Path(place))
        return (Path(place) / MEMORY).read_bytes()


def thresholds_of(folder: Path) -> object:
    return Thresholds.from_json(read_json(folder / "thresholds.json")).of(LABELS)


def temperatures_of(folder: Path) -> object:
    return Temperatures.from_json(read_json(folder / "temperatures.json")).of(LABELS)


def vectors(file: str) -> Callable[[Path], object]:
    return lambda folder: read_label_embeddings(folder / file, LABELS, width=2)


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


PICTURES: tuple[tuple[str, dict[str, Any]], ...] = (
    ("PNG", {}),
    ("JPEG", {"quality": 80}),
    ("GIF", {"mode": "P"}),
    ("TIFF", {"compression": "tiff_lzw"}),
    ("WEBP", {"lossless": True}),
    ("BMP", {}),
    ("PPM", {}),
)
