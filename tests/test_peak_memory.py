import multiprocessing
import sys
from pathlib import Path

import numpy as np
import pytest

from cpsd.peak_memory import forget_peaks, held_by_workers, peak_of_gpu, peak_of_process

MIB = 2**20
linux = pytest.mark.skipif(
    not Path("/proc/self/smaps_rollup").is_file(), reason="only Linux tells this by process"
)


@linux
def test_the_peak_is_that_of_what_was_held_since_it_was_forgotten() -> None:
    forget_peaks()
    before = peak_of_process()
    held = np.ones(64 * MIB, dtype=np.uint8)
    after = peak_of_process()
    del held
    assert 60 * MIB <= after - before <= 90 * MIB
    # The kernel gathers its counts now and then, so a mebibyte more or less says nothing.
    assert peak_of_process() >= after - MIB, "a peak stays"
    forget_peaks()
    assert peak_of_process() <= after - 32 * MIB


def hold(
    ready: "multiprocessing.synchronize.Event", leave: "multiprocessing.synchronize.Event"
) -> None:
    held = np.ones(48 * MIB, dtype=np.uint8)
    ready.set()
    leave.wait(30)
    assert held.all()


@linux
def test_workers_count_with_what_they_hold_for_themselves() -> None:
    context = multiprocessing.get_context("fork")
    # Of this process, whoever is forked; and much more than the heap that a fork writes to.
    shared = np.ones(512 * MIB, dtype=np.uint8)
    ready, leave = context.Event(), context.Event()
    before = held_by_workers()
    worker = context.Process(target=hold, args=(ready, leave))
    worker.start()
    try:
        assert ready.wait(30)
        assert 48 * MIB <= held_by_workers() - before <= 48 * MIB + shared.nbytes // 2
    finally:
        leave.set()
        worker.join()
    assert held_by_workers() == before


def test_a_gpu_that_nobody_woke_has_no_peak() -> None:
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        pytest.skip("another test uses the GPU")
    assert peak_of_gpu() is None
