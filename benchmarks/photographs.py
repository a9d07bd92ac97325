"""Generated photographs: JPEGs whose detail is spread over scales as a photograph's is."""

from pathlib import Path

import numpy as np
from PIL import Image

from cpsd.data.records import TRAIN, VALIDATION, Records
from cpsd.labels import LabelSpace

_OCTAVES = ((2, 1.0), (6, 0.6), (20, 0.4), (60, 0.25), (150, 0.15), (400, 0.08))
"""Cells along the longer side, and how strong they are: the power falls with the frequency."""

_QUALITY = 90
NUM_LABELS = 10


def write_photographs(folder: Path, number: int, size: tuple[int, int], *, seed: int) -> Records:
    """Write ``number`` JPEGs of ``size`` (width, height) into ``folder`` and return their records.

    Every fourth is for validation. A picture has each of ten labels with probability 0.3.
    """
    generator = np.random.default_rng(seed)
    names = [f"{i}.jpg" for i in range(number)]
    for name in names:
        _photograph(size, generator).save(folder / name, quality=_QUALITY)
    return Records(
        paths=tuple(names),
        targets=(generator.random((number, NUM_LABELS)) < 0.3).astype(np.int8),
        labels=LabelSpace(tuple(f"label {i}" for i in range(NUM_LABELS))),
        splits=tuple(VALIDATION if i % 4 == 3 else TRAIN for i in range(number)),
        root=folder,
        origins=tuple(f"generated picture {i}" for i in range(number)),
    )


def _photograph(size: tuple[int, int], generator: np.random.Generator) -> Image.Image:
    width, height = size
    light = np.full((height, width, 3), 128.0, dtype=np.float32)
    for cells, strength in _OCTAVES:
        shape = (max(2, cells * height // width), max(2, cells), 3)
        coarse = Image.fromarray(generator.integers(0, 256, shape, dtype=np.uint8))
        fine = np.asarray(coarse.resize(size, Image.Resampling.BICUBIC), dtype=np.float32)
        light += strength * 0.6 * (fine - 128)
    light += generator.normal(0, 3, (height, width, 1)).astype(np.float32)  # the sensor's noise
    return Image.fromarray(light.clip(0, 255).astype(np.uint8))
