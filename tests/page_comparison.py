"""A made-up comparison, in the format of a real one."""

import json
from pathlib import Path
from typing import Any

from cpsd.report.page.comparison import COMPARE_FILE


def interval(mean: float, half: float | None, note: str = "") -> dict[str, Any]:
    low, high = (None, None) if half is None else (mean - half, mean + half)
    return {"mean": mean, "low": low, "high": high, "num_seeds": 3, "note": note}


def row(index: int, name: str, differences: dict[str, Any]) -> dict[str, Any]:
    """Return what the file says of one arm."""
    return {
        "name": name,
        "description": f"what {name} is",
        "runs": [
            {
                "path": f"runs/{index}/{seed}",
                "seed": seed,
                "teacher_set": None,
                "learning_curve": None
                if ": " in name
                else {
                    "epochs": 24,
                    "best_epoch": 8 + seed,
                    "best": 0.5,
                    "last": 0.48,
                    "lost": 0.02,
                },
            }
            for seed in (0, 1)
        ],
        "cost": {
            "seconds": 15.0 * index,
            "images_forward": 5000,
            "images_backward": 200,
            "passes": 5400,
            "flops_forward": 3 * 10 ** (4 * index),
            "flops_backward": 6 * 10 ** (4 * index),
            "peak_memory": 10**9,
            "plain_trainings": 1.0 + index,
            "plain_trainings_by": "FLOPs" if index < 2 else "passes, for it is odd",
            "plain_trainings_by_the_clock": 1.25,
        },
        "intervals": {
            "test": {key: interval(0.4 + 0.01 * index, 0.01) for key in ("mAP", "CF1", "OF1")},
            "test-unseen": {"mAP": interval(0.2, None)},
        },
        "differences": differences,
        "average_precision": {"test": {"cat": 0.5, "</script>": 0.25 + 0.1 * index}},
    }


def _learning_curve(best_epoch: int) -> dict[str, Any]:
    return {"epochs": 24, "best_epoch": best_epoch, "best": 0.5, "last": 0.48, "lost": 0.02}


def comparison(folder: Path) -> Path:
    """Write the folder of a comparison with three arms, one of them with a hostile name."""
    note = "Conditional on one teacher set."
    content: dict[str, Any] = {
        "seeds": 3,
        "teacher_sets": 1,
        "runs_done": 5,
        "runs_planned": 6,
        "splits": ["test-unseen", "test"],
        "num_resamples": 2000,
        "threshold": 0.5,
        "rows": [
            row(0, "baseline", {}),
            row(1, "cpsd", {"baseline": {"test": {"mAP": interval(0.012, 0.008, note)}}}),
            row(2, "cpsd: teachers", {"baseline": {"test": None}}),
            row(3, "<b>arm</b>", {"baseline": {"test": {"mAP": interval(-0.004, 0.02)}}}),
        ],
        "verdicts": {
            "test": {
                "headline": "cpsd is better than baseline by 1.2 points of mAP.",
                "verdicts": [{"outcome": "better", "text": "cpsd is better (0.4 to 2.0 points)."}],
            },
            "test-unseen": {"headline": None, "verdicts": []},
        },
        "method": "Two levels.\n\nSeeds, then <images>.",
    }
    content["rows"][1]["intervals"]["test"]["mAP"]["note"] = note
    folder.mkdir(parents=True)
    (folder / COMPARE_FILE).write_text(json.dumps(content), encoding="utf-8")
    (folder / "runs" / "1" / "0").mkdir(parents=True)
    (folder / "runs" / "1" / "0" / "report.html").write_text("a page", encoding="utf-8")
    return folder
