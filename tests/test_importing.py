"""Import from files: what becomes a model folder, what the command asks for, and every refusal."""

import json
import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from cpsd.cli import main
from cpsd.errors import ModelError
from cpsd.importing import import_checkpoint
from cpsd.models.published import ARCHITECTURES
from cpsd.models.store import load_model
from published_files import (
    EMBEDDINGS,
    LABELS,
    linear_checkpoint,
    pictures,
    shrink_architectures,
    write_labels,
    write_parts,
)
from published_networks import PublishedLinear, PublishedTransformer, randomized


class TouchesAFile:
    """Pickles to a call that leaves a mark when it is run."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.mark,)


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    shrink_architectures(monkeypatch)


@pytest.fixture
def label_file(tmp_path: Path) -> str:
    return write_labels(tmp_path)


@pytest.fixture
def index_file(tmp_path: Path) -> Path:
    return write_parts(tmp_path)


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
