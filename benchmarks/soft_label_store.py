"""Reading stored soft labels: rows a second in random batches, and what opening takes."""

import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from statistics import median

import numpy as np
import torch
from harness import Row, alternate
from numpy.typing import NDArray

from cpsd.config import ImageConfig
from cpsd.files import write_json
from cpsd.training.soft_label_files import MANIFEST, ROWS, chunk_name, sha256
from cpsd.training.soft_label_writing import CHUNK_SIZE
from cpsd.training.soft_labels import SoftLabelStore

BATCH = 64
NUM_BATCHES = 300
"""Batches in a timed call, so that one takes tens of milliseconds."""


def measure(*, smoke: bool) -> list[Row]:
    """Return rows a second of a warm store as large as COCO's, and what opening it takes."""
    shape = (2, 100, 2, 5) if smoke else (8, 82_783, 2, 80)
    generator = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        logits_VNSC = random_logits(generator, shape)
        write_store(folder, logits_VNSC)
        opening = alternate({"opening": lambda: SoftLabelStore(folder)}, rounds=3 if smoke else 21)
        store = SoftLabelStore(folder)
        batches = [
            torch.from_numpy(generator.integers(shape[1], size=BATCH)) for _ in range(NUM_BATCHES)
        ]
        images = torch.empty(0)
        seconds = alternate(
            {
                "store": _reader(lambda b, v: store(images, b, view_index=v), batches, shape[0]),
                # The least that a read can be: one array in memory, indexed once.
                "array": _reader(
                    lambda b, v: torch.from_numpy(logits_VNSC[v, b.numpy()]).float(),
                    batches,
                    shape[0],
                ),
            },
            rounds=1 if smoke else 31,
        )
        unread = SoftLabelStore(folder)
        begun = time.perf_counter()
        for batch in np.array_split(np.arange(shape[1]), 100):
            unread(images, torch.from_numpy(batch), view_index=0)
        checking = time.perf_counter() - begun
    rates = {arm: BATCH * NUM_BATCHES / took for arm, took in seconds.items()}
    size = " x ".join(f"{n:,}" for n in (shape[1], shape[0], shape[2], shape[3]))
    return [
        Row(
            f"soft-label store: random batches of {BATCH} rows, {size}",
            rates["store"],
            "rows/s",
            must=">= 300000",
            bound=f"one array in memory, indexed at once: {rates['array']:,.0f} rows/s",
            of_bound=rates["store"] / rates["array"],
        ),
        Row("soft-label store: opening", 1000 * median(opening.values()), "ms", must="<= 50"),
        Row("soft-label store: reading every row once, all hashes checked", checking, "s"),
    ]


def _reader(
    read: Callable[[torch.Tensor, int], torch.Tensor],
    batches: list[torch.Tensor],
    num_views: int,
) -> Callable[[], None]:
    def reader() -> None:
        for index, batch in enumerate(batches):
            read(batch, index % num_views)

    return reader


def random_logits(
    generator: np.random.Generator, shape: tuple[int, int, int, int]
) -> NDArray[np.float16]:
    """Return random finite float16, made view by view to spare memory."""
    logits_VNSC = np.empty(shape, dtype=np.float16)
    for view in logits_VNSC:
        view[:] = generator.random(shape[1:], dtype=np.float32) * 16 - 8
    return logits_VNSC


def write_store(folder: Path, logits_VNSC: NDArray[np.float16]) -> None:
    """Write the files that ``write_soft_labels`` would, of logits that no teacher gave."""
    num_views, num_images, num_strategies, num_labels = logits_VNSC.shape
    np.save(folder / ROWS, np.arange(num_images))
    chunks = {}
    for start in range(0, num_images, CHUNK_SIZE):
        path = folder / chunk_name(start, CHUNK_SIZE)
        np.save(path, logits_VNSC[:, start : start + CHUNK_SIZE])
        chunks[path.name] = sha256(path)
    write_json(
        folder / MANIFEST,
        {
            "labels": [f"label {i}" for i in range(num_labels)],
            "strategies": [f"strategy {i}" for i in range(num_strategies)],
            "image": asdict(ImageConfig()),
            "num_views": num_views,
            "num_images": num_images,
            "pictures": "",
            "chunk_size": CHUNK_SIZE,
            "seed": 0,
            "rows": sha256(folder / ROWS),
            "chunks": chunks,
        },
    )
