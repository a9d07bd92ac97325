"""Does a map point at the label? Maps scored against boxes: plain NumPy.

Shapes: P pairs of picture and label, h x w places of a map, S x S pixels it is enlarged to.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cpsd.data.boxes import Box

Maps = NDArray[np.float32]
Scores = NDArray[np.float64]
PIXELS = 56
"""S: pixels a side that maps are enlarged to before they are scored."""
_RESAMPLES = 2000


@dataclass(frozen=True)
class Pointing:
    """How P maps of one predictor fare against the boxes.

    Args:
        energy: ``(P,)`` share of each map's sum inside its boxes.
        hits: ``(P,)`` 1 where the map's maximum lies inside its boxes, 0 where it lies outside; a
            share where several places have the maximum.
        chance: ``(P,)`` share of the picture's area inside the boxes. A map that is the same
            everywhere has this energy, and a point chosen blindly hits as often.
    """

    energy: Scores
    hits: Scores
    chance: Scores

    @classmethod
    def joined(cls, parts: Sequence["Pointing"]) -> "Pointing":
        """Return the scores of several batches, one after another."""
        columns = ([getattr(part, field.name) for part in parts] for field in fields(cls))
        return cls(*map(np.concatenate, columns))


def score_pointing(
    maps_Phw: Maps, boxes: Sequence[Sequence[Box]], *, pixels: int = PIXELS
) -> Pointing:
    """Return the scores of maps against the boxes of their labels.

    Energy: the energy-based pointing game (Wang et al., Score-CAM, CVPR workshops 2020),
    of maps that are enlarged bilinearly, as they are shown. Hits: the pointing game (Zhang et
    al., IJCV 2018), without tolerance; the maximum of an enlarged map lies in the
    centre of one of its places. A map that is 0 everywhere has no idea and is given the chance.

    Args:
        maps_Phw: not negative.
        boxes: of each map, at least one; in shares of the picture's width and height.
        pixels: a side of the enlarged map.

    Example:
        >>> maps = np.float32([[[0, 0, 0, 0], [0, 0, 4, 0], [0, 0, 0, 0], [0, 0, 0, 0]]])
        >>> found = score_pointing(maps, [[Box(0.5, 0.0, 1.0, 0.5)]], pixels=4)
        >>> found.energy.item(), found.hits.item(), found.chance.item()
        (1.0, 1.0, 0.25)
    """
    down = enlarging(maps_Phw.shape[1], pixels)
    right = enlarging(maps_Phw.shape[2], pixels)
    energy, hits, chance = (np.empty(len(maps_Phw)) for _ in range(3))
    for p, (map_hw, own) in enumerate(zip(maps_Phw, boxes, strict=True)):
        inside_SS = _inside(own, pixels)
        chance[p] = inside_SS.mean()
        if not map_hw.any():
            energy[p] = hits[p] = chance[p]
            continue
        large_SS = down @ map_hw.astype(np.float64) @ right.T
        energy[p] = (large_SS * inside_SS).sum() / large_SS.sum()
        hits[p] = _hit(map_hw, own)
    return Pointing(energy, hits, chance)


def enlarging(places: int, pixels: int) -> NDArray[np.float64]:
    """Return the matrix ``(pixels, places)`` that enlarges one side of a map bilinearly.

    Places and pixels are areas, not points (``align_corners=False`` in torch's words).

    Example:
        >>> enlarging(2, 4).tolist()
        [[1.0, 0.0], [0.75, 0.25], [0.25, 0.75], [0.0, 1.0]]
    """
    centres = np.clip((np.arange(pixels) + 0.5) * places / pixels - 0.5, 0, places - 1)
    weights: NDArray[np.float64] = np.maximum(1 - np.abs(centres[:, None] - np.arange(places)), 0)
    return weights


def summarize(
    scores: Mapping[str, Pointing],
    company: Mapping[str, Pointing],
    pictures: NDArray[np.intp],
    columns: NDArray[np.intp],
    labels: Sequence[str],
    *,
    seed: int = 0,
) -> dict[str, Any]:
    """Return means over pairs, with 95 % intervals, and means over the pairs of each label.

    Intervals are the percentiles of 2,000 resamples of pictures with all their pairs; all
    predictors see the same resamples, so that a difference's interval is that of paired values.
    They tell of the choice of pictures, not of the chance of training.

    Args:
        scores: by predictor, over the same P pairs; the first is the one to compare to.
        company: by predictor, the same maps scored against the place of another label in the
            picture, where there is one: what a map gets that knows things from background but not
            this label from others. Any number of pairs.
        pictures: ``(P,)`` which picture each pair is of.
        columns: ``(P,)`` which label each pair is of.
        labels: the names of the labels.
        seed: of the resamples.
    """
    first, chance = next(iter(scores)), next(iter(scores.values())).chance
    resample = _Resampling.of(pictures, seed=seed)
    predictors: dict[str, dict[str, Any]] = {}
    for name, own in scores.items():
        predictors[name] = resample.means(own.energy, own.hits)
        if name != first:
            energy, hits = own.energy - scores[first].energy, own.hits - scores[first].hits
            predictors[name]["difference"] = resample.means(energy, hits)
        if len(company[name].energy):
            others = company[name]
            predictors[name]["company"] = {
                "energy": float(others.energy.mean()),
                "hit_rate": float(others.hits.mean()),
            }
    return {
        "num_pictures": len(np.unique(pictures)),
        "num_pairs": len(pictures),
        "num_company_pairs": len(company[first].energy),
        "chance": float(chance.mean()),
        "compared_to": first,
        "predictors": predictors,
        "labels": [
            _label_means(scores, columns == column, labels[column]) for column in np.unique(columns)
        ],
    }


def _label_means(
    scores: Mapping[str, Pointing], own_P: NDArray[np.bool_], label: str
) -> dict[str, Any]:
    """Return the means over the pairs of one label."""
    return {
        "label": label,
        "num_pairs": int(own_P.sum()),
        "chance": float(next(iter(scores.values())).chance[own_P].mean()),
        "energy": {name: float(pointing.energy[own_P].mean()) for name, pointing in scores.items()},
        "hit_rate": {name: float(pointing.hits[own_P].mean()) for name, pointing in scores.items()},
    }


@dataclass(frozen=True)
class _Resampling:
    """How often each picture stands in each resample, and which picture a pair is of."""

    weights: NDArray[np.float64]
    pictures: NDArray[np.intp]

    @classmethod
    def of(cls, pictures: NDArray[np.intp], *, seed: int) -> "_Resampling":
        distinct, numbered = np.unique(pictures, return_inverse=True)
        generator = np.random.default_rng(seed)
        shares = np.full(len(distinct), 1 / len(distinct))
        drawn = generator.multinomial(len(distinct), shares, size=_RESAMPLES)
        return cls(drawn.astype(np.float64), numbered)

    def means(self, energy: Scores, hits: Scores) -> dict[str, Any]:
        """Return the means over pairs, and between which values the middle 95 % of means lie."""
        means: dict[str, Any] = {}
        for key, values in (("energy", energy), ("hit_rate", hits)):
            sums, counts = np.bincount(self.pictures, values), np.bincount(self.pictures)
            resampled = (self.weights @ sums) / (self.weights @ counts)
            low, high = np.percentile(resampled, (2.5, 97.5))
            means |= {key: float(values.mean()), f"{key}_interval": [float(low), float(high)]}
        return means


def _hit(map_hw: NDArray[np.float32], boxes: Sequence[Box]) -> float:
    """Return which share of the places with the maximum have their centre inside the boxes."""
    y, x = ((np.argwhere(map_hw == map_hw.max()) + 0.5) / map_hw.shape).T
    hit = [(box.left <= x) & (x < box.right) & (box.top <= y) & (y < box.bottom) for box in boxes]
    return float(np.any(hit, axis=0).mean())


def _inside(boxes: Sequence[Box], pixels: int) -> Scores:
    """Return the share ``(S, S)`` of each pixel that lies inside any of ``boxes``."""
    edges = np.arange(pixels)
    inside_SS = np.zeros((pixels, pixels))
    for box in boxes:
        across, down = (
            np.clip(np.minimum(end * pixels, edges + 1) - np.maximum(start * pixels, edges), 0, 1)
            for start, end in ((box.left, box.right), (box.top, box.bottom))
        )
        inside_SS = np.maximum(inside_SS, np.outer(down, across))
    return inside_SS
