import json
import os
import platform
import subprocess
import sys

import pytest

from cpsd.freed_memory import freed_memory_kept

PAGES_OF_A_BLOCK = 64 * 2**20 // 4096
# Some may have been there before.
MOST_OF_ITS_PAGES = PAGES_OF_A_BLOCK * 0.9
glibc = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc is told to")

ALLOCATE_AND_FREE = """
import json, resource
from pathlib import Path
import numpy as np
from cpsd.freed_memory import freed_memory_kept

def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

def fault_of_a_block():
    before = faults()
    np.ones(64 * 2**20, dtype=np.uint8)
    return faults() - before

def resident():
    return int(Path("/proc/self/statm").read_text().split()[1])

outside = [fault_of_a_block() for _ in range(3)]
begun = resident()
with freed_memory_kept():
    first, *others = [fault_of_a_block() for _ in range(4)]
    kept = resident() - begun
after = [fault_of_a_block() for _ in range(3)]
print(json.dumps([outside, first, others, kept, resident() - begun, after]))
"""


@glibc
def test_what_is_freed_is_taken_again_and_handed_back_at_the_end() -> None:
    done = subprocess.run(
        [sys.executable, "-c", ALLOCATE_AND_FREE],
        # Huge pages would be a fault in 512 pages.
        env=os.environ | {"NUMPY_MADVISE_HUGEPAGE": "0"},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    outside, first, others, kept, handed_back, after = json.loads(done.stdout)
    assert min(outside) >= MOST_OF_ITS_PAGES, "what Linux clears and maps anew each time"
    assert first >= MOST_OF_ITS_PAGES
    assert max(others) < PAGES_OF_A_BLOCK // 20, "the first one's pages"
    assert kept >= MOST_OF_ITS_PAGES
    assert handed_back < PAGES_OF_A_BLOCK // 4
    assert min(after) >= MOST_OF_ITS_PAGES, "as before"


def test_an_error_passes() -> None:
    with pytest.raises(ValueError, match="of the caller"), freed_memory_kept():
        raise ValueError("of the caller")
