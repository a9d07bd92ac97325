"""Pixels of a pack, by row of the records that it was opened for."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cpsd.errors import DataError

PIXELS = "pixels.npy"

PIXELS_VERSION = 1
"""Which bytes ``pixels.read_pixels`` makes of a file; raised with every change of them, and with it
``views.VIEWS_VERSION``, so that no pack gives others than decoding does."""


class PackedPixels:
    """The pixels ``(S, S, 3)`` of each picture of a data set, mapped from a pack.

    Args:
        folder: the pack.
        size: S.
        positions: where in the pack each row of the records is.
    """

    def __init__(self, folder: Path, size: int, positions: NDArray[np.intp]) -> None:
        self.folder = folder
        self.size = size
        self.positions = positions
        # As a plain array: numpy is slow at indexing its own memmap.
        self._pixels: NDArray[np.uint8] = np.asarray(np.load(folder / PIXELS, mmap_mode="r"))

    def __call__(self, row: int) -> NDArray[np.uint8]:
        """Return the pixels of a picture, not to be written to."""
        pixels: NDArray[np.uint8] = self._pixels[self.positions[row]]
        return pixels

    def __reduce__(self) -> tuple[Callable[..., "PackedPixels"], tuple[object, ...]]:
        """Be sent to another process as a place, not as all pixels."""
        return PackedPixels, (self.folder, self.size, self.positions)

    def select(self, rows: Sequence[int] | NDArray[np.intp]) -> "PackedPixels":
        """Return the pixels of ``rows``, in the given order."""
        return PackedPixels(self.folder, self.size, self.positions[np.asarray(rows, dtype=np.intp)])

    def require(self, size: int) -> None:
        """Refuse to stand in for pictures at another size.

        Raises:
            DataError: the pack has another.
        """
        if size != self.size:
            raise DataError(
                f"The pack {self.folder} holds pictures at {self.size} pixels, and image.size is "
                f"{size}. Pack them at that size into another folder (cpsd data pack --image.size "
                f"{size} --out FOLDER), or leave data.pack out."
            )
