"""What a run's evaluation leaves of explanations: a gallery, and the pointing game where it can be.

RUN/gallery/...                                 see ``cpsd.explain.gallery``
RUN/evaluation/findings/pointing-<split>.json   see ``cpsd.explain.pointing_game``
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch import nn

from cpsd.config import RunConfig
from cpsd.data.boxes import Box, Pair, read_boxes
from cpsd.data.records import Records
from cpsd.errors import ModelError
from cpsd.explain.gallery import write_gallery
from cpsd.explain.pointing_game import located_pairs, point_on
from cpsd.files import write_json

MOST_PICTURES = 1000
"""Pictures of a split that the pointing game is played on; of more, so many evenly spread ones."""


def write_explanations(
    gallery: Path,
    findings: Path,
    predictors: Mapping[str, nn.Module],
    records: Records,
    logits: Mapping[str, Mapping[str, NDArray[np.float32]]],
    config: RunConfig,
    *,
    say: Callable[[str], None] = lambda sentence: None,
) -> None:
    """Write the gallery of the first split, and the pointing game of every split with boxes.

    Args:
        gallery: folder of the gallery.
        findings: folder of ``pointing-<split>.json``.
        predictors: by name, in the order to show; the first is what others are compared to.
        records: the data set; boxes are read from beside its pictures.
        logits: by split and predictor, of the split's rows in their order.
        config: its ``image``, ``machine`` and ``seed`` are read.
        say: told why a part was left out.

    Raises:
        DataError: a picture or the file of boxes cannot be read.
        RunError: the disk is full, or a folder cannot be written to.
    """
    boxes = read_boxes(records)
    for number, (split, logits_NC) in enumerate(logits.items()):
        rows = records.indices(split)
        if number == 0:
            shown = write_gallery(
                gallery, predictors, records, rows, logits_NC, config, split=split, boxes=boxes
            )
            if shown["unexplained"] is not None:
                say(f"There is no gallery: {shown['unexplained']}")
        chosen = rows_with_boxes(records, rows, boxes)
        if len(chosen) == 0:
            continue
        try:
            scores = point_on(predictors, records, chosen, boxes, config)
        except ModelError as error:
            say(f"The pointing game was left out: {error}")
            return
        write_json(findings / f"pointing-{split}.json", {"split": split, **scores})


def rows_with_boxes(
    records: Records, rows: NDArray[np.intp], boxes: Mapping[Pair, Sequence[Box]]
) -> NDArray[np.intp]:
    """Return those of ``rows`` with a present label whose place is known, 1,000 at most."""
    located = np.array(sorted({row for row, _ in located_pairs(records, rows, boxes)}), np.intp)
    if len(located) <= MOST_PICTURES:
        return located
    return located[np.linspace(0, len(located) - 1, MOST_PICTURES).round().astype(np.intp)]
