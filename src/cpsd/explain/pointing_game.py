"""The pointing game on a split: do predictors look at the labels whose place is known?"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from cpsd.config import RunConfig
from cpsd.data.boxes import Box, Pair
from cpsd.data.images import read_image
from cpsd.data.records import Records
from cpsd.errors import DataError
from cpsd.explain.maps import (
    METHOD_NAMES,
    Pairs,
    as_pictures,
    batches,
    explanation_method,
    pair_maps,
)
from cpsd.explain.pointing import Pointing, score_pointing, summarize
from cpsd.labels import PRESENT
from cpsd.method import computing_threads, device_of
from cpsd.training.soft_labels import Progress


@dataclass(frozen=True)
class _Located:
    """Pictures with present labels whose place is known."""

    columns: dict[int, list[int]]
    """Row of the records -> columns of those labels."""
    boxes: dict[int, list[list[Box]]]
    """Row -> boxes of each of them, in shares of the picture."""

    def pairs(self, rows: Sequence[int], images: Tensor) -> Pairs:
        """Return the pairs of the pictures ``rows``, loaded as ``images``."""
        counts = [len(self.columns[row]) for row in rows]
        return Pairs(
            images,
            tuple(np.repeat(np.arange(len(rows)), counts).tolist()),
            tuple(chain.from_iterable(self.columns[row] for row in rows)),
        )


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
        progress: told how many pictures of how many are done.

    Returns:
        What ``summarize`` returns, and the method of each predictor's maps.

    Raises:
        DataError: no present label of these pictures has a box, or a picture cannot be read.
        ModelError: a predictor cannot be explained, or memory ran out.
    """
    located = _located(records, rows, boxes)
    parts: dict[str, list[Pointing]] = {name: [] for name in predictors}
    device, size = device_of(config), config.machine.inference_batch_size
    for predictor in predictors.values():
        predictor.to(device)
    with computing_threads(config):
        done = 0
        for batch in batches(records, list(located.columns), config):
            pairs = located.pairs(batch.rows.tolist(), as_pictures(batch.images, device))
            own = list(chain.from_iterable(located.boxes[row] for row in batch.rows.tolist()))
            for name, predictor in predictors.items():
                maps_Phw = pair_maps(predictor, pairs, batch_size=size)
                parts[name].append(score_pointing(maps_Phw, own))
            done += len(batch.rows)
            progress(done, len(located.columns))
    scores = {name: Pointing.joined(own_parts) for name, own_parts in parts.items()}
    counts = [len(columns) for columns in located.columns.values()]
    pictures = np.repeat(np.array(list(located.columns)), counts)
    columns = np.array(list(chain.from_iterable(located.columns.values())))
    summary = summarize(scores, pictures, columns, records.labels.names, seed=config.seed)
    for name, predictor in predictors.items():
        method = METHOD_NAMES[explanation_method(predictor)]
        summary["predictors"][name] = {"method": method, **summary["predictors"][name]}
    return summary


def _located(
    records: Records, rows: NDArray[np.intp], boxes: Mapping[Pair, Sequence[Box]]
) -> _Located:
    """Return what of ``rows`` has a box."""
    names, located = records.labels.names, _Located({}, {})
    for row in rows.tolist():
        path = records.paths[row]
        present = np.flatnonzero(records.targets[row] == PRESENT).tolist()
        columns = [column for column in present if (path, names[column]) in boxes]
        if columns:
            width, height = read_image(records.image_path(row)).size
            located.columns[row] = columns
            located.boxes[row] = [
                [box.as_shares(width, height) for box in boxes[path, names[column]]]
                for column in columns
            ]
    if not located.columns:
        raise DataError("None of the pictures has a present label whose place is known.")
    return located
