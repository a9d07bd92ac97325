import csv
import io
import json
import os
from dataclasses import replace
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


def test_a_file_name_that_is_not_utf8_comes_out_of_every_format() -> None:
    name = b"a\xffb.png"
    paths = (os.fsdecode(name), "ü.png")
    records = replace(RECORDS, paths=paths, origins=paths)
    text = as_csv(records, PROBABILITIES, 0.5)
    assert name in text.encode(errors="surrogateescape")  # as standard output writes it
    lines = as_json_lines(records, PROBABILITIES, 0.5).encode().splitlines()  # nothing to escape
    assert rb"a\udcffb.png" in lines[0]
    assert os.fsencode(json.loads(lines[0])["image"]) == name
    console = Console(file=io.StringIO(), width=120, color_system=None)
    with console.capture() as capture:
        show_table(console, records, PROBABILITIES, 0.5)
    assert r"a\xffb.png" in capture.get()
    assert "ü.png" in capture.get()


def test_a_table_of_predictions_cuts_nothing_off() -> None:
    labels = LabelSpace(tuple(f"{c * 30}{i}" for i, c in enumerate("xyz")))
    path = "folder/" * 12 + "picture.jpg"
    records = replace(RECORDS, paths=(path, path), labels=labels)
    console = Console(file=io.StringIO(), width=40, color_system=None, legacy_windows=False)
    with console.capture() as capture:
        show_table(console, records, np.ones((2, 3)), 0.5)
    assert "…" not in capture.get()
    cells = [line.split("│")[1:3] for line in capture.get().splitlines() if "│" in line]
    assert "".join(picture.strip() for picture, _ in cells) == 2 * path
    words = "".join(labels.strip() for _, labels in cells)
    assert all(words.count(name) == 2 for name in labels)


def test_the_table_names_the_most_probable_first() -> None:
    console = Console(file=io.StringIO(), width=120, color_system=None)
    with console.capture() as capture:
        show_table(console, RECORDS, PROBABILITIES, 0.5)
    text = capture.get()
    assert "dog 0.90, cat 0.50" in text
    assert "tram" not in text
    odd = next(line for line in text.splitlines() if "[name]" in line)
    assert odd.replace("│", " ").split()[-1] == "-"


def test_each_label_may_have_its_own_threshold() -> None:
    thresholds = np.array([0.6, 0.9, 0.4])
    rows = list(csv.DictReader(io.StringIO(as_csv(RECORDS, PROBABILITIES, thresholds))))
    assert [row["labels"] for row in rows] == ["dog; tram, red", ""]
    lines = as_json_lines(RECORDS, PROBABILITIES, thresholds).splitlines()
    assert json.loads(lines[0])["labels"] == ["dog", "tram, red"]
    console = Console(file=io.StringIO(), width=120)
    show_table(console, RECORDS, PROBABILITIES, thresholds)
    assert isinstance(console.file, io.StringIO)
    text = console.file.getvalue()
    assert "Labels that reach their own threshold" in text
    assert "dog 0.90, tram, red 0.50" in text
    assert "cat" not in text
