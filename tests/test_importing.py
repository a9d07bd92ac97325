"""Import from files: what becomes a model folder, what each verb makes of it, and every refusal."""

import json
import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from cpsd.cli import main
from cpsd.config import DataConfig
from cpsd.data.sources import read_records
from cpsd.errors import ConfigError, ModelError, PartitionError
from cpsd.importing import PublishedPart, import_checkpoint
from cpsd.labels import LabelSpace
from cpsd.model_config import TransformerConfig
from cpsd.models.published import ARCHITECTURES
from cpsd.models.store import load_ensemble, load_model
from cpsd.partition import LabelPartition, write_partition
from published_networks import (
    FEEDFORWARD,
    HEAD_WIDTH,
    HEADS,
    WIDTH,
    PublishedLinear,
    PublishedTransformer,
    randomized,
)

LABELS = LabelSpace(("ant", "bee", "cat", "dog", "eel"))
PARTS = ((0, 3), (1, 2, 4))
PARTITION = LabelPartition("co-occurrence", LABELS, PARTS)
EMBEDDINGS = np.random.default_rng(1).standard_normal((len(LABELS), 300))


class TouchesAFile:
    """Pickles to a call that leaves a mark when it is run."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.mark,)


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Architectures with ResNet-18 in place of ResNet-101."""
    transformer = TransformerConfig(
        width=WIDTH, layers=2, heads=HEADS, head_width=HEAD_WIDTH, feedforward=FEEDFORWARD
    )
    for name in ("resnet101", "resnet101-tf"):
        published = ARCHITECTURES[name]
        config = replace(published.config, backbone="resnet18", transformer=transformer)
        monkeypatch.setitem(ARCHITECTURES, name, replace(published, config=config))


@pytest.fixture
def label_file(tmp_path: Path) -> str:
    path = tmp_path / "labels.txt"
    path.write_text("\n".join(LABELS) + "\n")
    return str(path)


@pytest.fixture
def index_file(tmp_path: Path) -> Path:
    """A published partition file under its published name."""
    path = tmp_path / "idx_coocurrence2_0.json"
    parts = [{str(column): position for position, column in enumerate(part)} for part in PARTS]
    path.write_text(json.dumps(parts))
    return path


def linear_checkpoint(path: Path, num_labels: int = len(LABELS)) -> Path:
    torch.save(randomized(PublishedLinear(num_labels)).state_dict(), path)
    return path


def pictures(size: int = 64) -> Tensor:
    return torch.rand(2, 3, size, size, generator=torch.Generator().manual_seed(3))


@pytest.mark.parametrize("suffix", [".ckpt", ".pth", ".pt"])
@pytest.mark.parametrize("wrapper", [None, "state_dict", "model"])
def test_a_checkpoint_becomes_a_model_folder(
    tmp_path: Path, label_file: str, suffix: str, wrapper: str | None
) -> None:
    published = randomized(PublishedLinear(len(LABELS)))
    state = {f"module.{key}": value for key, value in published.state_dict().items()}
    path = tmp_path / f"best{suffix}"
    torch.save(state if wrapper is None else {wrapper: state, "epoch": 3}, path)
    out = tmp_path / "a" / "model"
    import_checkpoint(path, out, architecture="resnet101", labels=label_file, image_size=96)
    model, card = load_model(out)
    assert card.labels == LABELS.names
    assert card.image["size"] == 96
    assert card.part is None
    assert card.training == {"imported_from": path.name, "architecture": "resnet101"}
    assert card.model["normalization"] == "none"
    assert card.model["weights"] == "none"
    with torch.no_grad():
        torch.testing.assert_close(model(pictures()), published(pictures()), rtol=1e-4, atol=1e-5)


def test_packaged_labels_and_the_papers_size_are_the_rule(tmp_path: Path) -> None:
    path = linear_checkpoint(tmp_path / "best.pth", 81)
    arguments = ["import", str(path), "--arch", "resnet101", "--labels", "nuswide", "--out"]
    assert main([*arguments, str(tmp_path / "model")]) == 0
    card = json.loads((tmp_path / "model/model.json").read_text())
    assert card["labels"][:2] == ["airport", "animal"]
    assert len(card["labels"]) == 81
    assert card["image"]["size"] == 448


@pytest.mark.parametrize("suffix", [".pkl", ".npy", ".txt"])
def test_label_embeddings_come_from_their_own_file(
    tmp_path: Path, label_file: str, suffix: str
) -> None:
    vectors = tmp_path / f"vectors{suffix}"
    if suffix == ".pkl":
        vectors.write_bytes(pickle.dumps(EMBEDDINGS))
    elif suffix == ".npy":
        np.save(vectors, EMBEDDINGS)
    else:
        rows = zip(LABELS, EMBEDDINGS, strict=True)
        vectors.write_text("".join(f"{name} {' '.join(map(str, row))}\n" for name, row in rows))
    embeddings = torch.from_numpy(EMBEDDINGS.astype(np.float32))
    published = randomized(PublishedTransformer(embeddings))
    torch.save(published.state_dict(), tmp_path / "tf.ckpt")
    import_checkpoint(
        tmp_path / "tf.ckpt",
        tmp_path / "model",
        architecture="resnet101-tf",
        labels=label_file,
        label_embeddings=vectors,
    )
    model, _ = load_model(tmp_path / "model")
    with torch.no_grad():
        torch.testing.assert_close(model(pictures()), published(pictures()), rtol=1e-4, atol=1e-5)


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


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"<!DOCTYPE html><html>Sign in</html>", "is a web page"),
        (b"\xef\xbb\xbf\n<html>Not found</html>", "is a web page"),
        (b"version https://git-lfs.github.com/spec/v1\n", "Git LFS pointer"),
        (b"", "is empty: download it again"),
        (b'{"error": "rate limit"}', "damaged"),
    ],
)
def test_what_is_no_checkpoint_is_refused_in_a_sentence(
    tmp_path: Path,
    label_file: str,
    capsys: pytest.CaptureFixture[str],
    content: bytes,
    message: str,
) -> None:
    path = tmp_path / "best.ckpt"
    path.write_bytes(content)
    out = tmp_path / "model"
    arguments = ["--arch", "resnet101", "--labels", label_file, "--out", str(out)]
    assert main(["import", str(path), *arguments]) == 2
    said = " ".join(capsys.readouterr().err.split())
    assert message in said
    assert "best.ckpt" in said
    assert "Traceback" not in said
    assert not out.exists()


def test_code_in_a_checkpoint_or_in_label_embeddings_is_not_run(
    tmp_path: Path, label_file: str
) -> None:
    mark = tmp_path / "mark"
    hostile = TouchesAFile(mark)
    torch.save({"state_dict": {"features.0.weight": hostile}}, tmp_path / "a.ckpt")
    with pytest.raises(ModelError, match="never loaded"):
        import_checkpoint(
            tmp_path / "a.ckpt", tmp_path / "m", architecture="resnet101", labels=label_file
        )
    (tmp_path / "vectors.pkl").write_bytes(pickle.dumps([EMBEDDINGS, hostile]))
    with pytest.raises(ModelError, match=r"vectors\.pkl holds .* never loaded"):
        import_checkpoint(
            linear_checkpoint(tmp_path / "b.ckpt"),
            tmp_path / "m",
            architecture="resnet101-tf",
            labels=label_file,
            label_embeddings=tmp_path / "vectors.pkl",
        )
    assert not mark.exists()


def test_what_the_command_lacks_is_asked_for(
    tmp_path: Path, label_file: str, index_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = str(linear_checkpoint(tmp_path / "a.pth"))
    out = ["--labels", label_file, "--out", str(tmp_path / "m")]
    vectors = str(tmp_path / "vectors.npy")
    for arguments, message in (
        (["--arch", "resnet-101"], "Did you mean 'resnet101'?"),
        (["--arch", "resnet101-tf"], "resnet101-tf needs --label-embeddings FILE"),
        (["--arch", "resnet101", "--label-embeddings", vectors], "takes no label embeddings"),
        (["--arch", "resnet101-tf", "--label-embeddings", vectors], "npy does not exist"),
        (["--arch", "resnet101", "--part", "1"], "both --part-file FILE and --part NUMBER"),
        (["--arch", "resnet101", "--part-file", str(index_file)], "both --part-file FILE and"),
        (["--arch", "resnet101", "--strategy", "co-occurrence"], "both --part-file FILE and"),
        (["--arch", "resnet101", "--labels", "coco"], "it is for 5 labels"),
        (["--arch", "resnet101", "--labels", "cocoa"], "Cannot read the list of labels cocoa"),
        (["--arch", "resnet101", "--image-size", "0"], "image.size is 0"),
    ):
        assert main(["import", path, *out, *arguments]) == 2
        assert message in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "m").exists()


def test_a_licence_that_restricts_what_was_trained_from_it_is_told(
    tmp_path: Path,
    label_file: str,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    path = linear_checkpoint(tmp_path / "a.pth")
    import_checkpoint(path, tmp_path / "free", architecture="resnet101", labels=label_file)
    assert "licence" not in caplog.text
    swsl = ARCHITECTURES["resnext50-swsl"].starts_from
    restricted = replace(ARCHITECTURES["resnet101"], starts_from=swsl)
    monkeypatch.setitem(ARCHITECTURES, "resnet101", restricted)
    import_checkpoint(path, tmp_path / "restricted", architecture="resnet101", labels=label_file)
    assert f"from the weights {swsl}, whose licence is cc-by-nc-4.0" in caplog.text


def test_a_model_that_is_there_is_not_replaced(tmp_path: Path, label_file: str) -> None:
    path = linear_checkpoint(tmp_path / "a.pth")
    out = tmp_path / "model"
    import_checkpoint(path, out, architecture="resnet101", labels=label_file)
    before = (out / "model.safetensors").stat().st_mtime_ns
    with pytest.raises(ModelError, match=r"There is a model in .* already"):
        import_checkpoint(path, out, architecture="resnet101", labels=label_file)
    assert (out / "model.safetensors").stat().st_mtime_ns == before


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
