"""A wall clock that jumps, for the processes that are forked from this one.

The one fault that is imitated: setting the machine's clock would reach everything on it, and a
time namespace shifts only the clocks that nothing sets. Import this before anything that keeps
`time.time` for itself.
"""

import mmap
import struct
import time
from datetime import datetime, timedelta, tzinfo
from typing import Any

_shown = mmap.mmap(-1, 8)  # shared with forked processes: the jump in seconds
_seconds, _nanoseconds = time.time, time.time_ns


def real_time() -> float:
    """Return the seconds since 1970 that the machine says."""
    return _seconds()


def jump(seconds: float) -> None:
    """Shift what `time.time` and its like say, here and in every process forked from this one."""
    struct.pack_into("d", _shown, 0, seconds)


def jumped() -> float:
    """Return by how many seconds the clock is wrong."""
    (seconds,) = struct.unpack_from("d", _shown, 0)
    return float(seconds)


class JumpingDatetime(datetime):
    """A datetime whose ``now`` follows the clock that jumps."""

    @classmethod
    def now(cls, tz: tzinfo | None = None) -> Any:  # noqa: ANN401 - as datetime's own
        """Return the time now, as wrong as the clock is."""
        return super().now(tz) + timedelta(seconds=jumped())


def put_in_place() -> None:
    """Have `time.time` and `time.time_ns` follow the clock that jumps."""
    replaced: dict[str, Any] = {
        "time": lambda: _seconds() + jumped(),
        "time_ns": lambda: _nanoseconds() + int(jumped() * 1e9),
    }
    vars(time).update(replaced)
