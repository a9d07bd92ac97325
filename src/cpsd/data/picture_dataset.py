"""The pictures of the records as batches of bytes, and what decodes them beforehand.

Legend: B pictures in a batch, C labels, S size of a view.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from cpsd.config import ImageConfig
from cpsd.data.bad_pictures import Decode
from cpsd.data.images import PictureError
from cpsd.data.kept_pixels import kept_pixels
from cpsd.data.pixels import Pixels, read_pixels
from cpsd.data.records import Records
from cpsd.data.views import view
from cpsd.errors import DataError

Key = tuple[int, int]
"""A picture in a view: (row of the records, view index)."""


class Batch(NamedTuple):
    """Pictures, what is known of them, and who they are."""

    images: Tensor
    """``(B, 3, S, S)`` uint8, channels last in memory."""
    targets: Tensor
    """``(B, C)`` int8; 1 present, 0 absent, -1 unknown."""
    rows: Tensor
    """``(B,)`` int64, rows of the records: predictions are put back in order by them."""


@dataclass(frozen=True)
class PartlyRead:
    """A batch of which not every picture could be read.

    Args:
        batch: of those that could; None where there are none.
        faults: by row, why the others could not.
    """

    batch: Batch | None
    faults: dict[int, PictureError]


class PictureDataset(Dataset[tuple[Tensor, int]]):
    """The pictures of the records, by (row, view index).

    Args:
        records: the data set.
        config: size and augmentation of the views.
        seed: the run's seed, of the views.
        memory_share: most of the machine's memory for decoded pictures; see ``kept_pixels``.

    Raises:
        DataError: the pack of ``records`` holds pictures of another size.
    """

    def __init__(
        self, records: Records, config: ImageConfig, *, seed: int, memory_share: float = 0.0
    ) -> None:
        self.records = records
        self.config = config
        self.seed = seed
        if records.packed is not None:
            records.packed.require(config.size)
            memory_share = 0.0
        self._kept = kept_pixels(records, config.size, memory_share=memory_share)
        # The records' own memory: a copy for each loader would double the greatest part of them.
        targets = records.targets
        self._targets = torch.from_numpy(targets if targets.flags.writeable else targets.copy())

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, key: Key) -> tuple[Tensor, int]:
        """Return a view ``(3, S, S)`` uint8 of a picture, and its row.

        Raises:
            DataError: the picture cannot be read.
        """
        try:
            pixels = np.array(self._view(key))
        except PictureError as error:
            raise self.located(key[0], error) from error
        return torch.from_numpy(pixels).permute(2, 0, 1), key[0]

    def __getitems__(self, keys: Sequence[Key]) -> Batch | PartlyRead | DataError:
        """Return the batch of ``keys``, with what is wrong with those that cannot be read.

        Errors are returned, not raised: torch would hand on an exception of a worker with the
        worker's whole traceback as its message. ``PictureLoader`` raises them.
        """
        size = self.config.size
        images_BHWC = torch.empty((len(keys), size, size, 3), dtype=torch.uint8)
        places = images_BHWC.numpy()
        rows, faults = list[int](), dict[int, PictureError]()
        try:
            for key in keys:
                try:
                    places[len(rows)] = self._view(key)
                except PictureError as error:
                    faults[key[0]] = error
                else:
                    rows.append(key[0])
        except DataError as error:  # of the pack, not of a picture
            return error
        rows_B = torch.tensor(rows, dtype=torch.int64)
        images_BCHW = images_BHWC[: len(rows)].permute(0, 3, 1, 2)
        batch = Batch(images_BCHW, self._targets[rows_B], rows_B)
        return PartlyRead(batch if rows else None, faults) if faults else batch

    def located(self, row: int, error: PictureError) -> DataError:
        """Return ``error`` with the place in the data that names the picture."""
        return DataError(f"{self.records.origins[row]}: {error}")

    def _view(self, key: Key) -> Pixels:
        """Return a view ``(S, S, 3)``, to be copied: it may be another's memory."""
        row, view_index = key
        pixels = self._pixels(row)
        return view(pixels, view_index, seed=self.seed, image_index=row, config=self.config)

    def _pixels(self, row: int) -> Pixels:
        """Return the pixels ``(S, S, 3)`` of a picture, not to be written to."""
        if self.records.packed is not None:
            return self.records.packed(row)
        kept = None if self._kept is None else self._kept.get(row)
        if kept is not None:
            return kept
        pixels = read_pixels(self.records.image_path(row), self.config.size)
        if self._kept is not None:
            self._kept.keep(row, pixels)
        return pixels

    def __getstate__(self) -> dict[str, Any]:
        """Leave the kept pixels behind: only a forked process shares them."""
        return {**self.__dict__, "_kept": None}


def keeping_decoder(size: int, *, memory_share: float) -> Callable[[Records], Decode]:
    """Return what makes of records what decodes a picture as a loader will, and keeps its pixels.

    Args:
        size: S.
        memory_share: most of the machine's memory for decoded pictures; see ``kept_pixels``.
    """

    def decoder(records: Records) -> Decode:
        kept = kept_pixels(records, size, memory_share=memory_share)

        def decode(row: int) -> None:
            if kept is None or kept.get(row) is None:
                pixels = read_pixels(records.image_path(row), size)
                if kept is not None:
                    kept.keep(row, pixels)

        return decode

    return decoder
