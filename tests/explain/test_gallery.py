import json
from collections import Counter
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import nn

from cpsd.config import ImageConfig
from cpsd.data.boxes import Box
from cpsd.data.records import Records
from cpsd.explain.gallery import choose_pairs, map_difference, write_gallery
from cpsd.explain.maps import record_maps
from cpsd.explain.overlay import fitted, nothing_to_compare, overlay
from cpsd.method import predict
from tiny import LABELS, network, settings, teachers
from tiny_explained import COLOURS, SQUARE, ColourNetwork, write_squares

CONFIG = replace(settings(), image=ImageConfig(size=16))
NAMES = ("baseline", "teachers/co-occurrence", "teachers/dis-occurrence", "student")
Logits = dict[str, NDArray[np.float32]]


def predictors() -> dict[str, nn.Module]:
    ensembles = {f"teachers/{strategy}": ensemble for strategy, ensemble in teachers().items()}
    return {"baseline": network(seed=1), **ensembles, "student": network(seed=2)}


def logits_of(networks: dict[str, nn.Module], records: Records, rows: NDArray[np.intp]) -> Logits:
    return {name: predict(net, records, rows, CONFIG) for name, net in networks.items()}


def write(folder: Path, records: Records, **changes: Any) -> dict[str, Any]:
    rows, networks = records.indices("train"), predictors()
    logits = logits_of(networks, records, rows)
    return write_gallery(
        folder, networks, records, rows, logits, CONFIG, split="train", **{"number": 4, **changes}
    )


def test_the_gallery_holds_what_it_says(records: Records, tmp_path: Path) -> None:
    gallery = write(tmp_path, records)
    assert gallery == json.loads((tmp_path / "gallery.json").read_text(encoding="utf-8"))
    assert gallery["predictors"] == list(NAMES)
    assert (gallery["split"], gallery["method"], gallery["colours"]) == (
        "train", "Grad-CAM", "inferno"
    )  # fmt: skip
    assert gallery["methods"] == dict.fromkeys(NAMES, "Grad-CAM")
    assert "4 of the 96 pairs of picture and label in train" in gallery["selection"]
    assert len(gallery["entries"]) == 4
    files = {"gallery.json"}
    for number, entry in enumerate(gallery["entries"], start=1):
        own = [entry["picture"], *(cell["file"] for cell in entry["cells"])]
        assert own[0] == f"{number}-picture.jpg"
        assert own[2] == f"{number}-teachers.co-occurrence.jpg"
        for file in own:
            with Image.open(tmp_path / file) as cell:
                assert (cell.format, cell.size) == ("JPEG", (entry["width"], entry["height"]))
            assert (tmp_path / file).stat().st_size < 60_000
        files |= set(own)
        row = records.paths.index(entry["image"])
        assert entry["target"] == records.targets[row, LABELS.index(entry["label"])]
        assert entry["boxes"] == []
    assert {path.name for path in tmp_path.iterdir()} == files


def test_entries_say_what_predictors_say(records: Records, tmp_path: Path) -> None:
    gallery, networks = write(tmp_path, records), predictors()
    for entry in gallery["entries"]:
        pair = (records.paths.index(entry["image"]), LABELS.index(entry["label"]))
        assert [cell["predictor"] for cell in entry["cells"]] == list(NAMES)
        found = [cell["probability"] for cell in entry["cells"]]
        logits = logits_of(networks, records, np.array(pair[:1]))
        assert found == pytest.approx(
            [float(torch.sigmoid(torch.tensor(logits[n][0, pair[1]]))) for n in NAMES], abs=1e-6
        )
        assert entry["probability_spread"] == pytest.approx(max(found) - min(found))
        maps = [record_maps(networks[n], records, [pair], CONFIG) for n in NAMES]
        assert entry["map_difference"] == pytest.approx(float(map_difference(maps)[0]), abs=1e-5)
        picture = fitted(Image.open(records.image_path(pair[0])).convert("RGB"), 192)
        for cell, map_1hw in zip(entry["cells"], maps, strict=True):
            assert cell["nothing_to_compare"] == nothing_to_compare(map_1hw[0])
            expected = np.asarray(overlay(picture, map_1hw[0])).astype(int)
            with Image.open(tmp_path / cell["file"]) as shown:
                assert np.abs(np.asarray(shown) - expected).mean() < 4  # JPEG


def test_the_same_gallery_is_written_again(records: Records, tmp_path: Path) -> None:
    contents = []
    for name in ("first", "second"):
        write(tmp_path / name, records)
        contents.append({p.name: p.read_bytes() for p in (tmp_path / name).iterdir()})
    assert contents[0] == contents[1]


def test_the_first_entries_differ_most_and_none_has_a_picture_twice(
    records: Records, tmp_path: Path
) -> None:
    entries = write(tmp_path, records, number=8)["entries"]
    merits = [entry["probability_spread"] + entry["map_difference"] for entry in entries]
    assert merits == sorted(merits, reverse=True)
    assert len({entry["image"] for entry in entries}) == 8
    assert 2 <= sum(entry["target"] for entry in entries) <= 6


def test_places_that_are_known_are_told(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    records = write_squares(tmp_path / "data")
    networks: dict[str, nn.Module] = {
        "baseline": ColourNetwork(COLOURS),
        "student": ColourNetwork(COLOURS, stride=2),
    }
    rows = np.arange(3)
    logits = logits_of(networks, records, rows)
    logits["student"] = logits["student"] + np.array([2, 0, 0], dtype=np.float32)
    boxes = {(path, "red"): [Box(*SQUARE)] for path in records.paths}
    gallery = write_gallery(
        tmp_path / "gallery", networks, records, rows, logits, CONFIG, split="test", boxes=boxes
    )
    assert [entry["label"] for entry in gallery["entries"]] == ["red"] * 3
    left, top, right, bottom = SQUARE
    expected = [left / 64, top / 48, right / 64, bottom / 48]
    for entry in gallery["entries"]:
        assert entry["boxes"] == [pytest.approx(expected)]
        assert (entry["width"], entry["height"]) == (192, 144)


def test_one_label_does_not_fill_the_gallery_of_few_pictures(
    records: Records, tmp_path: Path
) -> None:
    rows, networks = records.indices("train")[:13], predictors()
    logits = logits_of(networks, records, rows)
    # In every picture without it the predictors differ most about one label.
    rarest = int(records.targets[rows].sum(axis=0).argmin())
    logits["student"][:, rarest] += 9
    gallery = write_gallery(
        tmp_path, networks, records, rows, logits, CONFIG, split="train", number=12
    )
    entries = gallery["entries"]
    assert "half of the labels there and half not, and at most 3 pictures" in gallery["selection"]
    assert len({entry["image"] for entry in entries}) == 12
    assert max(Counter(entry["label"] for entry in entries).values()) == 3
    assert sum(entry["target"] for entry in entries) == 6


def test_a_gallery_of_nothing_is_empty(records: Records, tmp_path: Path) -> None:
    gallery = write(tmp_path, records, number=0)
    assert gallery["entries"] == []
    assert gallery["unexplained"] is None
    assert [path.name for path in tmp_path.iterdir()] == ["gallery.json"]


class Perceptron(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(3, len(LABELS))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.linear(images.mean(dim=(2, 3)))
        return logits


def test_a_network_without_a_map_leaves_a_reason_instead(records: Records, tmp_path: Path) -> None:
    networks: dict[str, nn.Module] = {"baseline": network(), "student": Perceptron()}
    rows = np.arange(4)
    logits = logits_of(networks, records, rows)
    gallery = write_gallery(tmp_path, networks, records, rows, logits, CONFIG, split="train")
    assert gallery["entries"] == []
    assert "no convolutional feature map" in gallery["unexplained"]
    assert [path.name for path in tmp_path.iterdir()] == ["gallery.json"]


def test_pairs_with_the_largest_spread_are_chosen() -> None:
    generator = np.random.default_rng(5)
    spread = generator.random((200, 10))
    targets = generator.integers(-1, 2, (200, 10)).astype(np.int8)
    chosen = choose_pairs(spread, targets, number=20)
    assert len(chosen) == 20
    assert [spread[pair] for pair in chosen] == sorted((spread[p] for p in chosen), reverse=True)
    states = [int(targets[pair]) for pair in chosen]
    assert (states.count(1), states.count(0)) == (10, 10)
    assert len({n for n, _ in chosen}) == 20
    assert max(sum(c == label for _, c in chosen) for label in range(10)) <= 5
    # Whatever was left out is smaller than what was taken of its state, or shut out by a rule.
    for state in (1, 0):
        least = min(spread[pair] for pair in chosen if targets[pair] == state)
        for n, c in np.argwhere((targets == state) & (spread > least)).tolist():
            picture_taken = any(n == other for other, _ in chosen)
            label_full = sum(c == other for _, other in chosen) == 5
            assert (n, c) in chosen or picture_taken or label_full


def test_too_few_labels_or_states_are_filled_up() -> None:
    spread = np.arange(12.0).reshape(6, 2) / 12
    absent = np.zeros((6, 2), dtype=np.int8)
    assert len(choose_pairs(spread, absent, number=5)) == 5
    assert choose_pairs(spread, absent, number=9) == [(n, 1) for n in (5, 4, 3, 2, 1, 0)]
    unknown = np.full((6, 2), -1, dtype=np.int8)
    assert choose_pairs(spread, unknown, number=2)[0] == (5, 1)


def chance_maps(seed: int) -> NDArray[np.float32]:
    return np.random.default_rng(seed).gamma(0.5, size=(2, 28, 28)).astype(np.float32)


def test_map_difference_is_the_mean_total_variation_distance() -> None:
    maps = [chance_maps(seed) for seed in range(3)]
    for p in range(2):
        shares = [m[p].astype(np.float64) / m[p].astype(np.float64).sum() for m in maps]
        distances = [
            sum(max(x - y, 0.0) for x, y in zip(a.ravel(), b.ravel(), strict=True))
            for a, b in combinations(shares, 2)
        ]
        assert map_difference(maps)[p] == pytest.approx(sum(distances) / 3)


def test_equal_maps_do_not_differ_and_those_apart_do_wholly() -> None:
    left, right = np.zeros((2, 1, 4, 4), dtype=np.float32)
    left[0, :, 0] = 3.0
    right[0, :, 3] = 1.0
    empty, even = np.zeros_like(left), np.ones_like(left)
    assert map_difference([left, 7 * left])[0] == pytest.approx(0, abs=1e-12)
    assert map_difference([left, right])[0] == pytest.approx(1)
    assert map_difference([empty, even])[0] == pytest.approx(0, abs=1e-12)
    coarse = np.ones((1, 2, 3), dtype=np.float32)
    assert map_difference([coarse, even])[0] == pytest.approx(0, abs=1e-12)
