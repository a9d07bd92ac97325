"""A table of a million rows through the data check, the look before training, and an epoch.

    python benchmarks/million_rows.py                          # minutes, a gigabyte of links
    python benchmarks/million_rows.py --smoke                  # seconds, for crashes
    python benchmarks/million_rows.py --rows 10000000 --only read

Rows name distinct files that are links to a few hundred tiny pictures, none of which is in two
splits. The model is a stub, so that what is measured is what the number of rows brings.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

SIZE, NUM_LABELS = 8, 80
SPLITS = {"train": 0.8, "val": 0.1, "test": 0.1}
PICTURES = 100  # of a split; a file may have 65,000 names on ext4
STEPS = ("read", "check", "load", "epoch")


def write_data(folder: Path, num_rows: int, *, pictures: bool) -> Path:
    """Write the table and, where they are wanted, its pictures."""
    rng = np.random.default_rng(0)
    sources: dict[str, list[Path]] = {}
    for split in SPLITS:
        sources[split] = []
        for i in range(PICTURES):
            path = folder / f"{split}-{i}.png"
            pixels = rng.integers(0, 256, (SIZE, SIZE, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(path)
            sources[split].append(path)
    table = folder / "labels.csv"
    splits = rng.choice(list(SPLITS), num_rows, p=list(SPLITS.values())).tolist()
    labels = rng.integers(0, NUM_LABELS, (num_rows, 3)).tolist()
    with table.open("w", encoding="utf-8") as file:
        file.write("image,labels,split\n")
        for row, (split, three) in enumerate(zip(splits, labels, strict=True)):
            name = f"images/{row // 1000:05d}/{row:08d}.png"
            file.write(f"{name},{'; '.join(f'label {c}' for c in sorted(set(three)))},{split}\n")
            if pictures:
                if row % 1000 == 0:
                    (folder / name).parent.mkdir(parents=True)
                os.link(sources[split][row % PICTURES], folder / name)
    return table


def tell(table: Path, step: str, memory: Path) -> None:
    """Do a step in this process and print as JSON what it took."""
    from cpsd.config import DataConfig
    from cpsd.peak_memory import peak_of_process

    config, found = DataConfig(table=str(table)), {}
    if step == "read":
        from cpsd.data.rows import read_strictly
        from cpsd.data.table import table_source

        begun = _now()
        found["rows"] = len(read_strictly(table_source(table, config)))
    elif step == "check":
        from cpsd.data.check import check_data

        begun = _now()
        report = check_data(config, seed=0)
        found |= {"rows": report.num_rows, "problems": len(report.problems)}
    else:
        begun = _now()
        found |= _load_or_train(config, memory, train=step == "epoch")
    seconds, processor = (after - before for after, before in zip(_now(), begun, strict=True))
    peak = peak_of_process()
    found |= {"seconds": seconds, "processor": processor, "peak_mb": peak / 1e6}
    sys.stdout.write(json.dumps(found))


def _load_or_train(config, memory: Path, *, train: bool) -> dict[str, object]:  # noqa: ANN001
    import torch

    import cpsd
    from cpsd.data.bad_pictures import PictureCheck
    from cpsd.data.picture_dataset import keeping_decoder

    check = PictureCheck(keeping_decoder(SIZE, memory_share=0.2), memory=memory)
    records, _ = cpsd.load_records(config, seed=0, check=check)
    if not train:
        return {"rows": len(records)}
    settings = cpsd.RunConfig(
        image=cpsd.ImageConfig(size=SIZE, randaugment=False),
        training=cpsd.TrainingConfig(epochs=1, batch_size=1024),
        machine=cpsd.MachineConfig(workers=1, accelerator="cpu", inference_batch_size=4096),
    )
    stub = torch.nn.Sequential(
        torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(), torch.nn.Linear(3, NUM_LABELS)
    )
    begun = time.perf_counter()
    cpsd.fit(stub, records, settings)
    return {"rows": len(records), "epoch_seconds": time.perf_counter() - begun}


def _now() -> tuple[float, float]:
    usage = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return time.perf_counter(), sum(one.ru_utime + one.ru_stime for one in usage)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure each step in a process of its own and print what it took."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--only", choices=STEPS, action="append", help="one step; may be repeated")
    parser.add_argument("--smoke", action="store_true", help="few rows, for crashes")
    asked = parser.parse_args(arguments)
    steps = asked.only or STEPS
    with tempfile.TemporaryDirectory() as place:
        folder, num_rows = Path(place), 2_000 if asked.smoke else asked.rows
        begun = time.perf_counter()
        table = write_data(folder, num_rows, pictures=tuple(steps) != ("read",))
        _say(f"data written in {time.perf_counter() - begun:.0f} s")
        for step in steps:
            told = subprocess.run(
                [sys.executable, __file__, "--tell", str(table), step, str(folder / "known.npz")],
                stdout=subprocess.PIPE,
                check=True,
            )
            _say(f"{step}: {told.stdout.decode()}")
    return 0


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    if sys.argv[1:2] == ["--tell"]:
        tell(Path(sys.argv[2]), sys.argv[3], Path(sys.argv[4]))
        sys.exit(0)
    sys.exit(main())
