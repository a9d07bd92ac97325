"""The gallery: pictures and labels on which the predictors differ most, ready for a page.

    gallery/gallery.json       which they are, and what each predictor says
    gallery/1-picture.jpg      a small picture, and the same with the map of each predictor
    gallery/1-baseline.jpg     (teachers/co-occurrence is 1-teachers.co-occurrence.jpg)

Shapes: K predictors, N pictures, C labels, P pairs of picture and label.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch import nn

from cpsd.config import RunConfig
from cpsd.data.boxes import Box, Pair
from cpsd.data.images import read_image
from cpsd.data.records import Records
from cpsd.errors import ModelError
from cpsd.explain.maps import METHOD_NAMES, Maps, explanation_method, record_maps
from cpsd.explain.overlay import COLOURS, fitted, nothing_to_compare, overlay
from cpsd.explain.pointing import enlarging
from cpsd.explain.pointing_game import boxes_in_shares
from cpsd.files import write_json, written_whole
from cpsd.labels import ABSENT, PRESENT, UNKNOWN, Targets

GALLERY_FILE = "gallery.json"
NUMBER = 12
SIDE = 192
"""Pixels of a cell's longer side."""
_ROUNDS = 4  # of choosing candidates, of which the maps are made
_LABEL_SHARE = 4  # a label has at most one entry in so many
_GRID = 28  # places a side on which maps are compared
_QUALITY = 82  # of the JPEG files: 5 to 15 KB each


def write_gallery(
    folder: Path,
    predictors: Mapping[str, nn.Module],
    records: Records,
    rows: NDArray[np.intp],
    logits: Mapping[str, NDArray[np.float32]],
    config: RunConfig,
    *,
    split: str,
    boxes: Mapping[Pair, Sequence[Box]] | None = None,
    number: int = NUMBER,
) -> dict[str, Any]:
    """Write the gallery of a split into ``folder``; return what ``gallery.json`` holds.

    Deterministic. Which entries are chosen depends on probabilities and maps alone, not on who is
    right: it is no selection in favour of a predictor. Where a network cannot be explained, there
    is no entry but a reason: no run should fail for its gallery.

    Args:
        folder: where to; made when it is not there.
        predictors: by name, in the order to show; at least two.
        records: the data set.
        rows: N rows of the split.
        logits: ``(N, C)`` of ``rows``, for each of ``predictors``.
        config: its ``image`` and ``machine`` are read.
        split: its name.
        boxes: by picture and label, in pixels, where the data say them.
        number: of entries, at most.

    Raises:
        DataError: a picture cannot be read.
        RunError: the disk is full, or the folder cannot be written to.
    """
    probabilities_KNC = np.stack([_probabilities(logits[name]) for name in predictors])
    spread_NC = np.ptp(probabilities_KNC, axis=0)
    targets_NC = records.targets[rows]
    candidates = _candidates(spread_NC, targets_NC, number)
    pairs = [(int(rows[n]), c) for n, c in candidates]
    maps, unexplained = _maps(predictors, records, pairs, config)
    entries: list[dict[str, Any]] = []
    if maps:
        difference_P = map_difference(list(maps.values()))
        spread_P = np.array([spread_NC[pair] for pair in candidates])
        places = boxes_in_shares(records, pairs, boxes or {})
        for p in _best(spread_P + difference_P, candidates, targets_NC, number):
            n, c = candidates[p]
            probabilities = dict(zip(predictors, probabilities_KNC[:, n, c].tolist(), strict=True))
            facts = {
                "probability_spread": float(spread_P[p]),
                "map_difference": float(difference_P[p]),
                "boxes": [list(box) for box in places[p]],
            }
            own = {name: maps_Phw[p] for name, maps_Phw in maps.items()}
            entry = _entry(folder, len(entries) + 1, records, pairs[p], probabilities, own)
            entries.append({**entry, **facts})
    selection = _selection(len(entries), spread_NC.shape, split, number)
    gallery = {
        "split": split,
        **_methods(predictors),
        "predictors": list(predictors),
        "colours": COLOURS,
        "selection": selection,
        "entries": entries,
        "unexplained": unexplained,
    }
    write_json(folder / GALLERY_FILE, gallery)
    return gallery


def _maps(
    predictors: Mapping[str, nn.Module],
    records: Records,
    pairs: Sequence[tuple[int, int]],
    config: RunConfig,
) -> tuple[dict[str, Maps], str | None]:
    """Return each predictor's maps; none, and the reason, where one cannot be explained."""
    if not pairs:
        return {}, None
    try:
        return {
            name: record_maps(predictor, records, pairs, config)
            for name, predictor in predictors.items()
        }, None
    except ModelError as error:
        return {}, str(error)


def _methods(predictors: Mapping[str, nn.Module]) -> dict[str, Any]:
    """Return how the predictors are explained: together and one by one."""
    methods = {name: METHOD_NAMES[explanation_method(p)] for name, p in predictors.items()}
    distinct = set(methods.values())
    return {"method": distinct.pop() if len(distinct) == 1 else "mixed", "methods": methods}


def choose_pairs(
    spread_NC: NDArray[np.float64], targets_NC: Targets, *, number: int
) -> list[tuple[int, int]]:
    """Return the pairs of picture and label with the largest spread, the largest first.

    Each picture with one label; half of the pairs with a label that is there, half with one that is
    not; a label in a quarter of the pairs at most. Where that leaves too few, others fill up.
    Labels whose target is unknown are passed over, unless none is known.

    Args:
        spread_NC: of the predictors' probabilities.
        targets_NC: 1 present, 0 absent, -1 unknown.
        number: of pairs, at most.

    Example:
        >>> spread = np.array([[0.5, 0.9], [0.3, 0.2], [0.4, 0.1]])
        >>> choose_pairs(spread, np.array([[1, 0], [0, 1], [1, -1]], dtype=np.int8), number=2)
        [(0, 1), (2, 0)]
    """
    states = [targets_NC == PRESENT, targets_NC == ABSENT]
    if not any(is_state.any() for is_state in states):
        states = [np.ones(targets_NC.shape, dtype=bool)]
    pairs: list[tuple[int, int]] = []
    for is_state_NC in states:
        # A picture's best label of each state is enough: it has one entry.
        masked_NC = np.where(is_state_NC, spread_NC, -1.0)
        columns = masked_NC.argmax(axis=1).tolist()
        pairs += [(int(n), columns[n]) for n in np.flatnonzero(is_state_NC.any(axis=1))]
    scores = np.array([spread_NC[pair] for pair in pairs])
    return [pairs[p] for p in _best(scores, pairs, targets_NC, number)]


def _candidates(
    spread_NC: NDArray[np.float64], targets_NC: Targets, number: int
) -> list[tuple[int, int]]:
    """Return the pairs among which maps decide: `choose_pairs`, time and again.

    A picture comes once a round, with another label each time. Of few pictures one round alone
    would leave nothing to choose: one label may have the largest spread in all of them.
    """
    left_NC = targets_NC.copy()
    if not (left_NC != UNKNOWN).any():
        return choose_pairs(spread_NC, left_NC, number=_ROUNDS * number)
    pairs: list[tuple[int, int]] = []
    for _ in range(_ROUNDS):
        if (left_NC != UNKNOWN).any():
            found = choose_pairs(spread_NC, left_NC, number=number)
            pairs += found
            for pair in found:
                left_NC[pair] = UNKNOWN  # passed over from now on
    return pairs


def map_difference(maps: Sequence[Maps]) -> NDArray[np.float64]:
    """Return how far the predictors' maps are from each other, ``(P,)`` in [0, 1].

    The mean over pairs of predictors of the total variation distance: which share of one map would
    have to be moved to make it the other. An empty map counts as one that is the same everywhere.

    Args:
        maps: ``(P, h, w)`` of each of at least two predictors; grids may differ.
    """
    shares = []
    for maps_Phw in maps:
        down, across = (enlarging(places, _GRID) for places in maps_Phw.shape[1:])
        enlarged = down @ maps_Phw.astype(np.float64) @ across.T
        sums = enlarged.sum(axis=(1, 2), keepdims=True)
        even = np.full_like(enlarged, 1 / _GRID**2)
        shares.append(np.divide(enlarged, sums, out=even, where=sums > 0))
    distances = [np.abs(a - b).sum(axis=(1, 2)) / 2 for a, b in combinations(shares, 2)]
    mean: NDArray[np.float64] = np.mean(distances, axis=0)
    return mean


def _best(
    scores: NDArray[np.float64],
    pairs: Sequence[tuple[int, int]],
    targets_NC: Targets,
    number: int,
) -> list[int]:
    """Return the places in ``pairs`` of the largest scores, as ``choose_pairs`` mixes them."""
    most_of_label, most_of_state = max(number // _LABEL_SHARE, 1), -(-number // 2)
    pictures, labels, states = set[int](), Counter[int](), Counter[int]()
    chosen, passed = list[int](), list[int]()
    for place in np.argsort(-scores, kind="stable").tolist():
        n, c = pairs[place]
        if len(chosen) == number:
            break
        if n in pictures:
            continue
        if labels[c] == most_of_label or states[int(targets_NC[n, c])] == most_of_state:
            passed.append(place)
            continue
        pictures.add(n)
        labels[c] += 1
        states[int(targets_NC[n, c])] += 1
        chosen.append(place)
    for place in passed:
        if len(chosen) < number and pairs[place][0] not in pictures:
            pictures.add(pairs[place][0])
            chosen.append(place)
    return sorted(chosen, key=lambda place: -scores[place])


def _entry(
    folder: Path,
    number: int,
    records: Records,
    pair: tuple[int, int],
    probabilities: Mapping[str, float],
    maps: Mapping[str, NDArray[np.float32]],
) -> dict[str, Any]:
    """Write the cells of one entry; return what is said of it."""
    row, column = pair
    picture = fitted(read_image(records.image_path(row)), SIDE)
    own = f"{number}-picture.jpg"
    _save(picture, folder / own)
    cells = []
    for name, map_hw in maps.items():
        file = f"{number}-{name.replace('/', '.')}.jpg"
        _save(overlay(picture, map_hw), folder / file)
        cells.append(
            {
                "predictor": name,
                "probability": probabilities[name],
                "file": file,
                "nothing_to_compare": nothing_to_compare(map_hw),
            }
        )
    return {
        "image": records.paths[row],
        "label": records.labels.names[column],
        "target": int(records.targets[row, column]),
        "width": picture.width,
        "height": picture.height,
        "picture": own,
        "cells": cells,
    }


def _save(picture: Image.Image, path: Path) -> None:
    with written_whole(path) as temporary:
        picture.save(temporary, format="JPEG", quality=_QUALITY, subsampling=0)


def _selection(num_entries: int, shape: tuple[int, ...], split: str, number: int) -> str:
    num_pictures, num_labels = shape
    most = max(number // _LABEL_SHARE, 1)
    return (
        f"{num_entries} of the {num_pictures * num_labels:,} pairs of picture and label in "
        f"{split}: those on which the predictors' probabilities and maps differ most, whoever is "
        f"right. One label a picture, half of the labels there and half not, and at most {most} "
        "pictures of a label, as far as there are enough."
    )


def _probabilities(logits_NC: NDArray[np.float32]) -> NDArray[np.float64]:
    # sigmoid(z) = (1 + tanh(z / 2)) / 2, which overflows nowhere.
    probabilities: NDArray[np.float64] = (1 + np.tanh(logits_NC.astype(np.float64) / 2)) / 2
    return probabilities
