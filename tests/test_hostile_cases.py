"""Hostile files by name: bombs, code, paths that lead elsewhere, odd names. Each has been tried."""

import csv
import io
import json
import os
import pickle
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

import hostile_readers
from cpsd.array_files import DamagedArrayError, read_npy, read_npz
from cpsd.attempts import attempt
from cpsd.cli import main
from cpsd.config import DataConfig
from cpsd.data.check import check_data
from cpsd.data.images import (
    MOST_PIXELS,
    PictureError,
    content_hash,
    find_pictures,
    pixels_of,
    read_image,
)
from cpsd.data.pixels import read_pixels
from cpsd.data.records import Records
from cpsd.data.splits import normalise_split
from cpsd.errors import DataError, ModelError, PartitionError, RunError, UserError
from cpsd.evaluation.prediction_files import read_predictions
from cpsd.files import read_json, write_json
from cpsd.graph import LabelGraph
from cpsd.labels import LabelSpace
from cpsd.models.array_pickle import read_array_pickle
from cpsd.models.label_vectors import read_label_embeddings
from cpsd.models.store import load_model
from cpsd.models.weights import read_weights
from cpsd.partition import read_partition
from cpsd.report.page import write_report
from cpsd.report.predicted import as_csv
from cpsd.training.checkpoint import checkpoint_to_resume
from cpsd.yaml_files import YamlFaultError, read_yaml
from hostile_guard import fenced
from hostile_readers import LABELS, lay, npy, picture, saved, targets

SIDE = 50_000


# Pictures


def png_header() -> bytes:
    def chunk(kind: bytes, content: bytes) -> bytes:
        checksum = struct.pack(">I", zlib.crc32(kind + content))
        return struct.pack(">I", len(content)) + kind + content + checksum

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", SIDE, SIDE, 8, 6, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"\0" * 1000))


def jpeg_header(*, progressive: bool) -> bytes:
    content = bytearray(picture("JPEG", progressive=progressive))
    place = content.index(b"\xff\xc2" if progressive else b"\xff\xc0")
    content[place + 5 : place + 9] = struct.pack(">HH", SIDE, SIDE)
    return bytes(content)


def gif_header() -> bytes:
    content = bytearray(picture("GIF", "P"))
    content[6:10] = struct.pack("<HH", SIDE, SIDE)
    return bytes(content)


def tiff_header() -> bytes:
    content = bytearray(picture("TIFF"))
    place = struct.unpack("<I", content[4:8])[0] + 2
    for entry in range(place, place + 24, 12):
        assert struct.unpack("<H", content[entry : entry + 2])[0] in (256, 257)
        content[entry + 2 : entry + 12] = struct.pack("<HII", 4, 1, SIDE)
    return bytes(content)


def webp_header() -> bytes:
    extended = picture("WEBP", "RGBA", exif=b"Exif\0\0MM\0*\0\0\0\x08\0\0\0\0\0\0")
    content = bytearray(extended)
    place = content.index(b"VP8X") + 12
    content[place : place + 6] = 2 * struct.pack("<I", SIDE - 1)[:3]
    return bytes(content)


HEADERS: dict[str, Callable[[], bytes]] = {
    "PNG": png_header,
    "JPEG": lambda: jpeg_header(progressive=False),
    "progressive JPEG": lambda: jpeg_header(progressive=True),
    "GIF": gif_header,
    "TIFF": tiff_header,
    "WebP": webp_header,
}


@pytest.mark.parametrize("kind", HEADERS)
def test_headers_that_promise_two_billion_pixels(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(HEADERS[kind]())
    for read in (read_image, content_hash, lambda p: read_pixels(p, 8)):
        assert isinstance(fenced(tmp_path, lambda read=read: read(path)), PictureError)  # type: ignore[misc]


def test_small_files_of_many_pixels(tmp_path: Path) -> None:
    side = int(MOST_PIXELS**0.5) + 1
    Image.new("1", (side, side)).save(tmp_path / "a.png")
    assert (tmp_path / "a.png").stat().st_size < 100_000
    for read in (read_image, content_hash):
        fault = fenced(tmp_path, lambda read=read: read(tmp_path / "a.png"))  # type: ignore[misc]
        assert "too many pixels" in str(fault)


def test_a_large_jpeg_is_scaled_while_it_is_decoded(tmp_path: Path) -> None:
    side = int(MOST_PIXELS**0.5) + 8
    path = tmp_path / "a.jpg"
    with pytest.warns(Image.DecompressionBombWarning) if side**2 > 89_478_485 else _nothing():
        Image.new("L", (side, side), 90).save(path)
        assert (read_pixels(path, 4) == 90).all()
        assert len(content_hash(path)) == 64
        Image.new("L", (side, side), 90).save(path, progressive=True)
        with pytest.raises(PictureError, match="too many pixels"):  # kept whole to be decoded
            read_pixels(path, 4)


class _nothing:
    def __enter__(self) -> None: ...
    def __exit__(self, *_: object) -> None: ...


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "LA", "P", "I;16", "CMYK"])
def test_strips_are_what_the_whole_is(
    mode: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    generator = np.random.default_rng(0)
    if mode == "I;16":
        image = Image.fromarray(generator.integers(0, 65536, (37, 29), dtype=np.uint16))
    else:
        pixels = generator.integers(0, 256, (37, 29, 4), dtype=np.uint8)
        image = Image.fromarray(pixels).convert("RGB" if mode == "P" else mode)
        image = image.quantize(64) if mode == "P" else image
    path = tmp_path / "a"
    image.save(path, "TIFF" if mode in ("CMYK", "I;16") else "PNG")
    whole, digest = pixels_of(read_image(path)), content_hash(path)
    monkeypatch.setattr("cpsd.data.images._STRIP", 100)
    np.testing.assert_array_equal(pixels_of(read_image(path)), whole)
    assert content_hash(path) == digest


def test_what_never_ends_is_not_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.png")
    for path in (tmp_path / "a.png", Path("/dev/zero")):
        with pytest.raises(PictureError, match="a device, and no file"):
            read_image(path)


# Paths and names


def test_names_with_commas_quotes_and_bytes(tmp_path: Path) -> None:
    names = [
        "a, b.png",
        'the "best".png',
        "it's; so.png",
        " .png",
        "-x.png",
        "=1+1.png",
        "ß\u2028.png",
    ]
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\r\n")
    writer.writerow(["image", "labels", "split"])
    for i, name in enumerate(names):
        (tmp_path / name.strip()).write_bytes(picture("PNG") if i else picture("BMP"))
        writer.writerow([name, "=cmd()", ("train", "val", "test")[min(i, 2)]])
    (tmp_path / "t.csv").write_bytes(b"\xef\xbb\xbf" + table.getvalue().encode())
    report = check_data(DataConfig(table=str(tmp_path / "t.csv")), seed=0)
    assert {problem.kind for problem in report.problems} <= {"two splits"}
    assert report.labels == ("=cmd()",)


def test_file_names_that_are_no_text(digits: Path, tmp_path: Path) -> None:
    folder = tmp_path / "more"
    folder.mkdir()
    (folder / os.fsdecode(b"caf\xe9.png")).write_bytes(picture("PNG"))
    (folder / os.fsdecode(b"cut\xff.png")).write_bytes(picture("PNG")[:60])
    run = tmp_path / "run"
    settings = [
        "--config",
        "demo",
        "--image.size",
        "24",
        "--partition.parts",
        "2",
        "--out",
        str(run),
    ]
    settings += ["--data.unlabelled", str(folder), "--on-bad-image", "skip"]
    assert main(["partition", str(digits), *settings]) == 0
    [skipped] = read_json(run / "manifest.json")["data"]["skipped"]["pictures"]
    assert os.fsencode(skipped["picture"]).endswith(b"cut\xff.png")
    assert b"caf\xe9.png" in (run / "splits.csv").read_bytes()
    assert main(["report", str(run)]) == 0
    assert "cut\\xff.png" in (run / "report.html").read_text()


def test_folders_that_link_to_themselves(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(picture("PNG"))
    (tmp_path / "again").symlink_to(tmp_path)
    assert [path.name for path in find_pictures(tmp_path)] == ["a.png"]


@pytest.mark.parametrize(
    "split",
    [
        "test-../../x",
        "test-/etc",
        "test-a\\b",
        "test-a:b",
        "test-\0",
        "test-a\nb",
        "test-" + "x" * 99,
    ],
)
def test_splits_name_files_of_the_run_alone(split: str) -> None:
    with pytest.raises(DataError, match="files are named after it"):
        normalise_split(split)
    assert normalise_split("Test-Night 2") == "test-night 2"


def test_labels_lead_nowhere_and_are_no_formulas(tmp_path: Path) -> None:
    labels = ("../../x", "=cmd()", "/etc/passwd", "@sum", "<b>", "..")
    rows = ["image,labels,split"]
    for i in range(18):
        split = ("train", "train", "train", "val", "test", "test")[i % 6]
        pixels = np.random.default_rng(i).integers(0, 256, (8, 8, 3), dtype=np.uint8)
        (tmp_path / "data").mkdir(exist_ok=True)
        Image.fromarray(pixels).save(tmp_path / f"data/={i}.png")
        rows.append(f"={i}.png,{labels[i % 6]}; {labels[(i + i // 6 + 1) % 6]},{split}")
    (tmp_path / "data/t.csv").write_text("\n".join(rows))
    out = tmp_path / "deep" / "down" / "run"
    settings = ["--config", "demo", "--image.size", "24", "--partition.parts", "2"]
    settings += ["--training.epochs", "1", "--teachers.epochs", "1", "--machine.workers", "0"]
    before = {*tmp_path.rglob("*")}
    assert main(["run", str(tmp_path / "data/t.csv"), *settings, "--out", str(out)]) == 0
    new = {*tmp_path.rglob("*")} - before - {tmp_path / "deep", tmp_path / "deep" / "down"}
    assert all(path.is_relative_to(out) for path in new)
    for table in out.rglob("*.csv"):
        with table.open(newline="") as file:
            cells = [cell for row in csv.reader(file) for cell in row]
        formulas = [cell for cell in cells if cell[:1] in "=+-@\t\r" and not _is_number(cell)]
        assert formulas == [], table
    assert "'=0.png" in (out / "splits.csv").read_text()


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return cell == ""
    return True


def test_predictions_for_spreadsheets_are_no_formulas() -> None:
    records = Records(
        paths=("=a.png", "b.png"),
        targets=np.zeros((2, 2), np.int8),
        labels=LabelSpace(("=cmd()", "dog")),
        splits=("", ""),
        root=Path(),
        origins=("", ""),
    )
    rows = list(csv.reader(as_csv(records, np.full((2, 2), 0.9), 0.5).splitlines()))
    assert rows[0] == ["image", "labels", "'=cmd()", "dog"]
    assert rows[1][:2] == ["'=a.png", "'=cmd(); dog"]
    assert rows[2][:2] == ["b.png", "'=cmd(); dog"]


@pytest.mark.parametrize("label", ["a\0b", "a\ud800"])
def test_labels_that_no_file_can_hold(label: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="NUL or half a character"):
        LabelSpace((label,))
    lay_coco = {"id": 1, "name": label}
    (tmp_path / "annotations").mkdir()
    (tmp_path / "annotations/instances_train2014.json").write_text(
        json.dumps(
            {"images": [{"id": 1, "file_name": "\ud800.png"}]}
            | {"categories": [lay_coco]}
            | {"annotations": [{"image_id": 1, "category_id": 1}]}
        )
    )
    report = check_data(DataConfig(format="coco", root=str(tmp_path)), seed=0)
    assert "NUL or half a character" in report.problems[0].detail


def test_a_concept_of_nus_wide_may_be_longer_than_a_file_name(tmp_path: Path) -> None:
    hostile_readers.lay_nuswide(tmp_path)
    (tmp_path / "Concepts81.txt").write_text("x" * 300)
    report = check_data(DataConfig(format="nus-wide", root=str(tmp_path)), seed=0)
    assert "File name too long" in report.problems[0].detail


@pytest.mark.parametrize("verb", ["data check {}", "run {} --out runs", "predict {} photo.jpg"])
def test_names_longer_than_the_system_allows_are_refused(
    verb: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.chdir(tmp_path)  # where nobody has runs yet, as beside a demo
    name = "x" * 300
    assert main(verb.format(name).split()) == 2
    said = capsys.readouterr().err
    assert name in said
    assert "longer than the system allows" in said


def test_concepts_of_nus_wide_name_no_files_elsewhere(tmp_path: Path) -> None:
    hostile_readers.lay_nuswide(tmp_path)
    (tmp_path / "Concepts81.txt").write_text("ant\nx/../../../secret\n")
    report = check_data(DataConfig(format="nus-wide", root=str(tmp_path)), seed=0)
    assert "has a slash" in report.problems[0].detail


# Code in files


class Payload:
    """Writes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return exec, (f"open({str(self.path)!r}, 'w').close()",)


def test_the_payload_works(tmp_path: Path) -> None:
    pickle.loads(pickle.dumps(Payload(tmp_path / "ran")))
    assert (tmp_path / "ran").exists()


def _object_array(payload: Payload) -> bytes:
    stream = io.BytesIO()
    array = np.empty(3, dtype=object)
    array[:] = payload
    np.save(stream, array, allow_pickle=True)
    return stream.getvalue()


def _archive(payload: Payload) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name in ("good", "bad", "labels", "num_images", "both_data"):
            archive.writestr(f"{name}.npy", _object_array(payload))
    return stream.getvalue()


CODE: dict[str, tuple[str, Callable[[Payload], bytes], Callable[[Path], object]]] = {
    "weights": ("w.pth", saved, read_weights),
    "weights in a state_dict": ("w.pt", lambda p: saved({"state_dict": {"a": p}}), read_weights),
    "old weights": ("w.ckpt", pickle.dumps, read_weights),
    "checkpoint": ("last.ckpt", saved, checkpoint_to_resume),
    "pickled embeddings": (
        "e.pkl",
        pickle.dumps,
        lambda path: read_label_embeddings(path, LABELS, width=1),
    ),
    "embeddings": (
        "e.npy",
        _object_array,
        lambda path: read_label_embeddings(path, LABELS, width=1),
    ),
    "array": ("a.npy", _object_array, read_npy),
    "mapped array": ("a.npy", _object_array, lambda path: read_npy(path, mapped=True)),
    "label graph": ("g.npz", _archive, LabelGraph.load),
}


@pytest.mark.parametrize("kind", CODE)
def test_code_in_files_is_not_run(kind: str, tmp_path: Path) -> None:
    name, write, read = CODE[kind]
    path, ran = tmp_path / name, tmp_path / "ran"
    path.write_bytes(write(Payload(ran)))
    with pytest.raises((UserError, DamagedArrayError)):
        read(path)
    assert not ran.exists()


# Files that stand for more than they are


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
    hostile_readers.lay_voc(tmp_path)
    bomb = '<!DOCTYPE a [<!ENTITY b "x"><!ENTITY c "&b;&b;">]><annotation>&c;</annotation>'
    (tmp_path / "Annotations/a.xml").write_text(bomb)
    report = check_data(DataConfig(format="voc", root=str(tmp_path)), seed=0)
    assert any("document type" in problem.detail for problem in report.problems)


# Files of a run that say something else


DAMAGED: tuple[tuple[str, object], ...] = (
    ("soft/manifest.json", {"labels": 3}),
    ("soft/manifest.json", {"strategies": [["a"]]}),
    ("soft/manifest.json", {"chunk_size": 0}),
    ("soft/manifest.json", {"image": 7}),
    ("pack/manifest.json", [[1, 2, 3]]),
    ("pack/manifest.json", {"size": 10**400}),
    ("thresholds", {"default": 10**400}),
    ("temperatures", {"temperature": {"ant": 10**400}}),
    ("run shown, manifest.json", {"stages": {"student": {"cost": {"seconds": "x"}}}}),
    ("run shown, evaluation/test.json", {"predictors": {"baseline": 3}}),
    ("report of explanations/gallery.json", {"entries": [3]}),
)


@pytest.mark.parametrize(("name", "change"), DAMAGED)
def test_damaged_values_are_told(name: str, change: object, tmp_path: Path) -> None:
    target = next(target for target in targets() if target.name == name)
    target.prepare(tmp_path)
    content = json.loads(target.seeds[0])
    changed = content | change if isinstance(change, dict) else change
    (tmp_path / target.file).write_text(json.dumps(changed))
    assert isinstance(fenced(tmp_path, lambda: target.read(tmp_path)), UserError)


# What the fuzzer has found


def test_a_chunk_that_says_it_is_gigabytes_long_is_a_damaged_picture(tmp_path: Path) -> None:
    content = picture("PNG")
    begin = content.index(b"IDAT")
    path = tmp_path / "a.png"
    path.write_bytes(
        content[: begin - 4] + struct.pack(">I", 2**32 - 2) + content[begin : begin + 6]
    )
    found = fenced(tmp_path, lambda: read_image(path))
    assert isinstance(found, PictureError)
    assert "a.png" in str(found)


@pytest.mark.parametrize(
    ("place", "bytes_there", "told"),
    [
        (b"PK\x01\x02", {6: 128}, "zip file version 12.8"),
        (b"PK\x06\x07", {6: 126}, "span multiple disks"),
    ],
)
def test_archives_that_zipfile_does_not_know_are_refused(
    tmp_path: Path, place: bytes, bytes_there: dict[int, int], told: str
) -> None:
    content = bytearray(saved({"a.weight": torch.zeros(2)}))
    at = content.rindex(place)
    for offset, value in bytes_there.items():
        content[at + offset] = value
    path = tmp_path / "w.pth"
    path.write_bytes(content)
    with pytest.raises(ModelError, match=told):
        read_weights(path)


def test_damaged_footers_of_predictions_leave_as_many_pictures_as_rows(tmp_path: Path) -> None:
    content = next(target for target in targets() if target.name == "predictions").seeds[0]
    path, refused = tmp_path / "p.parquet", 0
    for at in range(len(content) - 1700, len(content)):
        path.write_bytes(content[:at] + b"%" + content[at + 1 :])
        try:
            found = read_predictions(path)
        except RunError:
            refused += 1
        else:
            assert len(found.images) == len(found.logits)
    assert refused > 100


@pytest.mark.parametrize("seconds", ["null", "NaN", "1e999", "9" * 400, "true"])
def test_attempts_that_took_no_number_of_seconds_are_not_counted(
    tmp_path: Path, seconds: str
) -> None:
    rest = '"peak_memory": 3, "peak_gpu_memory": null, "begun": null'
    (tmp_path / "attempts.json").write_text(f'{{"seconds": {seconds}, {rest}}}')
    with attempt(tmp_path):
        pass
    assert 0 <= json.loads((tmp_path / "attempts.json").read_text())["seconds"] < 60


def test_a_predictor_whose_name_no_file_can_have_leaves_the_report_without_its_curves(
    tmp_path: Path,
) -> None:
    lay("run")(tmp_path)
    scores = tmp_path / "evaluation" / "test.json"
    content = json.loads(scores.read_text())
    content["predictors"]["x" * 300] = next(iter(content["predictors"].values()))
    scores.write_text(json.dumps(content))
    assert write_report(tmp_path).is_file()


@pytest.mark.parametrize(
    ("part", "change"),
    [
        ("indices", lambda places: places + 2),
        ("indices", lambda places: places - 2),
        ("indptr", lambda ends: ends[[0, 3, 1, 2]]),
        ("indptr", lambda ends: ends * 10**6),
        ("indptr", lambda ends: ends - 1),
        ("indptr", lambda ends: np.array([0, -(2**24), 255, 0], dtype=np.int32)),
        ("data", lambda data: data[:-1]),
    ],
)
@pytest.mark.parametrize("counts", ["both", "unknown"])
def test_a_label_graph_whose_places_lead_beyond_it_is_refused(
    tmp_path: Path, counts: str, part: str, change: Callable[[Any], Any]
) -> None:
    # SciPy believes them, and the process would end with a corrupted heap.
    path = tmp_path / "label_graph.npz"
    targets_NC = np.array([[1, 1, 0], [1, -1, 1], [-1, 1, 1]], dtype=np.int8)
    LabelGraph.from_targets(targets_NC, LABELS).save(path)
    content: dict[str, Any] = read_npz(path)
    content[f"{counts}_{part}"] = change(content[f"{counts}_{part}"])
    np.savez(path, **content)
    with pytest.raises(PartitionError, match="does not hold a label graph"):
        LabelGraph.load(path)
