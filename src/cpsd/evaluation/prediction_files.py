"""Predictions as Parquet files: written whole, read whole or a few labels at a time.

A file has the column ``image``, then for each label one float32 column ``logit:<label>`` and one
int8 column ``target:<label>``; its metadata names the labels and the predictor.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from cpsd.errors import RunError
from cpsd.evaluation.predictions import Predictions
from cpsd.files import written_whole
from cpsd.labels import LabelSpace

_METADATA_KEY = b"cpsd.predictions"
_MOST_VALUES_A_BYTE = 50
"""Logits hardly compress: a file with more values than this for its size is made to fill memory."""
_VALUES_AT_ONCE = 1_000_000
"""Logits that are read together; five bytes each with their targets, and as much to decode them."""


@dataclass(frozen=True)
class PredictionFile:
    """A file of predictions whose logits are read as they are asked for; see ``open_predictions``.

    Args:
        path: the file.
        labels: the C labels.
        predictor: what made them.
        metadata: Parquet's own, so that it is parsed once.
    """

    path: Path
    labels: LabelSpace
    predictor: str
    metadata: pq.FileMetaData

    def __len__(self) -> int:
        return int(self.metadata.num_rows)

    def by_label(self) -> Iterator[tuple[NDArray[np.float32], NDArray[np.int8]]]:
        """Yield each label's logits ``(N,)`` and targets ``(N,)``, in the order of ``labels``.

        Only a few labels are in memory at a time, however many there are.

        Raises:
            RunError: the file is damaged.
        """
        names = self.labels.names
        at_once = max(1, _VALUES_AT_ONCE // max(1, len(self)))
        with _damage_told(self.path), pq.ParquetFile(self.path, metadata=self.metadata) as file:
            for begin in range(0, len(names), at_once):
                some = names[begin : begin + at_once]
                columns = [f"{kind}:{name}" for name in some for kind in ("logit", "target")]
                table = file.read(columns=columns)
                for name in some:
                    logits_N = table[f"logit:{name}"].to_numpy().astype(np.float32, copy=False)
                    targets_N = table[f"target:{name}"].to_numpy().astype(np.int8, copy=False)
                    yield logits_N, targets_N

    def images(self) -> tuple[str, ...]:
        """Return the N picture paths as the data names them.

        Raises:
            RunError: the file is damaged.
        """
        with _damage_told(self.path), pq.ParquetFile(self.path, metadata=self.metadata) as file:
            paths = file.read(columns=["image"])["image"].to_pylist()
            if len(paths) != len(self):
                raise ValueError(f"{len(paths)} pictures in {len(self)} rows")
        return tuple(
            path.decode(errors="surrogateescape") if isinstance(path, bytes) else path
            for path in paths
        )


def open_predictions(path: Path) -> PredictionFile:
    """Return a file that ``write_predictions`` wrote, of which only the head is read now.

    Raises:
        RunError: no such file, or not a file of predictions.
    """
    with _damage_told(path):
        # Not read_table: it would read a folder named "k=5" in the path as one more column.
        with pq.ParquetFile(path) as file:
            head, metadata = file.metadata, file.schema_arrow.metadata or {}
        if head.num_rows < 0:
            raise ValueError(f"{head.num_rows} rows")
        if head.num_rows * head.num_columns > _MOST_VALUES_A_BYTE * path.stat().st_size:
            raise RunError(f"{path} says that it holds more than a file of its size can.")
        if _METADATA_KEY not in metadata:
            raise RunError(f"{path} is a Parquet file, but not one of predictions.")
        about = json.loads(metadata[_METADATA_KEY])
        labels = LabelSpace(tuple(about["labels"]))
        if head.num_columns != 1 + 2 * len(labels):
            raise ValueError(f"{head.num_columns} columns for {len(labels)} labels")
        return PredictionFile(path, labels, about["predictor"], head)


def read_predictions(path: Path) -> Predictions:
    """Read what ``write_predictions`` wrote.

    Raises:
        RunError: no such file, or not a file of predictions.
    """
    file = open_predictions(path)
    logits = np.empty((len(file), len(file.labels)), np.float32)
    targets = np.empty((len(file), len(file.labels)), np.int8)
    for c, (logits_N, targets_N) in enumerate(file.by_label()):
        logits[:, c], targets[:, c] = logits_N, targets_N
    return Predictions(file.images(), logits, targets, file.labels, file.predictor)


def write_predictions(path: Path, predictions: Predictions) -> None:
    """Write ``predictions`` to ``path`` as Parquet; the file appears whole or not at all.

    An existing file is replaced. Picture paths that are not valid UTF-8 are kept byte for byte.

    Raises:
        RunError: the disk is full, or the folder cannot be written to.
    """
    columns = {"image": _image_column(predictions.images)}
    for c, name in enumerate(predictions.labels):
        columns[f"logit:{name}"] = pa.array(predictions.logits[:, c], pa.float32())
        columns[f"target:{name}"] = pa.array(predictions.targets[:, c], pa.int8())
    about = {"labels": list(predictions.labels), "predictor": predictions.predictor}
    table = pa.table(columns).replace_schema_metadata({_METADATA_KEY: json.dumps(about)})
    with written_whole(path) as temporary:
        pq.write_table(table, temporary)


@contextmanager
def _damage_told(path: Path) -> Iterator[None]:
    """Turn what a reader of damaged bytes fails with into words."""
    try:
        yield
    except FileNotFoundError as error:
        raise RunError(f"{path} does not exist; evaluate the run to write it.") from error
    except RunError:
        raise
    # Damaged bytes make the reader fail in ways that have no common root.
    except Exception as error:
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise RunError(
            f"{path} is damaged or no Parquet file ({reason[:200]}); delete it and "
            "evaluate the run again."
        ) from error


def _image_column(images: tuple[str, ...]) -> pa.Array:
    try:
        return pa.array(images, pa.string())
    except UnicodeEncodeError:
        return pa.array([i.encode(errors="surrogateescape") for i in images], pa.binary())
