"""Memory of a data set's index: a table of a million pictures, and workers that go through it.

Measured in processes of their own, from what the imports leave behind. A worker's memory is that
which it alone has (private pages in /proc), so what it shares with its parent counts nowhere.
"""

import gc
import json
import multiprocessing
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from harness import Row

from cpsd.peak_memory import peak_of_process

NUM_PICTURES, NUM_LABELS = 1_000_000, 80
_STATUS = Path("/proc/self/smaps_rollup")


def measure(*, smoke: bool) -> list[Row]:
    """Return the memory of the index and of a worker; nothing where Linux does not tell it."""
    if not _STATUS.is_file():
        return []
    num_pictures = 2_000 if smoke else NUM_PICTURES
    with tempfile.TemporaryDirectory() as folder:
        table = Path(folder) / "labels.csv"
        _write_table(table, num_pictures)
        told = subprocess.run(
            [sys.executable, __file__, str(table)], stdout=subprocess.PIPE, check=True
        )
    found = json.loads(told.stdout)
    what = f"index of {num_pictures:,} pictures with {NUM_LABELS} labels"
    targets = num_pictures * NUM_LABELS / 1e6
    return [
        Row(
            what,
            found["index_mb"],
            "MB",
            "<= 400",
            f"targets alone: {targets:.0f} MB",
            targets / max(found["index_mb"], 1e-9),
        ),
        Row("the same while the table is read, at its peak", found["peak_mb"], "MB"),
        Row("the same, reading the table and giving splits", found["seconds"], "s"),
        Row("growth of a loader worker over an epoch", found["worker_mb"], "MB", "<= 20"),
    ]


def tell(table: Path) -> None:
    """Print as JSON what reading ``table`` and going through it takes."""
    from cpsd.config import DataConfig, ImageConfig
    from cpsd.data.picture_dataset import PictureDataset
    from cpsd.data.rows import read_strictly
    from cpsd.data.sources import duplicate_notices
    from cpsd.data.splits import assign_splits
    from cpsd.data.table import table_source

    config = DataConfig(table=str(table))
    before, peak_before = _private_mb(), peak_of_process()
    begun = time.perf_counter()
    records = read_strictly(table_source(table, config))
    duplicate_notices(records)
    records, _ = assign_splits(records, config, seed=0)
    seconds = time.perf_counter() - begun
    gc.collect()
    after = _private_mb()
    peak = peak_of_process()
    dataset = PictureDataset(records, ImageConfig(size=8), seed=0)
    order = np.random.default_rng(0).permutation(len(records))
    found = {
        "index_mb": after - before,
        "peak_mb": (peak - peak_before) / 1e6,
        "seconds": seconds,
        "worker_mb": _growth_of_a_worker(dataset, order),
    }
    sys.stdout.write(json.dumps(found))


def _growth_of_a_worker(dataset: object, order: np.ndarray) -> float:
    """Return by how many MB a forked process grows that looks up all but the pixels, row by row.

    Pictures are not decoded: their memory does not grow, and a million of them take hours.
    """
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_go_through, args=(dataset, order, sender))
    process.start()
    growth = float(receiver.recv())
    process.join()
    return growth


def _go_through(dataset, order, sender) -> None:  # noqa: ANN001 - torch is not imported above
    records = dataset.records
    # What a worker always has of its own: its first rows, and the code that it runs.
    for row in order[:1000].tolist():
        records.image_path(row)
        dataset._targets[order[row : row + 64]]
    before = _private_mb()
    for start in range(0, len(order), 64):
        rows = order[start : start + 64]
        for row in rows.tolist():
            records.image_path(row)
        dataset._targets[rows]
    sender.send(_private_mb() - before)


def _private_mb() -> float:
    """Return the memory that this process alone has."""
    fields = dict(line.split(":") for line in _STATUS.read_text().splitlines()[1:])
    kilobytes = sum(int(fields[f"Private_{kind}"].split()[0]) for kind in ("Clean", "Dirty"))
    return kilobytes * 1024 / 1e6


def _write_table(path: Path, num_pictures: int) -> None:
    """Write a table as exports of annotation tools look: long names, three labels a picture."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, NUM_LABELS, (num_pictures, 3)).tolist()
    parts = rng.choice(("train", "val", "test"), num_pictures, p=(0.8, 0.1, 0.1)).tolist()
    with path.open("w", encoding="utf-8") as file:
        file.write("image,labels,split\n")
        for i, (three, part) in enumerate(zip(labels, parts, strict=True)):
            names = "; ".join(f"label {label}" for label in sorted(set(three)))
            file.write(f"images/{i % 1000:03d}/photograph_{i:012d}.jpg,{names},{part}\n")


if __name__ == "__main__":
    tell(Path(sys.argv[1]))
