"""Files of predictions: what was written is read, whole or a few labels at a time."""

import errno
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cpsd.errors import RunError
from cpsd.evaluation import prediction_files
from cpsd.evaluation.prediction_files import open_predictions, read_predictions, write_predictions
from cpsd.evaluation.predictions import Predictions
from cpsd.labels import LabelSpace


def predictions(images: tuple[str, ...] = ("a.jpg", "dir/b c.png", "ü.jpg")) -> Predictions:
    rng = np.random.default_rng(1)
    return Predictions(
        images=images,
        logits=rng.standard_normal((3, 2)).astype(np.float32),
        targets=np.array([[1, 0], [-1, 1], [0, -1]], np.int8),
        labels=LabelSpace(("cat", "hot dog: red")),
        predictor="teachers/co-occurrence",
    )


@pytest.mark.parametrize(
    "images",
    [
        ("a.jpg", "dir/b c.png", "ü.jpg"),
        ("a.jpg", "caf\udce9.jpg", "ü.jpg"),  # a file name that is not UTF-8
    ],
)
def test_reads_what_it_wrote(tmp_path: Path, images: tuple[str, ...]) -> None:
    written = predictions(images)
    folder = tmp_path / "k=5"  # a folder name that Parquet readers may take for a column
    folder.mkdir()
    write_predictions(folder / "test.parquet", written)
    read = read_predictions(folder / "test.parquet")
    np.testing.assert_array_equal(read.logits, written.logits)
    np.testing.assert_array_equal(read.targets, written.targets)
    assert (str(read.logits.dtype), str(read.targets.dtype)) == ("float32", "int8")
    assert (read.images, read.labels, read.predictor) == (
        written.images,
        written.labels,
        written.predictor,
    )
    assert [file.name for file in folder.iterdir()] == ["test.parquet"]


def test_columns_are_named_after_their_labels(tmp_path: Path) -> None:
    write_predictions(tmp_path / "test.parquet", predictions())
    schema = pq.read_schema(tmp_path / "test.parquet")
    assert {field.name: field.type for field in schema} == {
        "image": pa.string(),
        "logit:cat": pa.float32(),
        "target:cat": pa.int8(),
        "logit:hot dog: red": pa.float32(),
        "target:hot dog: red": pa.int8(),
    }


def test_a_failed_write_leaves_the_old_file_and_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "test.parquet"
    write_predictions(path, predictions())
    before = path.read_bytes()

    def full_disk(table: Any, where: Any) -> None:
        Path(where).write_bytes(b"PAR1")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(pq, "write_table", full_disk)
    with pytest.raises(RunError, match="disk is full"):
        write_predictions(path, predictions())
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_a_missing_file_is_said(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"test\.parquet does not exist"):
        read_predictions(tmp_path / "test.parquet")


@pytest.mark.parametrize("kept", [0, 3, 100, -8])
def test_a_truncated_file_is_said(tmp_path: Path, kept: int) -> None:
    path = tmp_path / "test.parquet"
    write_predictions(path, predictions())
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(RunError, match=r"test\.parquet is damaged"):
        read_predictions(path)


def test_another_table_is_refused(tmp_path: Path) -> None:
    pq.write_table(pa.table({"image": ["a"]}), tmp_path / "other.parquet")
    with pytest.raises(RunError, match="not one of predictions"):
        read_predictions(tmp_path / "other.parquet")


@pytest.mark.parametrize("values_at_once", [1, 40, 10**9])
def test_label_by_label_is_the_file_read_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, values_at_once: int
) -> None:
    rng = np.random.default_rng(2)
    # Parquet's readers take what is before a point for a column that holds others.
    labels = LabelSpace(("a", "a.b", "a.b.c", ".", "*", " x", "logit:a"))
    written = Predictions(
        images=tuple(f"{row}.jpg" for row in range(13)),
        logits=rng.standard_normal((13, 7)).astype(np.float32),
        targets=rng.integers(-1, 2, (13, 7)).astype(np.int8),
        labels=labels,
        predictor="student",
    )
    path = tmp_path / "test.parquet"
    write_predictions(path, written)
    monkeypatch.setattr(prediction_files, "_VALUES_AT_ONCE", values_at_once)
    file = open_predictions(path)
    assert (len(file), file.labels, file.predictor) == (13, labels, "student")
    assert file.images() == written.images
    logits, targets = zip(*file.by_label(), strict=True)
    table = pq.read_table(path)
    for c, name in enumerate(labels):
        assert logits[c].dtype == np.float32
        assert targets[c].dtype == np.int8
        assert logits[c].tolist() == table[f"logit:{name}"].to_pylist()
        assert targets[c].tolist() == table[f"target:{name}"].to_pylist()
    np.testing.assert_array_equal(np.stack(logits, axis=1), written.logits)
    np.testing.assert_array_equal(np.stack(targets, axis=1), written.targets)


def test_damage_that_is_met_on_the_way_is_said(tmp_path: Path) -> None:
    path = tmp_path / "test.parquet"
    write_predictions(path, predictions())
    file = open_predictions(path)
    content = bytearray(path.read_bytes())
    content[4:-500] = bytes(len(content) - 504)
    path.write_bytes(content)
    with pytest.raises(RunError, match=r"test\.parquet is damaged"):
        list(file.by_label())
    path.unlink()
    with pytest.raises(RunError, match=r"test\.parquet does not exist"):
        list(file.by_label())


PEAKS_OF_READING = """
import sys
from pathlib import Path
from cpsd.evaluation.prediction_files import open_predictions, read_predictions
from cpsd.peak_memory import forget_peaks, peak_of_process

path = Path(sys.argv[1])
next(open_predictions(path).by_label())
forget_peaks()
begin = peak_of_process()
for logits_N, targets_N in open_predictions(path).by_label():
    pass
by_label = peak_of_process()
kept = read_predictions(path)
print(by_label - begin, peak_of_process() - begin)
"""


@pytest.mark.skipif(not Path("/proc/self/status").is_file(), reason="only Linux tells the peak")
def test_memory_is_that_of_a_few_labels(tmp_path: Path) -> None:
    shape = (20_000, 1_000)
    logits = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    labels = LabelSpace(tuple(f"label {c}" for c in range(shape[1])))
    path = tmp_path / "test.parquet"
    images = ("a.jpg",) * shape[0]
    write_predictions(path, Predictions(images, logits, np.ones(shape, np.int8), labels, "student"))
    done = subprocess.run(
        [sys.executable, "-c", PEAKS_OF_READING, str(path)],
        capture_output=True, text=True, check=True, timeout=120,
    )  # fmt: skip
    by_label, whole = map(int, done.stdout.split())
    assert whole > 5 * logits.size
    assert by_label < whole / 2
