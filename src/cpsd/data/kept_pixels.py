"""Decoded pictures of small data sets, kept in memory from epoch to epoch and stage to stage.

Memory is taken where all pictures of a data set fit into a share of the machine's. It is shared
with the processes that load: what one has decoded, none decodes again, and none has a copy. Kept
pixels are those that decoding would give, so nothing depends on whether there are any.
"""

import mmap
import os
from pathlib import Path
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from cpsd.data.records import Records

Pixels = NDArray[np.uint8]

_CONTROL_GROUP_LIMITS = (
    Path("/sys/fs/cgroup/memory.max"),
    Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"),
)


class KeptPixels:
    """A place for the pixels ``(S, S, 3)`` of each of N pictures, empty at first.

    Args:
        num_images: N.
        size: S.

    Raises:
        OSError: there is not so much memory.
    """

    def __init__(self, num_images: int, size: int) -> None:
        # An anonymous map is shared with forked processes and takes memory only where it is
        # written; unlike torch's shared tensors it needs no room in /dev/shm, which containers
        # often have little of.
        pixels = mmap.mmap(-1, num_images * size * size * 3)
        self._pixels = np.frombuffer(pixels, dtype=np.uint8).reshape(num_images, size, size, 3)
        self._is_there = np.frombuffer(mmap.mmap(-1, num_images), dtype=np.bool_)

    def get(self, row: int) -> Pixels | None:
        """Return the pixels of a picture, not to be written to; None where nobody kept them."""
        return self._pixels[row] if self._is_there[row] else None

    def keep(self, row: int, pixels: Pixels) -> None:
        """Keep a picture's pixels. Two processes that do so at once write the same bytes."""
        self._pixels[row] = pixels
        self._is_there[row] = True


# Here and not in the records, which are values; a data set that nobody has any more frees its own.
_kept: WeakKeyDictionary[Records, dict[int, KeptPixels]] = WeakKeyDictionary()


def kept_pixels(records: Records, size: int, *, memory_share: float) -> KeptPixels | None:
    """Return what is kept of ``records`` at ``size``; None where not all of them would fit.

    Every caller in this process that has the same records gets the same memory.

    Args:
        records: the data set.
        size: S.
        memory_share: most of the machine's memory that one data set may take at one size.
    """
    by_size = _kept.setdefault(records, {})
    if size in by_size:
        return by_size[size]
    needed = len(records) * size * size * 3
    if not 0 < needed <= memory_share * machine_memory():
        return None
    try:
        kept = KeptPixels(len(records), size)
    except OSError:
        return None
    by_size[size] = kept
    return kept


def hand_over(records: Records, successor: Records) -> None:
    """Let ``successor``, the same pictures in other splits, have what is kept of ``records``."""
    if records in _kept:
        _kept[successor] = _kept[records]


def machine_memory() -> int:
    """Return the bytes of memory that this process may use, 0 where the system does not say."""
    try:
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):
        return 0
    for path in _CONTROL_GROUP_LIMITS:
        try:
            memory = min(memory, int(path.read_text()))
        except (OSError, ValueError):  # no such group, or "max": no limit
            continue
    return memory
