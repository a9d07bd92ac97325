"""Published teachers imported: the part of each, their ensemble, what every verb makes of them."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from cpsd.cli import main
from cpsd.config import DataConfig
from cpsd.data.sources import read_records
from cpsd.errors import ConfigError, PartitionError
from cpsd.importing import PublishedPart, import_checkpoint
from cpsd.models.store import load_ensemble, load_model
from cpsd.partition import LabelPartition, write_partition
from published_files import (
    EMBEDDINGS,
    LABELS,
    PARTS,
    linear_checkpoint,
    pictures,
    shrink_architectures,
    write_labels,
    write_parts,
)
from published_networks import PublishedLinear, PublishedTransformer, randomized

PARTITION = LabelPartition("co-occurrence", LABELS, PARTS)


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    shrink_architectures(monkeypatch)


@pytest.fixture
def label_file(tmp_path: Path) -> str:
    return write_labels(tmp_path)


@pytest.fixture
def index_file(tmp_path: Path) -> Path:
    return write_parts(tmp_path)


@pytest.mark.parametrize("rows", ["all", "part"])
def test_a_part_takes_its_rows_of_the_label_embeddings(
    tmp_path: Path, label_file: str, index_file: Path, rows: str
) -> None:
    part = EMBEDDINGS[list(PARTS[1])]
    np.save(tmp_path / "vectors.npy", EMBEDDINGS if rows == "all" else part)
    published = randomized(PublishedTransformer(torch.from_numpy(part.astype(np.float32))))
    torch.save(published.state_dict(), tmp_path / "tf.ckpt")
    import_checkpoint(
        tmp_path / "tf.ckpt",
        tmp_path / "model",
        architecture="resnet101-tf",
        labels=label_file,
        label_embeddings=tmp_path / "vectors.npy",
        part=PublishedPart(index_file, 1),
    )
    model, card = load_model(tmp_path / "model")
    assert card.labels == ("bee", "cat", "eel")
    with torch.no_grad():
        torch.testing.assert_close(model(pictures()), published(pictures()), rtol=1e-4, atol=1e-5)


def import_teachers(folder: Path, labels: str, index_file: Path, sizes: list[int]) -> None:
    for index, size in enumerate(sizes):
        path = linear_checkpoint(folder.parent / f"teacher{index}.pth", size)
        out = str(folder / "co-occurrence" / str(index))
        arguments = ["import", str(path), "--arch", "resnet101", "--labels", labels, "--out", out]
        arguments += ["--part-file", str(index_file), "--part", str(index), "--image-size", "64"]
        assert main(arguments) == 0


def test_published_teachers_are_an_ensemble(
    tmp_path: Path, label_file: str, index_file: Path
) -> None:
    import_teachers(tmp_path / "teachers", label_file, index_file, [2, 3])
    ensemble = load_ensemble(tmp_path / "teachers/co-occurrence", PARTITION)
    with torch.no_grad():
        logits = ensemble(pictures())
        for part in PARTS:
            alone = randomized(PublishedLinear(len(part)))(pictures())
            torch.testing.assert_close(logits[:, list(part)], alone, rtol=1e-4, atol=1e-5)


@pytest.mark.dataset
@pytest.mark.parametrize(
    ("name", "strategy"),
    [("idx_coocurrence5_0", "co-occurrence"), ("idx_cluster5_0", "dis-occurrence")],
)
def test_the_published_partition_files_are_understood(
    shared: Path, tmp_path: Path, name: str, strategy: str
) -> None:
    file = shared / "reference" / f"{name}.json"
    columns = [int(key) for key in json.loads(file.read_text())[3]]
    path = linear_checkpoint(tmp_path / "teacher.pth", len(columns))
    card = import_checkpoint(
        path,
        tmp_path / "model",
        architecture="resnet101",
        labels="coco",
        part=PublishedPart(file, 3),
    )
    graph = json.loads((shared / "reference/coco2014_label_graph.json").read_text())
    assert card.labels == tuple(graph["labels"][column] for column in columns)
    assert card.part is not None
    assert (card.part.strategy, card.part.index) == (strategy, 3)


def test_a_partition_file_of_our_own_will_do(tmp_path: Path, label_file: str) -> None:
    write_partition(PARTITION, tmp_path / "p.json")
    path = linear_checkpoint(tmp_path / "teacher.pth", 2)
    out = tmp_path / "model"
    part = PublishedPart(tmp_path / "p.json", 0, "dis-occurrence")
    with pytest.raises(PartitionError, match="its strategy is co-occurrence, not dis-occurrence"):
        import_checkpoint(path, out, architecture="resnet101", labels=label_file, part=part)
    part = replace(part, strategy=None)
    card = import_checkpoint(path, out, architecture="resnet101", labels=label_file, part=part)
    assert card.labels == ("ant", "dog")
    assert card.part is not None
    assert card.part.partition_hash == PARTITION.hash


@pytest.mark.parametrize("index", [-1, 2])
def test_a_part_that_is_not_there_is_refused(
    tmp_path: Path, label_file: str, index_file: Path, index: int
) -> None:
    path = linear_checkpoint(tmp_path / "teacher.pth", 2)
    part = PublishedPart(index_file, index)
    with pytest.raises(PartitionError, match=rf"has no part {index}: its parts are 0 to 1"):
        import_checkpoint(
            path, tmp_path / "m", architecture="resnet101", labels=label_file, part=part
        )


def test_a_strategy_that_nothing_says_is_asked_for(
    tmp_path: Path, label_file: str, index_file: Path
) -> None:
    path = linear_checkpoint(tmp_path / "teacher.pth", 2)
    part = PublishedPart(index_file.rename(tmp_path / "parts.json"), 0)
    out = tmp_path / "model"
    with pytest.raises(ConfigError, match="--strategy co-occurrence or --strategy dis-occurrence"):
        import_checkpoint(path, out, architecture="resnet101", labels=label_file, part=part)
    part = replace(part, strategy="random")
    card = import_checkpoint(path, out, architecture="resnet101", labels=label_file, part=part)
    assert card.part is not None
    assert card.part.strategy == "random"


@pytest.mark.slow
def test_every_verb_takes_what_was_imported(
    tmp_path: Path, quick: list[str], digits: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    columns = read_records(DataConfig(table=str(digits)))[0].labels.names
    labels = tmp_path / "digit-labels.txt"
    labels.write_text("\n".join(columns) + "\n")
    half = len(columns) // 2
    parts = [{str(start + i): i for i in range(half)} for start in (0, half)]
    (tmp_path / "idx_coocurrence2_0.json").write_text(json.dumps(parts))
    import_teachers(
        tmp_path / "teachers", str(labels), tmp_path / "idx_coocurrence2_0.json", [half, half]
    )
    path = linear_checkpoint(tmp_path / "all.pth", len(columns))
    model = tmp_path / "model"
    import_checkpoint(path, model, architecture="resnet101", labels=str(labels), image_size=32)
    machine = ["--machine.workers", "0", "--machine.accelerator", "cpu"]
    picture = next((digits.parent / "images").rglob("*.jpg"))
    assert main(["predict", str(model), str(picture), *machine, "--format", "csv"]) == 0
    assert main(["evaluate", str(model), str(digits), "--split", "test", *machine]) == 0
    out = tmp_path / "run"
    given = ["--teachers.given", str(tmp_path / "teachers"), "--student.start", str(model)]
    given += ["--partition.strategies", "[co-occurrence]", "--student.learning_rate", "1e-12"]
    assert main(["distill", *quick, str(out), *given]) == 0
    capsys.readouterr()
    teacher = load_model(out / "teachers/co-occurrence/1")[0]
    start, (student, card) = load_model(model)[0], load_model(out / "student")
    assert card.model["backbone"] == "resnet18"
    alone = randomized(PublishedLinear(half))
    for key, value in start.state_dict().items():
        if "running" not in key and "num_batches" not in key:
            torch.testing.assert_close(student.state_dict()[key], value, rtol=0, atol=1e-7)
    with torch.no_grad():
        torch.testing.assert_close(teacher(pictures()), alone(pictures()), rtol=1e-4, atol=1e-5)
