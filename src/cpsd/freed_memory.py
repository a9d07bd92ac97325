"""Memory that is freed while something computes on a CPU: kept for what comes next.

The C library hands large blocks back to Linux as soon as they are freed, and activations of a
network are large blocks, freed and wanted again at every step. Each time Linux has to find, clear
and map their pages anew, which takes up to half of a step (docs/performance.md).
"""

import ctypes
import sys
from collections.abc import Iterator
from contextlib import contextmanager

# Of malloc.h.
_TRIM_THRESHOLD = -1
_MMAP_THRESHOLD = -3
_NEVER = -1
_MIB = 2**20


@contextmanager
def freed_memory_kept() -> Iterator[None]:
    """Have the process keep the memory that is freed meanwhile, and hand it back at the end.

    With glibc; other C libraries go on as they do. A block of a gibibyte or more is still handed
    back at once. At the end the limits are those that glibc itself comes to as large blocks are
    freed.
    """
    glibc = _glibc()
    if glibc is None:
        yield
        return
    glibc.mallopt(_MMAP_THRESHOLD, 1024 * _MIB)
    glibc.mallopt(_TRIM_THRESHOLD, _NEVER)
    try:
        yield
    finally:
        glibc.mallopt(_MMAP_THRESHOLD, 32 * _MIB)
        glibc.mallopt(_TRIM_THRESHOLD, 64 * _MIB)
        glibc.malloc_trim(0)


def hand_back_freed_memory() -> None:
    """Hand back now what has been kept, before a process is forked.

    A forked process has its parent's pages for its own as soon as the parent writes to them, those
    of freed blocks too: it would hold all that is kept a second time, for as long as it lives.
    """
    glibc = _glibc()
    if glibc is not None:
        glibc.malloc_trim(0)


def _glibc() -> ctypes.CDLL | None:
    """Return the C library of this process, if it is glibc."""
    if sys.platform != "linux":
        return None
    library = ctypes.CDLL(None)
    return library if hasattr(library, "gnu_get_libc_version") else None
