"""Networks whose maps are known, and pictures with a red square at a known place."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from cpsd.data.records import Records
from cpsd.labels import LabelSpace

COLOURS = LabelSpace(("red", "green", "blue"))
SQUARE = (8, 16, 24, 40)  # left, top, right, bottom, of 64 x 48 pixels
PICTURE_SIZE = (64, 48)


class ColourNetwork(nn.Module):
    """Each label's logit is the mean of its colour over the picture, seen by a strided filter.

    Its Grad-CAM is known: the share of the colour in each cell of ``stride`` pixels.
    """

    def __init__(self, labels: LabelSpace, *, stride: int = 4) -> None:
        super().__init__()
        self.colours = nn.Conv2d(3, 3, stride, stride=stride, bias=False)
        self.linear = nn.Linear(3, len(labels), bias=False)
        with torch.no_grad():
            self.colours.weight.zero_()
            self.linear.weight.zero_()
            for colour, name in enumerate(COLOURS):
                # Of white and grey nothing is left: the other two colours are taken away.
                self.colours.weight[colour] = -0.5 / stride**2
                self.colours.weight[colour, colour] = 1 / stride**2
                if name in labels:
                    self.linear.weight[labels.index(name), colour] = 1.0

    def forward(self, images: Tensor) -> Tensor:
        seen: Tensor = torch.relu(self.colours(images))
        logits: Tensor = self.linear(seen.mean(dim=(2, 3)))
        return logits


def write_squares(folder: Path, *, number: int = 3) -> Records:
    """Write grey pictures, each with a red square at ``SQUARE``."""
    left, top, right, bottom = SQUARE
    pixels = np.full((PICTURE_SIZE[1], PICTURE_SIZE[0], 3), 128, dtype=np.uint8)
    pixels[top:bottom, left:right] = (255, 0, 0)
    names = [f"{i}.png" for i in range(number)]
    for name in names:
        Image.fromarray(pixels).save(folder / name)
    return Records(
        paths=tuple(names),
        targets=np.array([[1, 0, -1]] * number, dtype=np.int8),
        labels=COLOURS,
        splits=("test",) * number,
        root=folder,
        origins=tuple(f"labels.csv, row {i + 2}" for i in range(number)),
    )
