"""Print our normalized cuts beside published ones as a Markdown table.

    python benchmarks/partition_cuts.py label_graph.json

The file holds ``labels``, ``images_with_label``, ``images_with_both`` and, under ``partitions``,
for every strategy and k the published ``normalized_cut``.
"""

import argparse
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cpsd.graph import LabelGraph
from cpsd.labels import LabelSpace
from cpsd.partition import partition_labels


def table(content: dict[str, Any], *, seed: int) -> Iterator[str]:
    """Yield the lines of the table.

    Args:
        content: the file's.
        seed: of our cuts.
    """
    yield "| strategy | k | published cut | ours | difference | sizes | seconds |"
    yield "|---|--:|--:|--:|--:|---|--:|"
    graph = LabelGraph.from_counts(
        content["images_with_label"],
        content["images_with_both"],
        labels=LabelSpace(tuple(content["labels"])),
    )
    for strategy, published in content["partitions"].items():
        for k, known in published.items():
            started = time.perf_counter()
            partition = partition_labels(graph, strategy, num_parts=int(k), seed=seed)
            seconds = time.perf_counter() - started
            cut = partition.normalized_cut
            sizes = ", ".join(str(size) for size in sorted(map(len, partition.parts)))
            yield (
                f"| {strategy} | {k} | {known['normalized_cut']:.5f} | {cut:.5f} "
                f"| {cut - known['normalized_cut']:+.5f} | {sizes} | {seconds:.2f} |"
            )


def main() -> None:
    """Read the file and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("label_graph", type=Path, help="JSON file with counts and published cuts")
    parser.add_argument("--seed", type=int, default=0, help="seed of our cuts")
    arguments = parser.parse_args()
    content = json.loads(arguments.label_graph.read_text(encoding="utf-8"))
    for line in table(content, seed=arguments.seed):
        print(line, flush=True)  # noqa: T201 - the table is what the script is for


if __name__ == "__main__":
    main()
