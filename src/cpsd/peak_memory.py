"""The most memory that this process and its loader workers have held, and a GPU's for it."""

import os
import resource
import sys
from contextlib import suppress
from pathlib import Path

_STATUS = Path("/proc/self/status")
_PRIVATE = ("Private_Clean:", "Private_Dirty:")


def forget_peaks() -> None:
    """Begin to look for the peak anew, where the system can do that (Linux, CUDA)."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    # Without torch loaded, or CUDA awake, nothing of a GPU's is in use; neither is woken for this.
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        torch.cuda.reset_peak_memory_stats()


def peak_of_process() -> int:
    """Return the most bytes that this process has held since ``forget_peaks``, or ever."""
    with suppress(OSError):
        kibibytes = _kibibytes(_STATUS.read_text(encoding="ascii"), ("VmHWM:",))
        if kibibytes:
            return kibibytes * 1024
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def peak_of_gpu() -> int | None:
    """Return the most bytes of tensors on the GPU since ``forget_peaks``; None without CUDA."""
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_initialized():
        return None
    return int(torch.cuda.max_memory_allocated())


def held_by_workers() -> int:
    """Return the bytes that child processes hold for themselves now; 0 where nobody can tell.

    What they share with this process, as forked ones do, is counted with this process.
    """
    kibibytes = 0
    # A child may end at any moment.
    for task in _listed(Path(f"/proc/{os.getpid()}/task")):
        with suppress(OSError):
            for child in (task / "children").read_text(encoding="ascii").split():
                with suppress(OSError):
                    smaps = Path(f"/proc/{child}/smaps_rollup").read_text(encoding="ascii")
                    kibibytes += _kibibytes(smaps, _PRIVATE)
    return kibibytes * 1024


def _kibibytes(text: str, keys: tuple[str, ...]) -> int:
    """Return the sum of the lines ``key  NUMBER kB``."""
    return sum(int(line.split()[1]) for line in text.splitlines() if line.startswith(keys))


def _listed(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except OSError:
        return []
