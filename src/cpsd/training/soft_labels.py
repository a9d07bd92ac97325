"""Soft labels: the teachers' logits for every picture and view, stored once or computed live.

V views, N pictures, S strategies, C labels. Teachers are frozen and a view is a pure function of
(picture, view index, seed), so the stored logits are the live ones, to float16 precision.
"""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from cpsd.config import ImageConfig, MachineConfig
from cpsd.data.loading import inference_loader
from cpsd.data.records import Records
from cpsd.errors import ModelError, RunError
from cpsd.files import read_json, write_json, written_whole
from cpsd.training.members import scaled_pixels

CHUNK_SIZE = 4096
MANIFEST = "manifest.json"
ROWS = "rows.npy"


class LiveSoftLabels:
    """The teachers themselves: every batch is put through them.

    They are in evaluation mode, without gradients, and not a part of any module: no optimizer and
    no checkpoint of the student ever sees them.

    Args:
        ensembles: predictors over all labels by strategy, in the order of the soft labels.
    """

    num_views: int | None = None

    def __init__(self, ensembles: Mapping[str, nn.Module]) -> None:
        self.ensembles = {name: frozen(ensemble) for name, ensemble in ensembles.items()}
        self.strategies = tuple(ensembles)

    def __call__(self, images: Tensor, rows: Tensor, *, view_index: int) -> Tensor:
        """Return the teachers' logits (B, S, C) for ``images`` (B, 3, H, W) in [0, 1]."""
        with torch.no_grad(), torch.autocast(images.device.type, enabled=False):
            logits = [
                ensemble.to(images.device)(images).float() for ensemble in self.ensembles.values()
            ]
        return torch.stack(logits, dim=1)


class SoftLabelStore:
    """Stored logits, read by picture and view.

    Args:
        folder: what ``write_soft_labels`` has written.

    Raises:
        RunError: a file is missing or damaged.
    """

    def __init__(self, folder: Path) -> None:
        manifest = read_json(folder / MANIFEST)
        self.num_views: int | None = manifest["num_views"]
        self.strategies: tuple[str, ...] = tuple(manifest["strategies"])
        self.labels: tuple[str, ...] = tuple(manifest["labels"])
        self._chunk_size: int = manifest["chunk_size"]
        rows = np.load(_checked(folder, ROWS, manifest["rows"]), allow_pickle=False)
        self._position = {int(row): position for position, row in enumerate(rows)}
        self._chunks: list[NDArray[np.float16]] = []
        for start in range(0, len(rows), self._chunk_size):
            name = _chunk_name(start, self._chunk_size)
            path = _checked(folder, name, manifest["chunks"].get(name))
            self._chunks.append(np.load(path, mmap_mode="r", allow_pickle=False))

    def __call__(self, images: Tensor, rows: Tensor, *, view_index: int) -> Tensor:
        """Return the stored logits (B, S, C) float32 of the pictures ``rows`` in this view."""
        places = [divmod(self._position[row], self._chunk_size) for row in rows.tolist()]
        logits_BSC = np.stack([self._chunks[chunk][view_index, at] for chunk, at in places])
        return torch.from_numpy(logits_BSC.astype(np.float32)).to(images.device, non_blocking=True)


def write_soft_labels(
    folder: Path,
    ensembles: Mapping[str, nn.Module],
    records: Records,
    rows: Sequence[int],
    *,
    image: ImageConfig,
    num_views: int,
    seed: int,
    machine: MachineConfig,
    device: torch.device,
    chunk_size: int = CHUNK_SIZE,
) -> int:
    """Write the ensembles' logits for every view of every picture in ``rows``.

    A file for each chunk of pictures, float16 (V, n, S, C); chunks that an interrupted call with
    the same arguments has finished are kept (a folder belongs to one set of teachers). Returns the
    number of pictures put through an ensemble.

    Args:
        folder: where to; made when it is not there.
        ensembles: predictors over all labels of ``records``, by strategy.
        records: the pictures.
        rows: which of them.
        image: how pictures become tensors and how views vary them.
        num_views: views 0 to V - 1 are stored.
        seed: of the views; the student must read with the same.
        machine: workers and batch size.
        device: where the ensembles run.
        chunk_size: pictures in a file.

    Raises:
        ModelError: a logit too large for float16, or not a number.
        DataError: a picture cannot be read.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with written_whole(folder / ROWS) as temporary, temporary.open("wb") as stream:
        np.save(stream, np.asarray(rows, dtype=np.int64))
    settings = {
        "labels": list(records.labels),
        "strategies": list(ensembles),
        "num_views": num_views,
        "num_images": len(rows),
        "chunk_size": chunk_size,
        "seed": seed,
        "rows": _sha256(folder / ROWS),
    }
    chunks = _finished_chunks(folder, settings)
    num_forward = 0
    frozen_ensembles = [frozen(ensemble).to(device) for ensemble in ensembles.values()]
    for start in range(0, len(rows), chunk_size):
        name = _chunk_name(start, chunk_size)
        path = folder / name
        if name in chunks and path.exists() and _sha256(path) == chunks[name]:
            continue
        chunk_rows = rows[start : start + chunk_size]
        keys = [(int(row), view) for view in range(num_views) for row in chunk_rows]
        loader = inference_loader(
            records,
            keys,
            image,
            batch_size=machine.inference_batch_size,
            seed=seed,
            workers=machine.workers,
        )
        logits = [_logits(frozen_ensembles, batch.images.to(device)) for batch in loader]
        shape = (num_views, len(chunk_rows), len(ensembles), len(records.labels))
        with written_whole(path) as temporary, temporary.open("wb") as stream:
            np.save(stream, np.concatenate(logits).reshape(shape))
        num_forward += len(keys) * len(ensembles)
        chunks[name] = _sha256(path)
        write_json(folder / MANIFEST, {**settings, "chunks": chunks})
    return num_forward


def frozen(predictor: nn.Module) -> nn.Module:
    """Return ``predictor`` in evaluation mode and without gradients."""
    return predictor.eval().requires_grad_(False)


def _logits(ensembles: Sequence[nn.Module], images: Tensor) -> NDArray[np.float16]:
    """Return the logits (B, S, C) in float16 of uint8 ``images``."""
    with torch.inference_mode():
        scaled = scaled_pixels(images)
        stacked = torch.stack([ensemble(scaled).float() for ensemble in ensembles], dim=1)
        logits_BSC = stacked.to(torch.float16).cpu().numpy()
    if not np.isfinite(logits_BSC).all():
        raise ModelError(
            "A teacher's logit is not a number or beyond 65,504, the largest float16; such a "
            "teacher has diverged. Lower training.learning_rate and train the teachers again."
        )
    return logits_BSC


def _chunk_name(start: int, chunk_size: int) -> str:
    return f"{start // chunk_size:05d}.npy"


def _finished_chunks(folder: Path, settings: dict[str, Any]) -> dict[str, str]:
    """Return the SHA-256 by name of the chunks that were made with the same settings."""
    if not (folder / MANIFEST).exists():
        return {}
    manifest = read_json(folder / MANIFEST)
    chunks: dict[str, str] = manifest.pop("chunks")
    return chunks if manifest == settings else {}


def _checked(folder: Path, name: str, digest: str | None) -> Path:
    """Return the path of a file whose bytes are those of its SHA-256."""
    path = folder / name
    if not path.is_file() or _sha256(path) != digest:
        raise RunError(
            f"The soft labels {path} are missing or damaged. Remove the folder {folder} and start "
            "the run again to have them made anew."
        )
    return path


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
