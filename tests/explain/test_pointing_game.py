from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from cpsd.config import ImageConfig
from cpsd.data.boxes import Box
from cpsd.errors import DataError
from cpsd.explain.pointing_game import point_on
from cpsd.labels import LabelSpace
from cpsd.models.ensemble import TeacherEnsemble
from cpsd.partition import LabelPartition
from tiny import settings
from tiny_explained import COLOURS, PICTURE_SIZE, SQUARE, ColourNetwork, write_squares

CONFIG = replace(settings(), image=ImageConfig(size=32))
RED = Box(*SQUARE)
CORNER = Box(48, 0, 64, 12)


def test_a_predictor_that_looks_at_the_square_has_its_energy_there(tmp_path: Path) -> None:
    records = write_squares(tmp_path, number=9)  # more than a batch
    partition = LabelPartition("random", COLOURS, ((0, 2), (1,)))
    teachers = [ColourNetwork(partition.part_labels(part)) for part in range(2)]
    predictors = {
        "baseline": ColourNetwork(COLOURS),
        "teachers/random": TeacherEnsemble(partition, teachers),
        # It takes green for red, of which there is none: its maps are empty.
        "student": ColourNetwork(LabelSpace(("green", "red", "blue"))),
    }
    boxes = {(path, "red"): [RED] for path in records.paths}
    boxes |= {(path, "green"): [CORNER] for path in records.paths}  # not present: not asked for
    counted: list[tuple[int, int]] = []

    def count(done: int, total: int) -> None:
        counted.append((done, total))

    rows = np.arange(len(records))
    found = point_on(predictors, records, rows, boxes, CONFIG, progress=count)
    assert counted == [(7, 27), (9, 27), (16, 27), (18, 27), (25, 27), (27, 27)]
    assert (found["num_pictures"], found["num_pairs"]) == (9, 9)
    left, top, right, bottom = SQUARE
    share = (right - left) * (bottom - top) / (PICTURE_SIZE[0] * PICTURE_SIZE[1])
    assert found["chance"] == pytest.approx(share)
    for name in ("baseline", "teachers/random"):
        assert found["predictors"][name]["method"] == "Grad-CAM"
        assert found["predictors"][name]["energy"] > 0.7  # the rest is the soft border
        assert found["predictors"][name]["hit_rate"] == 1
    assert found["predictors"]["student"]["energy"] == pytest.approx(share)
    assert [label["label"] for label in found["labels"]] == ["red"]


def test_the_place_of_company_is_looked_at_too(tmp_path: Path) -> None:
    records = write_squares(tmp_path, number=4)
    # Green is said to be there as well, in a corner of two pictures.
    targets = np.array([[1, 1, 0], [1, 1, 0], [1, 0, 0], [1, 0, 0]], dtype=np.int8)
    records = replace(records, targets=targets)
    boxes = {(path, "red"): [RED] for path in records.paths}
    boxes |= {(path, "green"): [CORNER] for path in records.paths}
    network = ColourNetwork(COLOURS)
    found = point_on({"baseline": network}, records, np.arange(4), boxes, CONFIG)
    assert (found["num_pairs"], found["num_company_pairs"]) == (6, 4)
    company = found["predictors"]["baseline"]["company"]
    corner, square = 16 * 12 / (64 * 48), 16 * 24 / (64 * 48)
    # Two maps of red find nothing in the corner; two of green are empty and get the square's share.
    assert company["energy"] == pytest.approx(square / 2, abs=1e-6)
    assert company["hit_rate"] == pytest.approx(square / 2)
    greens = [label for label in found["labels"] if label["label"] == "green"]
    assert greens[0]["energy"]["baseline"] == pytest.approx(corner)


def test_only_rows_asked_for_and_places_known_count(tmp_path: Path) -> None:
    records = write_squares(tmp_path, number=5)
    boxes = {("0.png", "red"): [RED], ("3.png", "red"): [CORNER], ("4.png", "red"): [RED]}
    predictors = {"baseline": ColourNetwork(COLOURS)}
    found = point_on(predictors, records, np.array([1, 3, 0]), boxes, CONFIG)
    assert found["num_pictures"] == 2
    assert found["predictors"]["baseline"]["hit_rate"] == 0.5


def test_pictures_without_a_known_place_are_refused(tmp_path: Path) -> None:
    records = write_squares(tmp_path)
    predictors = {"baseline": ColourNetwork(COLOURS)}
    with pytest.raises(DataError, match="has a present label whose place is known"):
        point_on(predictors, records, np.arange(3), {("0.png", "blue"): [RED]}, CONFIG)
