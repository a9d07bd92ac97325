"""What tests of verbs share."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """A table with three good pictures."""
    for index, name in enumerate(("a.png", "b.png", "c.png")):
        pixels = np.random.default_rng(index).integers(0, 256, (9, 12, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / name)
    path = tmp_path / "labels.csv"
    path.write_text("image,labels,split\na.png,x; y,train\nb.png,x,validation\nc.png,y; x,test\n")
    return path
