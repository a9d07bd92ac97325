"""Predictions for people and programs: a table, CSV or JSON lines."""

import csv
import io
import json
import os
import re

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from cpsd.csv_cells import as_text
from cpsd.data.records import Records

Probabilities = NDArray[np.float64]
Threshold = float | NDArray[np.float64]
"""The probability from which a label is predicted: one for all labels, or ``(C,)``."""


def show_table(
    console: Console, records: Records, probabilities_NC: Probabilities, threshold: Threshold
) -> None:
    """Print a row a picture with its labels, the most probable first."""
    reached = "that reach their own threshold"
    if np.ndim(threshold) == 0:
        reached = f"with a probability of {threshold:g} or more"
    table = Table(title=f"Labels {reached}", title_justify="left")
    table.add_column("picture", overflow="fold")
    table.add_column("labels", overflow="fold")
    for path, row in zip(records.paths, probabilities_NC, strict=True):
        order = np.argsort(-row, kind="stable")
        reaches = row >= threshold
        chosen = [f"{records.labels.names[c]} {row[c]:.2f}" for c in order if reaches[c]]
        table.add_row(escape(_readable(path)), escape(", ".join(chosen)) or "-")
    console.print(table)


def as_csv(records: Records, probabilities_NC: Probabilities, threshold: Threshold) -> str:
    """Return CSV: the picture, its labels, then a column of probabilities for each label.

    Names that a spreadsheet would take for a formula have a ``'`` before them. A file name that is
    not UTF-8 has Python's surrogate escapes, to be written byte for byte.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["image", "labels", *map(as_text, records.labels)])
    for path, row in zip(records.paths, probabilities_NC, strict=True):
        names = "; ".join(_chosen(records, row, threshold))
        writer.writerow([as_text(path), as_text(names), *_rounded(row)])
    return text.getvalue()


def as_json_lines(records: Records, probabilities_NC: Probabilities, threshold: Threshold) -> str:
    r"""Return a JSON object a line: picture, labels, probability of every label.

    JSON has no bytes: what is not UTF-8 in a file name comes as ``\udc80`` to ``\udcff``, which
    Python's ``os.fsencode`` turns back into the bytes.
    """
    lines = [
        json.dumps(
            {
                "image": path,
                "labels": _chosen(records, row, threshold),
                "probabilities": dict(zip(records.labels, _rounded(row), strict=True)),
            },
            ensure_ascii=False,
        )
        for path, row in zip(records.paths, probabilities_NC, strict=True)
    ]
    text = "\n".join(lines) + "\n"
    return re.sub("[\udc80-\udcff]", lambda escaped: f"\\u{ord(escaped[0]):04x}", text)


def _readable(path: str) -> str:
    r"""Return a file name for people: what is not UTF-8 in it as ``\xff``."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def _chosen(records: Records, row: NDArray[np.float64], threshold: Threshold) -> list[str]:
    return [records.labels.names[c] for c in np.flatnonzero(row >= threshold)]


def _rounded(row: NDArray[np.float64]) -> list[float]:
    """Return probabilities with six digits: more than any model knows, and easy to read."""
    return [float(f"{value:.6g}") for value in row]
