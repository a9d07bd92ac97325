"""Print how long the metrics of many resamples of the test images take, as a Markdown table.

    python benchmarks/bootstrap.py --images 40000 --labels 80 --resamples 2000

Made-up targets with 2.9 labels an image, rare labels and frequent ones, as in COCO. One predictor.
"""

import argparse
import resource
import time

import numpy as np

from cpsd.evaluation.metrics import average_precision, mean_average_precision
from cpsd.evaluation.resampling import draw_image_weights, resampled_metrics


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--images", type=int, default=40_000)
    parser.add_argument("--labels", type=int, default=80)
    parser.add_argument("--resamples", type=int, default=2000)
    arguments = parser.parse_args()
    shape = (arguments.images, arguments.labels)
    rng = np.random.default_rng(0)
    share_C = rng.pareto(1.5, arguments.labels) + 0.1
    share_C = np.minimum(2.9 * share_C / share_C.sum(), 0.5)
    targets_NC = (rng.random(shape) < share_C).astype(np.int8)
    logits_NC = (rng.standard_normal(shape) + 3 * targets_NC - 3).astype(np.float32)

    started = time.perf_counter()
    weights_NR = draw_image_weights(arguments.images, arguments.resamples, seed=0)
    drawn = time.perf_counter()
    found = resampled_metrics(logits_NC, targets_NC, weights_NR)
    done = time.perf_counter()

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    low, high = np.quantile(found.mAP, (0.025, 0.975))
    point = mean_average_precision(average_precision(logits_NC, targets_NC))
    lines = (
        "| images x labels | resamples | drawing | metrics | peak memory | mAP (resamples' 95 %) |",
        "|---|--:|--:|--:|--:|---|",
        f"| {shape[0]} x {shape[1]} | {arguments.resamples} | {drawn - started:.1f} s "
        f"| {done - drawn:.1f} s | {peak:.1f} GiB | {point:.4f} ({low:.4f} to {high:.4f}) |",
    )
    print("\n".join(lines))  # noqa: T201 - the table is what the script is for


if __name__ == "__main__":
    main()
