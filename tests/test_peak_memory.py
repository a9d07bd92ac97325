import json
import subprocess
import sys
from pathlib import Path

import pytest

from cpsd.peak_memory import peak_of_gpu

MIB = 2**20
linux = pytest.mark.skipif(
    not Path("/proc/self/smaps_rollup").is_file(), reason="only Linux tells this by process"
)

HOLD_AND_LET_GO = """
import json, mmap
from cpsd.peak_memory import forget_peaks, peak_of_process

size = 64 * 2**20
forget_peaks()
seen = [peak_of_process()]
held = mmap.mmap(-1, size)
held.write(b"x" * size)
seen.append(peak_of_process())
held.close()
seen.append(peak_of_process())
forget_peaks()
seen.append(peak_of_process())
print(json.dumps(seen))
"""

FORK_A_WORKER = """
import json, mmap, multiprocessing
from cpsd.peak_memory import held_by_workers

def hold(ready, leave):
    held = mmap.mmap(-1, 48 * 2**20)
    held.write(b"x" * (48 * 2**20))
    ready.set()
    leave.wait(30)

context = multiprocessing.get_context("fork")
shared = b"x" * (512 * 2**20)
ready, leave = context.Event(), context.Event()
worker = context.Process(target=hold, args=(ready, leave))
seen = [held_by_workers()]
worker.start()
assert ready.wait(30)
seen.append(held_by_workers())
leave.set()
worker.join()
seen.append(held_by_workers())
print(json.dumps(seen))
"""


def seen_by(program: str) -> list[int]:
    """Run in a process of its own: one that ran tests before has free memory to hand out again."""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=120
    )
    numbers: list[int] = json.loads(done.stdout)
    return numbers


@linux
def test_the_peak_is_that_of_what_was_held_since_it_was_forgotten() -> None:
    before, holding, let_go, forgotten = seen_by(HOLD_AND_LET_GO)
    # The bytes are there twice: where they are written from, and where they are held.
    assert 60 * MIB <= holding - before <= 140 * MIB
    # The kernel gathers its counts now and then, so a mebibyte more or less says nothing.
    assert let_go >= holding - MIB, "a peak stays"
    assert forgotten <= holding - 32 * MIB


@linux
def test_workers_count_with_what_they_hold_for_themselves() -> None:
    before, holding, ended = seen_by(FORK_A_WORKER)
    assert before == ended == 0
    # The 512 MiB that a fork shares with its parent are counted there, and not twice.
    assert 48 * MIB <= holding <= 48 * MIB + 256 * MIB


def test_a_gpu_that_nobody_woke_has_no_peak() -> None:
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        pytest.skip("another test uses the GPU")
    assert peak_of_gpu() is None
