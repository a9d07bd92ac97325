"""Soft labels: the teachers' logits for every picture and view, stored once or computed live.

V views, N pictures, S strategies, C labels. Teachers are frozen and a view is a pure function of
(picture, view index, seed), so the stored logits are the live ones, to float16 precision.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from cpsd.array_files import read_npy
from cpsd.config import ImageConfig
from cpsd.data.records import Records
from cpsd.data.views import VIEWS_VERSION
from cpsd.errors import DataError, ModelError
from cpsd.models.trunk import one_pass
from cpsd.training.soft_label_files import (
    ROWS,
    checked,
    chunk_name,
    missing_or_damaged,
    names_digest,
    read_manifest,
)

_ANEW = "write the soft labels anew"


class LiveSoftLabels:
    """The teachers themselves: every batch is put through them.

    They are in evaluation mode, without gradients, and not a part of any module: no optimizer and
    no checkpoint of the student ever sees them.

    Args:
        ensembles: predictors over all labels by strategy, in the order of the soft labels.
        num_labels: C.
    """

    num_views: int | None = None
    seed: int | None = None

    def __init__(self, ensembles: Mapping[str, nn.Module], num_labels: int) -> None:
        self.ensembles = {name: frozen(ensemble) for name, ensemble in ensembles.items()}
        self.strategies = tuple(ensembles)
        self._num_labels = num_labels
        self._device: torch.device | None = None

    def __call__(self, images: Tensor, rows: Tensor, *, view_index: int) -> Tensor:
        """Return the teachers' logits (B, S, C) for ``images`` (B, 3, H, W) in [0, 1].

        They are computed in the student's arithmetic (``training.precision``).

        Raises:
            ModelError: a teacher gives more or fewer logits than there are labels.
        """
        logits = []
        with one_pass(), torch.no_grad():
            for strategy, ensemble in self.ensembles.items():
                if self._device != images.device:
                    ensemble.to(images.device)
                logits_BC = ensemble(images).float()
                if logits_BC.shape != (len(images), self._num_labels):
                    raise ModelError(
                        f"The {strategy} teachers give logits of shape {tuple(logits_BC.shape)} "
                        f"where {(len(images), self._num_labels)} is needed."
                    )
                logits.append(logits_BC)
        self._device = images.device
        return torch.stack(logits, dim=1)


class SoftLabelStore:
    """Stored logits, read by picture and view.

    Opening looks at names alone. A chunk's bytes are held to its hash before the first of its
    logits is given: all of them in ``require``, before a student is trained, any other when it is
    first read.

    Args:
        folder: what ``write_soft_labels`` has written.

    Raises:
        RunError: a file is missing, or the manifest or the list of rows is damaged.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        manifest = read_manifest(folder)
        self.num_views: int | None = manifest["num_views"]
        self.strategies: tuple[str, ...] = tuple(manifest["strategies"])
        self.labels: tuple[str, ...] = tuple(manifest["labels"])
        self.seed: int | None = manifest["seed"]
        self._image: dict[str, Any] = manifest["image"]
        self._views_version: int = manifest.get("views_version", 1)
        self._pictures: str = manifest["pictures"]
        self._chunk_size: int = manifest["chunk_size"]
        self._rows: NDArray[np.int64] = read_npy(checked(folder, ROWS, manifest["rows"]))
        if self._rows.dtype != np.int64 or self._rows.ndim != 1 or self._rows.min(initial=0) < 0:
            raise missing_or_damaged(folder, ROWS)
        self._positions = _inverse(self._rows)
        self._digests: dict[str, str] = manifest["chunks"]
        self._names = [
            chunk_name(start, self._chunk_size)
            for start in range(0, len(self._rows), self._chunk_size)
        ]
        for name in self._names:
            if name not in self._digests or not (folder / name).is_file():
                raise missing_or_damaged(folder, name)
        self._chunks: dict[int, NDArray[np.float16]] = {}
        self._unread = set(range(len(self._names)))

    def require(self, records: Records, rows: NDArray[np.intp], image: ImageConfig) -> None:
        """Refuse to teach what these are not the soft labels of.

        Args:
            records: the pictures that a student will learn from.
            rows: which of them.
            image: how the student sees them.

        Raises:
            DataError: the labels, the pictures or their views are others, or a picture has no
                soft labels.
            RunError: a chunk is damaged.
        """
        if self.labels != records.labels.names:
            raise DataError(
                f"The soft labels in {self.folder} are those of {_named(self.labels)}, but the "
                f"data have {_named(records.labels.names)}. Labels and their order must be the "
                f"same; {_ANEW}."
            )
        for key, wanted in asdict(image).items():
            if self._image.get(key) != wanted:
                raise DataError(
                    f"The soft labels in {self.folder} are of views with image.{key} "
                    f"{self._image.get(key)}, but the student would see {wanted}; train with the "
                    f"same, or {_ANEW}."
                )
        if self._views_version != VIEWS_VERSION:
            raise DataError(
                f"The soft labels in {self.folder} are of views as another release of cpsd makes "
                f"them of the same pictures; {_ANEW}."
            )
        missing = rows[self._positions_of(rows) < 0]
        if len(missing):
            raise DataError(
                f"{len(missing)} of {len(rows)} pictures have no soft labels in {self.folder}, the "
                f"first {records.paths[missing[0]]} ({records.origins[missing[0]]}); {_ANEW}."
            )
        if self._pictures != names_digest(records, self._rows.tolist()):
            raise DataError(
                f"The soft labels in {self.folder} are of other pictures, or of the same in "
                f"another order; {_ANEW}."
            )
        for chunk in sorted(self._unread):
            self._read(chunk)

    def __call__(self, images: Tensor, rows: Tensor, *, view_index: int) -> Tensor:
        """Return the stored logits (B, S, C) float32 of the pictures ``rows`` in this view.

        Nothing waits for the device: ``rows`` are best kept on the host, and the logits are sent
        as they are stored, from page-locked memory.

        Raises:
            DataError: a picture has no soft labels.
            RunError: a chunk is damaged.
        """
        device = images.device
        positions = self._positions_of(rows.cpu().numpy())
        if (positions < 0).any():
            raise DataError(f"A picture has no soft labels in {self.folder}; {_ANEW}.")
        chunks, places = (part.tolist() for part in np.divmod(positions, self._chunk_size))
        for chunk in self._unread.intersection(chunks):
            self._read(chunk)
        shape = (len(chunks), len(self.strategies), len(self.labels))
        logits_BSC = torch.empty(shape, dtype=torch.float16, pin_memory=device.type == "cuda")
        found_BSC, stored = logits_BSC.numpy(), self._chunks
        # Sorted by chunk, to index each by an array, this takes twice as long.
        for index, (chunk, place) in enumerate(zip(chunks, places, strict=True)):
            found_BSC[index] = stored[chunk][view_index, place]
        return logits_BSC.to(device, non_blocking=True).float()

    def _positions_of(self, rows: NDArray[np.intp]) -> NDArray[np.intp]:
        """Return where in the store ``rows`` are, -1 for those that are not."""
        known = (rows >= 0) & (rows < len(self._positions))
        return np.where(known, self._positions[np.where(known, rows, 0)], -1)

    def _read(self, chunk: int) -> None:
        """Map a chunk (V, n, S, C) into memory, whose bytes are those that were written."""
        name = self._names[chunk]
        path = checked(self.folder, name, self._digests[name])
        logits = read_npy(path, mapped=True)
        num_rows = min(self._chunk_size, len(self._rows) - chunk * self._chunk_size)
        wanted = (num_rows, len(self.strategies), len(self.labels))
        if logits.shape[1:] != wanted or logits.dtype != np.float16:
            raise missing_or_damaged(self.folder, name)
        self._chunks[chunk] = logits
        self._unread.discard(chunk)


def frozen(predictor: nn.Module) -> nn.Module:
    """Return ``predictor`` in evaluation mode and without gradients."""
    return predictor.eval().requires_grad_(False)


def _named(labels: Sequence[str]) -> str:
    more = f" and {len(labels) - 5} more" if len(labels) > 5 else ""
    return f"{', '.join(labels[:5])}{more}"


def _inverse(rows: NDArray[np.int64]) -> NDArray[np.intp]:
    """Return the position of each row in ``rows``, -1 for rows that are not among them.

    Example:
        >>> _inverse(np.array([3, 1])).tolist()
        [-1, 1, -1, 0]
    """
    positions = np.full(rows.max(initial=-1) + 1, -1, dtype=np.intp)
    positions[rows] = np.arange(len(rows))
    return positions
