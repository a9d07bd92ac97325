import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch.nn.functional import interpolate

from cpsd.data.boxes import Box
from cpsd.explain.pointing import Pointing, enlarging, score_pointing, summarize


def chance_maps(*shape: int) -> NDArray[np.float32]:
    return np.random.default_rng(4).gamma(0.5, size=shape).astype(np.float32)


def scores_by_loop(map_hw: NDArray[np.float32], boxes: list[Box], pixels: int) -> list[float]:
    """Energy, hit and chance from the definitions, one pixel after another, in float64."""
    tensor = torch.tensor(map_hw, dtype=torch.float64)[None, None]
    large = interpolate(tensor, size=(pixels, pixels), mode="bilinear")[0, 0].tolist()
    inside_sum, total, area = 0.0, 0.0, 0.0
    for y in range(pixels):
        for x in range(pixels):
            inside = max(
                max(min(box.right * pixels, x + 1) - max(box.left * pixels, x), 0)
                * max(min(box.bottom * pixels, y + 1) - max(box.top * pixels, y), 0)
                for box in boxes
            )
            inside_sum += inside * large[y][x]
            total += large[y][x]
            area += inside
    height, width = map_hw.shape
    best = max(range(height * width), key=map_hw.ravel().__getitem__)
    x_best, y_best = (best % width + 0.5) / width, (best // width + 0.5) / height
    hit = any(b.left <= x_best < b.right and b.top <= y_best < b.bottom for b in boxes)
    return [inside_sum / total, float(hit), area / pixels**2]


@pytest.mark.parametrize("grid", [(4, 4), (7, 7), (3, 5), (1, 2), (30, 20)])
def test_scores_are_those_of_the_definitions(grid: tuple[int, int]) -> None:
    maps = chance_maps(5, *grid)
    generator = np.random.default_rng(1)
    boxes = []
    for number in (1, 1, 1, 2, 3):
        ends = np.sort(generator.random((number, 2, 2)), axis=2)
        boxes.append([Box(x[0], y[0], x[1], y[1]) for x, y in ends])
    found = score_pointing(maps, boxes, pixels=20)
    for p in range(5):
        expected = scores_by_loop(maps[p], boxes[p], 20)
        assert [found.energy[p], found.hits[p], found.chance[p]] == pytest.approx(expected)


@pytest.mark.parametrize(("places", "pixels"), [(1, 6), (4, 9), (7, 7), (9, 4)])
def test_maps_are_enlarged_as_torch_does(places: int, pixels: int) -> None:
    line = torch.tensor(chance_maps(places), dtype=torch.float64)
    expected = interpolate(line[None, None], size=pixels, mode="linear")[0, 0]
    np.testing.assert_allclose(enlarging(places, pixels) @ line.numpy(), expected, atol=1e-12)


@pytest.mark.parametrize("value", [0.0, 3.0])
def test_a_map_without_an_idea_gets_the_share_of_the_box(value: float) -> None:
    maps = np.full((1, 4, 4), value, dtype=np.float32)
    found = score_pointing(maps, [[Box(0.25, 0.5, 0.75, 1.0)]], pixels=8)
    assert [found.energy[0], found.hits[0], found.chance[0]] == pytest.approx([0.25] * 3)


def test_several_maxima_share_the_hit() -> None:
    maps = np.array([[[5, 1, 1], [1, 5, 1], [1, 5, 1]]], dtype=np.float32)
    assert score_pointing(maps, [[Box(0.0, 0.0, 1.0, 0.6)]]).hits[0] == pytest.approx(2 / 3)


def test_chance_maps_get_the_share_of_the_box_on_average() -> None:
    maps = chance_maps(4000, 4, 4)
    found = score_pointing(maps, [[Box(0.25, 0.25, 0.5, 0.75)]] * 4000, pixels=8)
    assert found.energy.mean() == pytest.approx(0.125, abs=0.01)
    assert found.hits.mean() == pytest.approx(0.125, abs=0.015)


def pointing(energy: NDArray[np.float64]) -> Pointing:
    return Pointing(energy, (energy > 0.5).astype(np.float64), np.full(len(energy), 0.2))


ALONE = {"student": pointing(np.empty(0))}


def test_means_and_labels() -> None:
    energy = np.array([0.1, 0.2, 0.6, 0.9])
    scores = {"baseline": pointing(energy), "student": pointing(energy + 0.1)}
    columns = np.array([1, 0, 1, 1])
    company = {name: pointing(energy[:3] / 2) for name in scores}
    found = summarize(scores, company, np.array([7, 7, 3, 4]), columns, ("ant", "bee"))
    assert found["num_company_pairs"] == 3
    assert found["predictors"]["student"]["company"] == pytest.approx(
        {"energy": 0.15, "hit_rate": 0.0}
    )
    assert (found["num_pictures"], found["num_pairs"]) == (3, 4)
    assert found["chance"] == pytest.approx(0.2)
    assert found["compared_to"] == "baseline"
    assert found["predictors"]["baseline"]["energy"] == pytest.approx(0.45)
    assert found["predictors"]["baseline"]["hit_rate"] == 0.5
    assert "difference" not in found["predictors"]["baseline"]
    difference = found["predictors"]["student"]["difference"]
    # The same for every picture, so no resample can tell otherwise: differences are paired.
    assert [difference["energy"], *difference["energy_interval"]] == pytest.approx([0.1] * 3)
    assert [label["label"] for label in found["labels"]] == ["ant", "bee"]
    bee = found["labels"][1]
    assert bee["num_pairs"] == 3
    assert bee["energy"] == pytest.approx({"baseline": 1.6 / 3, "student": 1.9 / 3})
    assert bee["hit_rate"] == pytest.approx({"baseline": 2 / 3, "student": 2 / 3})


def test_intervals_hold_the_truth_as_often_as_they_say() -> None:
    """Pairs of a picture are alike, so that intervals over pairs would be too narrow."""
    generator = np.random.default_rng(0)
    covered, trials, pictures = 0, 300, np.repeat(np.arange(60), 3)
    for trial in range(trials):
        energy = np.repeat(generator.normal(0.4, 0.1, 60), 3) + generator.normal(0, 0.05, 180)
        columns = np.zeros(180, dtype=np.intp)
        scores = {"student": pointing(energy)}
        found = summarize(scores, ALONE, pictures, columns, ("ant",), seed=trial)
        low, high = found["predictors"]["student"]["energy_interval"]
        covered += low <= 0.4 <= high
    assert 0.90 <= covered / trials <= 0.98


def test_intervals_depend_on_the_seed_alone() -> None:
    energy = np.random.default_rng(0).random(40)
    columns = np.zeros(40, np.intp)
    first, again, other = (
        summarize({"student": pointing(energy)}, ALONE, np.arange(40), columns, ("ant",), seed=seed)
        for seed in (1, 1, 2)
    )
    assert first == again != other
    assert "company" not in first["predictors"]["student"]
