"""What a run's manifest says about the machine, the software and the data."""

import os
import platform
from collections import Counter
from importlib.metadata import version
from typing import Any

import numpy as np
import torch

from cpsd.config import RunConfig
from cpsd.data.records import SKIPPED, Records

PACKAGES = ("cpsd", "lightning", "numpy", "scikit-learn", "timm", "torch", "torchvision")


def run_facts(config: RunConfig, records: Records, notices: list[str]) -> dict[str, Any]:
    """Return versions, seed, data and hardware, as the manifest holds them."""
    splits, counts = np.unique(np.array(records.splits, dtype=object), return_counts=True)
    return {
        "format_version": 1,
        "versions": {"python": platform.python_version(), **{p: version(p) for p in PACKAGES}},
        "seed": config.seed,
        "data": {
            "fingerprint": records.fingerprint(),
            "labels": len(records.labels),
            "pictures": {
                split: count
                for split, count in zip(splits.tolist(), counts.tolist(), strict=True)
                if split != SKIPPED
            },
            "notices": notices,
            **({"skipped": _skipped(records)} if records.skipped else {}),
        },
        "hardware": {
            "platform": platform.platform(),
            "processor": platform.processor() or platform.machine(),
            "cores": os.cpu_count(),
            "torch_threads": torch.get_num_threads(),
            "accelerators": [
                torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())
            ],
        },
    }


def _skipped(records: Records) -> dict[str, Any]:
    """Return how many pictures of which split were left out, and each with what is wrong."""
    rows = sorted(records.skipped)
    told = [
        {
            "picture": records.paths[row],
            "row": records.origins[row],
            **records.skipped[row]._asdict(),
        }
        for row in rows
    ]
    return {"counts": dict(Counter(entry["split"] for entry in told)), "pictures": told}
