import csv
import io
import json
from pathlib import Path

import numpy as np
from rich.console import Console

from cpsd.data.records import Records
from cpsd.labels import LabelSpace
from cpsd.report.predicted import as_csv, as_json_lines, show_table

PATHS = ("a.png", "odd, [name] ü.png")
RECORDS = Records(
    paths=PATHS,
    targets=np.full((2, 3), -1, dtype=np.int8),
    labels=LabelSpace(("cat", "dog", "tram, red")),
    splits=("", ""),
    root=Path(),
    origins=PATHS,
)
PROBABILITIES = np.array([[0.5, 0.9, 0.49999], [0.1, 0.123456789, 1e-9]])


def test_csv_has_labels_and_every_probability() -> None:
    rows = list(csv.reader(io.StringIO(as_csv(RECORDS, PROBABILITIES, 0.5))))
    assert rows == [
        ["image", "labels", "cat", "dog", "tram, red"],
        ["a.png", "cat; dog", "0.5", "0.9", "0.49999"],
        ["odd, [name] ü.png", "", "0.1", "0.123457", "1e-09"],
    ]


def test_json_lines_have_an_object_a_picture() -> None:
    lines = as_json_lines(RECORDS, PROBABILITIES, 0.1).splitlines()
    assert [json.loads(line) for line in lines] == [
        {
            "image": "a.png",
            "labels": ["cat", "dog", "tram, red"],
            "probabilities": {"cat": 0.5, "dog": 0.9, "tram, red": 0.49999},
        },
        {
            "image": "odd, [name] ü.png",
            "labels": ["cat", "dog"],
            "probabilities": {"cat": 0.1, "dog": 0.123457, "tram, red": 1e-9},
        },
    ]
    assert "ü" in lines[1]


def test_the_table_names_the_most_probable_first() -> None:
    console = Console(file=io.StringIO(), width=120, color_system=None)
    with console.capture() as capture:
        show_table(console, RECORDS, PROBABILITIES, 0.5)
    text = capture.get()
    assert "dog 0.90, cat 0.50" in text
    assert "tram" not in text
    odd = next(line for line in text.splitlines() if "[name]" in line)
    assert odd.replace("│", " ").split()[-1] == "-"
