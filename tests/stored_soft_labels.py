"""Soft labels of tiny teachers for tiny pictures, stored, and damage to their files."""

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import nn

import tiny
from cpsd.data.records import TRAIN, Records
from cpsd.machine_config import MachineConfig
from cpsd.training.soft_label_writing import Progress, write_soft_labels

CONFIG = tiny.settings()
NUM_VIEWS = 2
NUM_CHUNKS = 4  # 24 pictures, 7 a file


def write(
    folder: Path,
    records: Records,
    ensembles: Mapping[str, nn.Module] | None = None,
    *,
    workers: int = 0,
    seed: int = CONFIG.seed,
    precision: str = "32",
    chunk: int | None = None,
    progress: Progress = lambda done, total: None,
) -> int:
    """Write soft labels of the training pictures, 7 in a file; return how many were computed."""
    return write_soft_labels(
        folder,
        tiny.teachers() if ensembles is None else ensembles,
        records,
        records.indices(TRAIN).tolist(),
        image=CONFIG.image,
        num_views=NUM_VIEWS,
        seed=seed,
        machine=MachineConfig(accelerator="cpu", workers=workers, inference_batch_size=5),
        device=torch.device("cpu"),
        precision=precision,
        chunk_size=7,
        chunk=chunk,
        progress=progress,
    )


def damage(path: Path) -> None:
    """Change one bit of a file."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
