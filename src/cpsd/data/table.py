"""Tables: a CSV, TSV or JSON Lines file with a row a picture.

CSV and TSV have a header. A CSV file whose header has semicolons and no comma has semicolons
between its cells, as spreadsheets write it where the comma is the decimal mark; a cell of several
labels then stands in quotes. Labels stand by name in one column, or in one column a label::

    image,labels,split                    image,cat,dog,split
    a.jpg,cat; dog,train                  a.jpg,1,1,train
    b.jpg,,test                           b.jpg,0,0,test
    c.jpg,cat; ?dog,train                 c.jpg,1,?,train

By name, what is not named is absent; unknown is a name after ``?``, a name in the column
``unknown``, and every label that is not named where ``?`` stands alone or ``unknown`` is ``*``.
In a column a label, 1, true, yes and present mean present, 0, false, no and absent mean absent;
-1, ``?``, unknown and an empty cell mean unknown.

JSON Lines have an object a line: ``{"image": ..., "labels": [names]}`` reads like labels by name,
``"labels": {"cat": 1, "dog": 0}`` (1, 0, -1, null, true, false) like a column a label, so a label
that the object leaves out is unknown; ``"labels": null`` knows nothing. ``split`` and ``unknown``
are optional.
"""

import csv
from collections.abc import Iterator, Sequence
from pathlib import Path

from cpsd.config import DataConfig
from cpsd.data.cells import by_name, lines, split_names, with_path, wrong_case
from cpsd.data.json_lines import json_rows
from cpsd.data.records import Records
from cpsd.data.rows import Fault, Row, Source, read_label_list, read_strictly
from cpsd.errors import DataError, did_you_mean

DELIMITERS = {".csv": ",", ".tsv": "\t", ".tab": "\t"}
JSON_LINES = frozenset({".jsonl", ".ndjson"})

_MARKS = {",": "comma", ";": "semicolon", "\t": "tab"}
_PRESENT = frozenset({"1", "1.0", "true", "yes", "present"})
_ABSENT = frozenset({"0", "0.0", "false", "no", "absent"})
_UNKNOWN = frozenset({"-1", "-1.0", "?", "unknown", ""})


def read_table(path: str | Path, config: DataConfig) -> Records:
    """Return the records of a CSV, TSV or JSON Lines file; splits stay as they are written.

    Raises:
        DataError: the file cannot be read, has no rows or not the columns it needs, or something
            is wrong with a row.
    """
    return read_strictly(table_source(path, config), read_label_list(config.label_list))


def table_source(path: str | Path, config: DataConfig) -> Source:
    """Return a table as a source of rows; only its header is read now.

    Raises:
        DataError: no such file, not a kind of table, no header, or a header that does not do.
    """
    path = Path(path)
    root = Path(config.root) if config.root is not None else path.parent
    if path.is_dir():
        raise DataError(f"{path} is a folder; name the CSV, TSV or JSONL file that lists pictures.")
    if not path.is_file():
        raise DataError(f"There is no table {path}; check the path.")
    suffix = path.suffix.lower()
    if suffix in JSON_LINES:
        return Source(str(path), root, json_rows(path, config))
    if suffix not in DELIMITERS:
        known = ", ".join([*DELIMITERS, *sorted(JSON_LINES)])
        raise DataError(f"{path} ends in '{path.suffix}'; a table ends in one of {known}.")
    return _csv_source(path, config, root=root)


def _cells(path: Path, faults: list[Fault]) -> Iterator[tuple[int, list[str]]]:
    """Yield (row number, stripped cells) of every row with cells; the header is row 1."""
    reader = csv.reader(
        lines(path, faults),
        delimiter=_delimiter(path),
        skipinitialspace=True,
        strict=True,
    )
    number = 0
    while True:
        number += 1
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            # After an open quote nothing says where the next row starts: the rest is lost.
            faults.append(
                Fault("row", f"cannot be read ({error}); nothing after it was, see its quotes.")
            )
            yield number, []
            return
        if faults or any(cells):
            yield number, [cell.strip() for cell in cells]


def _delimiter(path: Path) -> str:
    delimiter = DELIMITERS[path.suffix.lower()]
    header = next(lines(path, []), "")
    return ";" if delimiter == "," and "," not in header and ";" in header else delimiter


def _csv_source(path: Path, config: DataConfig, *, root: Path) -> Source:
    header = _header(path, config)
    special = (config.image_column, config.split_column, config.unknown_column)
    if config.labels_column in header:
        names: tuple[str, ...] = ()
        unused = [c for c in header if c not in (*special, config.labels_column)]
    else:
        names, unused = tuple(c for c in header if c not in special), []
        if not names:
            raise DataError(
                f"{path} has no column '{config.labels_column}' and no column a label; its "
                f"columns are {_quoted(header)}. Name the one with labels by data.labels_column."
            )
    notices = (f"Columns of {path} that are not used: {', '.join(unused)}.",) if unused else ()
    return Source(str(path), root, _csv_rows(path, config, header, names), names, notices)


def _header(path: Path, config: DataConfig) -> list[str]:
    faults: list[Fault] = []
    _, header = next(_cells(path, faults), (0, []))
    if faults:
        raise DataError(f"{path}: {faults[0].detail}")
    if not header:
        raise DataError(f"{path} is empty; it needs a header, with '{config.image_column}' in it.")
    misnamed = wrong_case(header, config)
    if misnamed:
        raise DataError(f"{path} has {misnamed}")
    if config.image_column not in header:
        alone = len(header) == 1 and any(mark in header[0] for mark in ",;\t|")
        near = did_you_mean(config.image_column, header)
        raise DataError(
            f"{path} has no column '{config.image_column}'; its columns are {_quoted(header)}."
            + near
            + (" Put commas between the cells (tabs in a .tsv file)." if alone else "")
            + ("" if alone or near else " Name the one with pictures by data.image_column.")
        )
    doubled = next((c for i, c in enumerate(header) if c in header[:i]), None)
    if doubled is not None:
        raise DataError(f"{path} has the column '{doubled}' twice; rename or remove one.")
    if "" in header:
        raise DataError(f"{path}: column {header.index('') + 1} has no name; give it one.")
    return header


def _quoted(names: Sequence[str]) -> str:
    shown = ", ".join(f"'{name}'" for name in names[:10])
    return shown if len(names) <= 10 else f"{shown} and {len(names) - 10} more"


def _csv_rows(
    path: Path, config: DataConfig, header: list[str], names: tuple[str, ...]
) -> Iterator[Row]:
    at = {column: i for i, column in enumerate(header)}
    label_columns = [(name, at[name]) for name in names]
    faults: list[Fault] = []
    rows = _cells(path, faults)
    next(rows)
    has_rows = False
    for number, cells in rows:
        has_rows = True
        origin = f"{path.name}, row {number}"
        if len(cells) != len(header) and not faults:
            faults.append(
                Fault(
                    "row",
                    f"has {len(cells)} cells where the header has {len(header)}; put quotes round "
                    f"a cell with a {_MARKS[_delimiter(path)]} in it.",
                )
            )
        if faults:
            yield Row("", origin, faults=tuple(faults))
            faults.clear()
            continue
        unknown = cells[at[config.unknown_column]] if config.unknown_column in at else ""
        split = cells[at[config.split_column]] if config.split_column in at else ""
        row = Row(cells[at[config.image_column]], origin, split)
        if names:
            row = _by_column(row, cells, label_columns)
            row = by_name(row, row.present, [*row.unknown, *split_names(unknown, config)])
            row = _without_other_labels(row, at, names)
        else:
            labels = cells[at[config.labels_column]]
            row = by_name(row, split_names(labels, config), split_names(unknown, config))
        yield with_path(row)
    if not has_rows:
        raise DataError(f"{path} has a header but no rows; add a row for each picture.")


def _by_column(row: Row, cells: list[str], columns: Sequence[tuple[str, int]]) -> Row:
    present: list[str] = []
    unknown: list[str] = []
    faults = list(row.faults)
    for name, i in columns:
        cell = cells[i]
        if cell == "0":
            continue
        value = cell.lower()
        if value in _PRESENT:
            present.append(name)
        elif value in _UNKNOWN:
            unknown.append(name)
        elif value not in _ABSENT:
            detail = (
                f"has '{cell}' in the column '{name}', which is none of 1, 0, -1, true, false, "
                "yes, no, present, absent, ? and empty. If the column holds labels by name, set "
                f"data.labels_column to '{name}'; if it is no label, remove it."
            )
            faults.append(Fault("row", detail))
    return row._replace(present=present, unknown=unknown, faults=tuple(faults))


def _without_other_labels(row: Row, at: dict[str, int], names: tuple[str, ...]) -> Row:
    """Return the row with a fault for every name in its column of unknowns that has no column."""
    other = [name for name in row.unknown if name not in at]
    if not other:
        return row
    faults = [
        Fault("label", f"there is no column for the label '{name}'.{did_you_mean(name, names)}")
        for name in other
    ]
    known = [name for name in row.unknown if name in at]
    return row._replace(unknown=known, faults=(*row.faults, *faults))
