"""Soft labels are written: every view of every picture put through the teachers once.

V views, S strategies, C labels.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from cpsd.config import ImageConfig
from cpsd.data.loading import inference_loader
from cpsd.data.lost_processes import plain_loader_errors
from cpsd.data.records import Records
from cpsd.data.views import VIEWS_VERSION
from cpsd.errors import ModelError
from cpsd.files import write_json, written_whole
from cpsd.machine_config import MachineConfig
from cpsd.memory import plain_inference_memory
from cpsd.models.folding import folded
from cpsd.models.trunk import one_pass
from cpsd.training.members import scaled_pixels
from cpsd.training.soft_label_files import (
    MANIFEST,
    ROWS,
    chunk_manifest,
    chunk_manifests,
    chunk_name,
    names_digest,
    read_manifest,
    sha256,
)
from cpsd.training.soft_labels import frozen

Progress = Callable[[int, int], None]
"""Is told how many of how many pictures are done."""

CHUNK_SIZE = 4096
_AUTOCAST = {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}


@plain_loader_errors()
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
    precision: str = "32",
    chunk_size: int = CHUNK_SIZE,
    chunk: int | None = None,
    progress: Progress = lambda done, total: None,
) -> int:
    """Write the ensembles' logits for every view of every picture in ``rows``.

    A file for each chunk of pictures, float16 (V, n, S, C); chunks that an interrupted call with
    the same arguments has finished are kept (a folder belongs to one set of teachers). Calls for
    one chunk each may write into the same folder at once; a call for all then finds them. Returns
    the number of pictures put through an ensemble.

    Args:
        folder: where to; made when it is not there.
        ensembles: predictors over all labels of ``records``, by strategy.
        records: the pictures.
        rows: which of them.
        image: how pictures become tensors and how views vary them.
        num_views: views 0 to V - 1 are stored.
        seed: of the views; the student sees the same.
        machine: workers and batch size.
        device: where the ensembles run.
        precision: arithmetic of their forward pass, as ``training.precision``.
        chunk_size: pictures in a file.
        chunk: write this chunk only, counted from 0; by default all, which makes a store of them.
        progress: told after every batch; a picture counts once for each view.

    Raises:
        ModelError: a logit too large for float16, or not a number.
        DataError: a picture cannot be read.
        TrainingError: a process that loads pictures was killed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with written_whole(folder / ROWS) as temporary, temporary.open("wb") as stream:
        np.save(stream, np.asarray(rows, dtype=np.int64))
    settings = {
        "labels": list(records.labels),
        "strategies": list(ensembles),
        "image": asdict(image),
        "views_version": VIEWS_VERSION,
        "num_views": num_views,
        "num_images": len(rows),
        "pictures": names_digest(records, rows),
        "chunk_size": chunk_size,
        "seed": seed,
        "precision": precision,
        "rows": sha256(folder / ROWS),
    }
    chunks = _finished_chunks(folder, settings)
    starts = range(0, len(rows), chunk_size)
    asked = starts if chunk is None else starts[chunk : chunk + 1]
    # By another name where others may write theirs at once.
    manifest = folder / (MANIFEST if chunk is None else chunk_manifest(chunk))
    total = num_views * sum(len(rows[start : start + chunk_size]) for start in asked)
    num_forward = num_done = 0
    with ExitStack() as stack:
        quick: list[nn.Module] = []
        for start in asked:
            name = chunk_name(start, chunk_size)
            path = folder / name
            chunk_rows = rows[start : start + chunk_size]
            keys = [(int(row), view) for view in range(num_views) for row in chunk_rows]
            if name in chunks and path.exists() and sha256(path) == chunks[name]:
                num_done += len(keys)
                continue
            # From the first picture on: a chunk is the same bytes, the first or resumed.
            quick = quick or [
                stack.enter_context(folded(frozen(ensemble).to(device), from_picture=1))
                for ensemble in ensembles.values()
            ]
            logits = []
            for batch in inference_loader(
                records,
                keys,
                image,
                batch_size=machine.inference_batch_size,
                seed=seed,
                workers=machine.workers,
                memory_share=machine.picture_memory,
                pin_memory=device.type == "cuda",
            ):
                logits.append(_logits(quick, batch.images.to(device), precision))
                num_done += len(logits[-1])
                progress(num_done, total)
            shape = (num_views, len(chunk_rows), len(ensembles), len(records.labels))
            with written_whole(path) as temporary, temporary.open("wb") as stream:
                np.save(stream, np.concatenate(logits).reshape(shape))
            num_forward += len(keys) * len(ensembles)
            chunks[name] = sha256(path)
            write_json(manifest, {**settings, "chunks": dict(sorted(chunks.items()))})
    if chunk is None:
        write_json(manifest, {**settings, "chunks": dict(sorted(chunks.items()))})
        for part in chunk_manifests(folder):
            (folder / part).unlink()
    return num_forward


def unwritten_chunks(folder: Path, num_images: int, chunk_size: int = CHUNK_SIZE) -> list[int]:
    """Return the chunks of ``num_images`` pictures that no manifest in ``folder`` names."""
    named: set[str] = set()
    for manifest in (MANIFEST, *chunk_manifests(folder)):
        if (folder / manifest).exists():
            named.update(read_manifest(folder, manifest)["chunks"])
    names = [chunk_name(start, chunk_size) for start in range(0, num_images, chunk_size)]
    return [index for index, name in enumerate(names) if name not in named]


def uncounted(title: str) -> AbstractContextManager[Progress]:
    """Return a progress that shows nothing."""
    return nullcontext(lambda done, total: None)


def _logits(ensembles: Sequence[nn.Module], images: Tensor, precision: str) -> NDArray[np.float16]:
    """Return the logits (B, S, C) in float16 of uint8 ``images``."""
    dtype = _AUTOCAST.get(precision)
    mixed = torch.autocast(images.device.type, dtype=dtype, enabled=dtype is not None)
    with torch.inference_mode(), one_pass(), mixed, plain_inference_memory(len(images)):
        scaled = scaled_pixels(images)
        stacked = torch.stack([ensemble(scaled).float() for ensemble in ensembles], dim=1)
        logits_BSC = stacked.to(torch.float16).cpu().numpy()
    if not np.isfinite(logits_BSC).all():
        raise ModelError(
            "A teacher's logit is not a number or beyond 65,504, the largest float16; such a "
            "teacher has diverged. Lower training.learning_rate and train the teachers again."
        )
    return logits_BSC


def _finished_chunks(folder: Path, settings: dict[str, Any]) -> dict[str, str]:
    """Return the SHA-256 by name of the chunks that were made with the same settings."""
    finished: dict[str, str] = {}
    for name in (MANIFEST, *chunk_manifests(folder)):
        if (folder / name).exists():
            manifest = read_manifest(folder, name)
            chunks: dict[str, str] = manifest.pop("chunks")
            finished.update(chunks if manifest == settings else {})
    return finished
