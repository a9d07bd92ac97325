"""JSON Lines: a table with an object a line; see `cpsd.data.table` for what may stand in it."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cpsd.config import DataConfig
from cpsd.data.cells import by_name, lines, split_names, with_path, wrong_case
from cpsd.data.rows import Fault, Row
from cpsd.errors import DataError
from cpsd.labels import ABSENT, PRESENT, UNKNOWN


def json_rows(path: Path, config: DataConfig) -> Iterator[Row]:
    """Yield the rows of a JSON Lines file.

    Raises:
        DataError: the file cannot be read, or has no line.
    """
    faults: list[Fault] = []
    has_rows = False
    for number, line in enumerate(lines(path, faults), start=1):
        if not line.strip():
            continue
        has_rows = True
        origin = f"{path.name}, row {number}"
        if faults:
            yield Row("", origin, faults=tuple(faults))
            faults.clear()
            continue
        try:
            entry = json.loads(line)
            if "\\u" in line:
                # Half a surrogate pair is JSON, but no name of a file or label.
                json.dumps(entry, ensure_ascii=False).encode()
        except (ValueError, RecursionError) as error:
            yield Row("", origin, faults=(Fault("row", f"is not JSON ({error})."),))
            continue
        yield _json_row(entry, origin, config)
    if not has_rows:
        raise DataError(f"{path} is empty; it needs an object a line, one for each picture.")


def _json_row(entry: object, origin: str, config: DataConfig) -> Row:
    if not isinstance(entry, dict):
        found = type(entry).__name__
        return Row("", origin, faults=(Fault("row", f"is a {found}, not an object."),))
    misnamed = wrong_case(list(entry), config)
    if misnamed:
        return Row("", origin, faults=(Fault("row", f"has {misnamed}"),))
    image, split = entry.get(config.image_column), entry.get(config.split_column)
    row = Row(
        path=image.strip() if isinstance(image, str) else "",
        origin=origin,
        split=split.strip() if isinstance(split, str) else "",
    )
    try:
        if split is not None and not isinstance(split, str):
            raise DataError(f"has {split!r} for '{config.split_column}', which is not a name.")
        unknown = _json_names(entry.get(config.unknown_column) or [], config)
        row = _json_labels(row, entry, unknown, config)
    except DataError as error:
        row = row._replace(faults=(Fault("row", str(error)),))
    return with_path(row)


def _json_names(value: object, config: DataConfig) -> list[str]:
    if isinstance(value, str):
        return split_names(value, config)
    if isinstance(value, list) and all(isinstance(name, str) for name in value):
        return [name.strip() for name in value if name.strip()]
    raise DataError(f"has {value!r} where a list of label names is expected.")


def _json_labels(row: Row, entry: dict[str, Any], unknown: list[str], config: DataConfig) -> Row:
    if config.labels_column not in entry:
        raise DataError(
            f"has no '{config.labels_column}'; write [] for a picture without labels "
            "and null where nothing is known."
        )
    labels = entry[config.labels_column]
    if labels is None:
        return row._replace(others=UNKNOWN)
    if not isinstance(labels, dict):
        return by_name(row, _json_names(labels, config), unknown)
    by_value: dict[int, list[str]] = {PRESENT: [], ABSENT: [], UNKNOWN: []}
    for name, value in labels.items():
        target = UNKNOWN if value is None else value
        if not isinstance(target, int) or target not in by_value:
            raise DataError(f"has {value!r} for the label '{name}'; it may be 1, 0, -1 or null.")
        if not name.strip():
            raise DataError("has a label without a name.")
        by_value[target].append(name.strip())
    return by_name(
        row._replace(absent=by_value[ABSENT], others=UNKNOWN),
        by_value[PRESENT],
        [*by_value[UNKNOWN], *unknown],
    )
