"""Files that stand for more than they are: archives, headers, pickles, YAML, JSON, XML."""

import io
import json
import os
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from cpsd.array_files import DamagedArrayError, read_npy, read_npz
from cpsd.cli import main
from cpsd.config import DataConfig
from cpsd.data.check import check_data
from cpsd.errors import ModelError, PartitionError, RunError
from cpsd.evaluation.prediction_files import read_predictions
from cpsd.files import read_json, write_json
from cpsd.graph import LabelGraph
from cpsd.models.array_pickle import read_array_pickle
from cpsd.models.store import load_model
from cpsd.models.weights import read_weights
from cpsd.partition import read_partition
from cpsd.yaml_files import YamlFaultError, read_yaml
from hostile_data import lay_voc
from hostile_guard import fenced
from hostile_layers import lay
from hostile_runs import npy, saved


def test_archives_that_unpack_to_too_much(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cpsd.array_files.MOST_UNPACKED", 10_000_000)
    zeros = np.zeros(4_000_000, dtype=np.uint8)
    with zipfile.ZipFile(tmp_path / "a.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        for name in ("labels", "num_images", "both_data"):
            archive.writestr(f"{name}.npy", npy(zeros))
    assert (tmp_path / "a.npz").stat().st_size < 1_000_000
    assert isinstance(fenced(tmp_path, lambda: LabelGraph.load(tmp_path / "a.npz")), PartitionError)
    with zipfile.ZipFile(io.BytesIO(saved({"a": torch.zeros(5_000_000)}))) as archive:
        members = [(info.filename, archive.read(info)) for info in archive.infolist()]
    with zipfile.ZipFile(tmp_path / "w.pth", "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members:
            archive.writestr(name, content)
    with pytest.raises(ModelError, match="unpacks to 20,"):
        read_weights(tmp_path / "w.pth")


@pytest.mark.parametrize("shape", [(10**12,), (50_000, 50_000), (3,)])
def test_headers_of_arrays_promise_what_is_not_there(
    shape: tuple[int, ...], tmp_path: Path
) -> None:
    header = f"{{'descr': '<f8', 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + "\n"
    path = tmp_path / "a.npy"
    path.write_bytes(
        b"\x93NUMPY\x01\0" + struct.pack("<H", len(header)) + header.encode() + b"\0" * 16
    )
    for mapped in (False, True):
        with pytest.raises(DamagedArrayError, match="not as many bytes"):
            read_npy(path, mapped=mapped)
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.write(path, "labels.npy")
    with pytest.raises(DamagedArrayError, match="not as many bytes"):
        read_npz(tmp_path / "a.npz")


def test_a_pickle_that_says_a_text_a_thousand_times(tmp_path: Path) -> None:
    text = b"\x80\x02X" + struct.pack("<I", 100_000) + b"a" * 100_000 + b"q\x000"
    encoded = b"c_codecs\nencode\nh\x00X\x06\0\0\0latin1\x86R"
    (tmp_path / "e.pkl").write_bytes(text + b"](" + encoded * 20_000 + b"e.")
    with pytest.raises(ModelError, match="no array's bytes"):
        read_array_pickle(tmp_path / "e.pkl")


def test_a_table_of_predictions_that_says_a_value_a_billion_times(tmp_path: Path) -> None:
    path = tmp_path / "p.parquet"
    ones = pa.array(np.zeros(30_000_000, np.int8))
    pq.write_table(pa.table({"target:ant": ones}), path)
    assert path.stat().st_size < 300_000
    with pytest.raises(RunError, match="more than a file of its size can"):
        read_predictions(path)
    hostile = pa.table({"image": ["a"], "logit:ant": pa.array([0.0], pa.float32())})
    about = json.dumps({"labels": ["ant", "bee"], "predictor": "student"})
    pq.write_table(hostile.replace_schema_metadata({b"cpsd.predictions": about}), path)
    with pytest.raises(RunError, match="is damaged"):
        read_predictions(path)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"head": "query", "query": {"width": 400_000, "heads": 4}}, "no weights for"),
        ({"head": "transformer", "transformer": {"layers": 10**9}}, "no network has more"),
        ({"label_embedding_width": 10**12}, "no network has more"),
        ({"backbone": "resnet101"}, "no weights for"),
    ],
)
def test_a_card_that_asks_for_a_giant(change: dict[str, Any], said: str, tmp_path: Path) -> None:
    lay("model")(tmp_path)
    card = json.loads((tmp_path / "model.json").read_text())
    for key, value in change.items():
        known = card["model"].get(key)
        card["model"][key] = {**known, **value} if isinstance(known, dict) else value
    (tmp_path / "model.json").write_text(json.dumps(card))
    assert said in str(fenced(tmp_path, lambda: load_model(tmp_path)))


YAML = {
    "object": "seed: !!python/object/apply:os.system ['touch ran']",
    "name": "seed: !!python/name:os.system",
    "aliases": "a: &a [x, x, x, x, x, x, x, x, x]\n"
    + "".join(
        f"{b}: &{b} [{', '.join([f'*{a}'] * 9)}]\n"
        for a, b in zip("abcdefgh", "bcdefghi", strict=True)
    ),
    "itself": "a: &a [*a]",
    "deep": "a: " + "[" * 5000,
    "deep and whole": "a: " + "[" * 60 + "]" * 60,
    "long": "a: '" + "x" * 200_001 + "'",
    "date": "seed: 2026-13-45",
    "not text": "seed: \x00",
}


@pytest.mark.parametrize("kind", YAML)
def test_settings_are_plain_values(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "r.yaml"
    path.write_text(YAML[kind])
    assert isinstance(_caught(lambda: fenced(tmp_path, lambda: read_yaml(path))), AssertionError)
    with pytest.raises(YamlFaultError):
        read_yaml(path)
    assert main(["run", "--config", str(path), "--dry-run"]) == 2
    assert "r.yaml" in capsys.readouterr().err
    assert not (tmp_path / "ran").exists()


def _caught(action: Callable[[], object]) -> BaseException | None:
    try:
        action()
    except AssertionError as error:
        return error
    return None


def test_aliases_that_stay_small_are_read(tmp_path: Path) -> None:
    (tmp_path / "r.yaml").write_text("a: &a {x: 1}\nb: *a\nc:\n  <<: *a\n  y: 2\n")
    assert read_yaml(tmp_path / "r.yaml") == {"a": {"x": 1}, "b": {"x": 1}, "c": {"x": 1, "y": 2}}


@pytest.mark.parametrize("text", ["[" * 100_000, '{"a":' * 50_000])
def test_json_that_is_nested_without_end(text: str, tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text(text)
    with pytest.raises(RunError, match="cannot be read as JSON"):
        read_json(path)
    with pytest.raises(PartitionError, match="cannot be read as JSON"):
        read_partition(path)


def test_json_of_a_run_holds_any_file_name(tmp_path: Path) -> None:
    name = os.fsdecode(b"caf\xe9") + "\ud800"
    write_json(tmp_path / "a.json", {"image": name, "text": "日本"})
    (tmp_path / "a.json").read_bytes().decode()
    assert "日本" in (tmp_path / "a.json").read_text()
    assert read_json(tmp_path / "a.json")["image"] == name


def test_entities_of_annotations_are_refused(tmp_path: Path) -> None:
    lay_voc(tmp_path)
    bomb = '<!DOCTYPE a [<!ENTITY b "x"><!ENTITY c "&b;&b;">]><annotation>&c;</annotation>'
    (tmp_path / "Annotations/a.xml").write_text(bomb)
    report = check_data(DataConfig(format="voc", root=str(tmp_path)), seed=0)
    assert any("document type" in problem.detail for problem in report.problems)
