"""A strategy's teachers on one pass over the pictures, or one after another: by the clock.

Five teachers and one epoch, on one core, through ``cpsd.fit`` as a run does it; start-up of the
trainings is not counted. Decoded pictures are not kept, as in data sets larger than memory.
"""

import tempfile
import time
from pathlib import Path
from statistics import median

import timm
import torch
from harness import Row
from photographs import NUM_LABELS, write_photographs
from torch import nn

from cpsd.config import ImageConfig, RunConfig, TrainingConfig
from cpsd.data.picture_dataset import PictureDataset
from cpsd.data.records import Records
from cpsd.machine_config import MachineConfig
from cpsd.method import fit
from cpsd.models.ensemble import TeacherEnsemble
from cpsd.partition import LabelPartition

NUM_TEACHERS = 5


def measure(*, smoke: bool) -> list[Row]:
    """Return seconds together / one after another, where decoding matters and where it does not."""
    if smoke:
        return [_row("tiny JPEGs", (40, 30), 32, "lcnet_035", number=8, rounds=1, must=None)]
    return [
        _row("640 x 480 JPEGs", (640, 480), 448, "lcnet_035", number=32, rounds=3, must="<= 0.75"),
        _row("12 megapixels", (4000, 3000), 448, "lcnet_035", number=12, rounds=3, must="<= 0.75"),
        _row("640 x 480 JPEGs", (640, 480), 224, "resnet18", number=32, rounds=3, must="<= 1.0"),
    ]


def _row(
    what: str,
    picture_size: tuple[int, int],
    size: int,
    backbone: str,
    *,
    number: int,
    rounds: int,
    must: str | None,
) -> Row:
    labels_a_part = NUM_LABELS // NUM_TEACHERS
    parts = tuple(
        tuple(range(start, start + labels_a_part)) for start in range(0, NUM_LABELS, labels_a_part)
    )
    config = RunConfig(
        image=ImageConfig(size=size),
        training=TrainingConfig(epochs=1, batch_size=8),
        machine=MachineConfig(workers=0, threads=1, picture_memory=0.0),
    )
    with tempfile.TemporaryDirectory() as name:
        records = write_photographs(Path(name), number, picture_size, seed=2)
        partition = LabelPartition("co-occurrence", records.labels, parts)

        def teachers() -> list[nn.Module]:
            torch.manual_seed(0)
            return [timm.create_model(backbone, num_classes=labels_a_part) for _ in parts]

        def together() -> float:
            ensemble = TeacherEnsemble(partition, teachers())
            return fit(ensemble, records, config).cost.seconds

        def after_another() -> float:
            return sum(
                fit(teacher, records, config, part=part).cost.seconds
                for teacher, part in zip(teachers(), parts, strict=True)
            )

        with torch.random.fork_rng(devices=[]):
            seconds = [(together(), after_another()) for _ in range(rounds)]
            decoding = _loading_seconds(records, config)
    one, five = (median(column) for column in zip(*seconds, strict=True))
    # What cannot be saved is what five networks compute; only loading is done once and not five
    # times.
    bound = max(0.0, (five - (NUM_TEACHERS - 1) * decoding) / five)
    return Row(
        f"teachers together / one after another ({what} -> {size} px, {backbone})",
        one / five,
        "x",
        must=must,
        bound=f"loading once: {bound:.2f} x",
        of_bound=bound * five / one,
    )


def _loading_seconds(records: Records, config: RunConfig) -> float:
    """Return what loading each picture once takes."""
    pictures = PictureDataset(records, config.image, seed=0)
    keys = [(row, 0) for row in range(len(records))]
    took = []
    for _ in range(3):
        begun = time.perf_counter()
        pictures.__getitems__(keys)
        took.append(time.perf_counter() - begun)
    return median(took)
