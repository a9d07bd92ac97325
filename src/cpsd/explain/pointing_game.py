"""The pointing game on a split: do predictors look at the labels whose place is known?"""

from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from cpsd.config import RunConfig
from cpsd.data.boxes import Box, Pair
from cpsd.data.images import read_image
from cpsd.data.records import Records
from cpsd.errors import DataError
from cpsd.explain.maps import METHOD_NAMES, explanation_method, record_maps
from cpsd.explain.pointing import Pointing, score_pointing, summarize
from cpsd.labels import PRESENT
from cpsd.training.soft_label_writing import Progress


def point_on(
    predictors: Mapping[str, nn.Module],
    records: Records,
    rows: NDArray[np.intp],
    boxes: Mapping[Pair, Sequence[Box]],
    config: RunConfig,
    *,
    progress: Progress = lambda done, total: None,
) -> dict[str, Any]:
    """Return how well the predictors point at the present labels whose place is known.

    Args:
        predictors: by name, each over the labels of ``records``; at least one. The others are
            compared to the first.
        records: the data set.
        rows: of the pictures to look at; those without such a label are passed over.
        boxes: by picture and label, in pixels, as ``read_boxes`` gives them.
        config: its ``image``, ``machine`` and ``seed`` are read.
        progress: told how many pictures of how many are done, each once a predictor.

    Returns:
        What ``summarize`` returns, and the method of each predictor's maps.

    Raises:
        DataError: no present label of these pictures has a box, or a picture cannot be read.
        ModelError: a predictor cannot be explained, or memory ran out.
    """
    pairs = located_pairs(records, rows, boxes)
    if not pairs:
        raise DataError("None of the pictures has a present label whose place is known.")
    places = boxes_in_shares(records, pairs, boxes)
    with_company, others = company_of(pairs)
    num_pictures = len({row for row, _ in pairs})
    scores, company = dict[str, Pointing](), dict[str, Pointing]()
    for number, (name, predictor) in enumerate(predictors.items()):

        def count(done: int, total: int, before: int = number * num_pictures) -> None:
            progress(before + done, len(predictors) * total)

        maps_Phw = record_maps(predictor, records, pairs, config, progress=count)
        scores[name] = score_pointing(maps_Phw, places)
        company[name] = score_pointing(maps_Phw[with_company], [places[p] for p in others])
    pictures, columns = np.array(pairs, dtype=np.intp).T
    summary = summarize(scores, company, pictures, columns, records.labels.names, seed=config.seed)
    for name, predictor in predictors.items():
        method = METHOD_NAMES[explanation_method(predictor)]
        summary["predictors"][name] = {"method": method, **summary["predictors"][name]}
    return summary


def located_pairs(
    records: Records, rows: NDArray[np.intp], boxes: Mapping[Pair, Sequence[Box]]
) -> list[tuple[int, int]]:
    """Return the rows and columns of present labels whose place is known, in the order of rows."""
    names = records.labels.names
    return [
        (row, column)
        for row in rows.tolist()
        for column in np.flatnonzero(records.targets[row] == PRESENT).tolist()
        if (records.paths[row], names[column]) in boxes
    ]


def company_of(pairs: Sequence[tuple[int, int]]) -> tuple[list[int], list[int]]:
    """Return which pairs share their picture with another, and for each of them the next such.

    Args:
        pairs: rows and columns, those of a row one after another.

    Example:
        >>> company_of([(3, 0), (3, 5), (3, 7), (4, 1), (6, 0), (6, 2)])
        ([0, 1, 2, 4, 5], [1, 2, 0, 5, 4])
    """
    of_row: dict[int, list[int]] = {}
    for place, (row, _) in enumerate(pairs):
        of_row.setdefault(row, []).append(place)
    shared = [places for places in of_row.values() if len(places) > 1]
    following = [[*places[1:], places[0]] for places in shared]
    return list(chain.from_iterable(shared)), list(chain.from_iterable(following))


def boxes_in_shares(
    records: Records, pairs: Sequence[tuple[int, int]], boxes: Mapping[Pair, Sequence[Box]]
) -> list[list[Box]]:
    """Return the boxes of each pair of row and column, in shares of the picture's sides.

    Raises:
        DataError: a picture cannot be read.
    """
    sizes: dict[int, tuple[int, int]] = {}
    places = []
    for row, column in pairs:
        own = boxes.get((records.paths[row], records.labels.names[column]), ())
        if own and row not in sizes:
            sizes[row] = read_image(records.image_path(row)).size
        places.append([box.as_shares(*sizes[row]) for box in own])
    return places
