import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from torch import nn

from cpsd.config import ImageConfig
from cpsd.data.boxes import read_boxes
from cpsd.errors import DataError
from cpsd.explain import explanations
from cpsd.explain.explanations import write_explanations
from cpsd.explain.pointing_game import point_on
from cpsd.method import predict
from tiny import settings
from tiny_explained import COLOURS, SQUARE, ColourNetwork, write_squares

CONFIG = replace(settings(), image=ImageConfig(size=32))
BOXES = "image,label,left,top,right,bottom\n" + "".join(
    f"{number}.png,red,{','.join(map(str, SQUARE))}\n" for number in (0, 1, 2, 4)
)


def write(folder: Path, *, boxes: str | None = BOXES, last: nn.Module | None = None) -> list[str]:
    """Explain two splits of six pictures; return what was said."""
    (folder / "data").mkdir()
    records = write_squares(folder / "data", number=6)
    records = records.with_splits(["test"] * 3 + ["test-unseen"] * 2 + ["test-far"])
    if boxes is not None:
        (folder / "data" / "boxes.csv").write_text(boxes, encoding="utf-8")
    predictors: dict[str, nn.Module] = {
        "baseline": ColourNetwork(COLOURS),
        "student": last or ColourNetwork(COLOURS, stride=2),
    }
    logits = {
        split: {
            name: predict(predictor, records, records.indices(split), CONFIG)
            for name, predictor in predictors.items()
        }
        for split in records.test_splits()
    }
    said: list[str] = []
    places = (folder / "gallery", folder / "findings")
    write_explanations(*places, predictors, records, logits, CONFIG, say=said.append)
    return said


def test_splits_with_boxes_have_their_pointing_game(tmp_path: Path) -> None:
    assert write(tmp_path) == []
    files = sorted(path.name for path in (tmp_path / "findings").iterdir())
    assert files == ["pointing-test-unseen.json", "pointing-test.json"]
    for split, number in (("test", 3), ("test-unseen", 1)):
        found = json.loads((tmp_path / "findings" / f"pointing-{split}.json").read_text())
        assert (found["split"], found["num_pairs"]) == (split, number)
        assert list(found["predictors"]) == ["baseline", "student"]
        assert found["predictors"]["student"]["energy"] > 0.7
    gallery = json.loads((tmp_path / "gallery" / "gallery.json").read_text())
    assert gallery["split"] == "test"
    assert len(gallery["entries"]) == 3
    assert all(entry["boxes"] for entry in gallery["entries"] if entry["label"] == "red")


def test_without_boxes_there_is_a_gallery_alone(tmp_path: Path) -> None:
    assert write(tmp_path, boxes=None) == []
    assert not (tmp_path / "findings").exists()
    assert (tmp_path / "gallery" / "gallery.json").is_file()


def test_damaged_boxes_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"boxes\.csv, row 2"):
        write(tmp_path, boxes="image,label,left,top,right,bottom\n0.png,red,1,2,3,x\n")


class Unplaced(nn.Module):
    """A network of one place."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(3, 3)

    def forward(self, images: object) -> object:
        return self.linear(images.mean(dim=(2, 3)))  # type: ignore[attr-defined]


def test_networks_that_cannot_be_explained_end_no_run(tmp_path: Path) -> None:
    said = write(tmp_path, last=Unplaced())
    assert len(said) == 2
    assert said[0].startswith("There is no gallery: The network cannot be explained")
    assert said[1].startswith("The pointing game was left out: The network cannot be explained")
    assert not (tmp_path / "findings").exists()


def test_of_many_pictures_evenly_spread_ones_are_looked_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(explanations, "MOST_PICTURES", 2)
    records = write_squares(tmp_path, number=6)
    (tmp_path / "boxes.csv").write_text(BOXES, encoding="utf-8")
    boxes = read_boxes(records)
    rows = explanations.rows_with_boxes(records, np.arange(6), boxes)
    assert rows.tolist() == [0, 4]
    found = point_on({"baseline": ColourNetwork(COLOURS)}, records, rows, boxes, CONFIG)
    assert found["num_pictures"] == 2
