"""How long labels take to be counted and cut: COCO's eighty, and ten thousand of a sparse graph."""

import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from harness import Row, alternate
from scipy import sparse

from cpsd.affinity import Affinity
from cpsd.graph import LabelGraph
from cpsd.labels import LabelSpace
from cpsd.partition import partition_labels
from cpsd.peak_memory import peak_of_process

STRATEGIES = ("co-occurrence", "dis-occurrence")
_COCO = Path(__file__).resolve().parents[2] / "shared" / "reference" / "coco2014_label_graph.json"
_LARGE = (10_000, 62_000, 20)
"""Labels, pictures and parts; the pictures have 5 million pairs of labels."""
_LARGE_SMOKE = (200, 600, 3)


def measure(*, smoke: bool) -> list[Row]:
    """Return seconds of both cuts of a small graph, and seconds and memory of those of a large."""
    few = _few_labels()
    starts = 2 if smoke else 16
    arms = {
        strategy: lambda strategy=strategy: partition_labels(few, strategy, seed=0, starts=starts)
        for strategy in STRATEGIES
    }
    seconds = alternate(arms, 1 if smoke else 5)
    rows = [
        Row(f"{strategy} partition, {len(few.labels)} labels, k = 5", value, "s", "<= 0.5")
        for strategy, value in seconds.items()
    ]
    sizes = _LARGE_SMOKE if smoke else _LARGE
    # In a process of its own: its peak is then that of the cuts.
    told = subprocess.run(
        [sys.executable, __file__, *map(str, sizes)], stdout=subprocess.PIPE, check=True
    )
    found = json.loads(told.stdout)
    what = f"{sizes[0]:,} labels, {found['pairs'] / 1e6:.1f} million pairs, k = {sizes[2]}"
    product = f"{found['products']} products with the links: {found['product_seconds']:.1f} s"
    return [
        *rows,
        Row(
            f"both partitions, {what}",
            found["seconds"],
            "s",
            "<= 60",
            product,
            found["product_seconds"] / found["seconds"],
        ),
        Row(f"peak memory of these, {what}", found["peak_mb"], "MB", "<= 3000"),
        Row(f"counting them from sparse targets, {what}", found["counting_seconds"], "s"),
    ]


def cut_many_labels(num_labels: int, num_images: int, num_parts: int) -> None:
    """Cut made-up labels by both strategies and print seconds, pairs and peak memory as JSON."""
    targets = sparse_targets(num_labels, num_images, seed=0)
    begun = time.perf_counter()
    graph = LabelGraph.from_targets(targets, LabelSpace(tuple(map(str, range(num_labels)))))
    counted = time.perf_counter()
    products, product = 0, Affinity.__matmul__

    def counting_product(affinity: Affinity, columns: np.ndarray) -> np.ndarray:
        nonlocal products
        products += (columns.size // num_labels) if len(affinity) == num_labels else 0
        return product(affinity, columns)

    Affinity.__matmul__ = counting_product  # type: ignore[method-assign]
    for strategy in STRATEGIES:
        partition_labels(graph, strategy, num_parts=num_parts, seed=0)
    cut = time.perf_counter()
    links = graph.images_with_both.astype(np.float64)
    vector = np.ones(num_labels)
    once = time.perf_counter()
    for _ in range(10):
        links @ vector
    single = (time.perf_counter() - once) / 10
    found = {
        "seconds": cut - counted,
        "counting_seconds": counted - begun,
        "pairs": (graph.images_with_both.nnz - num_labels) // 2,
        "peak_mb": peak_of_process() / 1e6,
        "products": products,
        "product_seconds": products * single,
    }
    sys.stdout.write(json.dumps(found))


def sparse_targets(num_labels: int, num_images: int, *, seed: int) -> sparse.csr_array:
    """Return made-up targets: contexts with labels of their own, common and rare, and strays."""
    rng = np.random.default_rng(seed)
    contexts, of_context, strays = 40, 14, 4
    context = rng.integers(0, contexts, num_images)
    likely = np.arange(1, num_labels // contexts + 1) ** -0.5
    own = rng.choice(len(likely), (num_images, of_context), p=likely / likely.sum())
    columns = np.hstack(
        [own * contexts + context[:, None], rng.integers(0, num_labels, (num_images, strays))]
    )
    places = np.repeat(np.arange(num_images), columns.shape[1]), columns.ravel()
    targets = sparse.csr_array(
        (np.ones(columns.size, np.int8), places), shape=(num_images, num_labels)
    )
    targets.sum_duplicates()
    targets.data[:] = 1
    return targets


def _few_labels() -> LabelGraph:
    """Return COCO's published label graph, or one of made-up contexts where that is not here."""
    if _COCO.is_file():
        content = json.loads(_COCO.read_text(encoding="utf-8"))
        return LabelGraph.from_counts(
            content["images_with_label"],
            content["images_with_both"],
            labels=LabelSpace(tuple(content["labels"])),
        )
    return LabelGraph.from_targets(
        sparse_targets(80, 20_000, seed=0), LabelSpace(tuple(map(str, range(80))))
    )


if __name__ == "__main__":
    cut_many_labels(*map(int, sys.argv[1:]))
