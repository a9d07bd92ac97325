"""What all kinds of table share: lines, names in a cell, and what they say of labels."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from cpsd.addresses import local_place
from cpsd.config import DataConfig
from cpsd.data.rows import Fault, Row
from cpsd.errors import AddressError, DataError
from cpsd.labels import UNKNOWN


def lines(path: Path, faults: list[Fault]) -> Iterator[str]:
    """Yield the lines of a UTF-8 file; what is not UTF-8 is put into ``faults`` as it is met."""
    try:
        with path.open("rb") as stream:
            for number, line in enumerate(stream, start=1):
                if number == 1:
                    if line.startswith((b"\xff\xfe", b"\xfe\xff")):
                        raise DataError(f"{path} is UTF-16; save it as UTF-8 ('CSV UTF-8').")
                    line = line.removeprefix(b"\xef\xbb\xbf")
                try:
                    yield line.decode()
                except UnicodeDecodeError as error:
                    faults.append(
                        Fault(
                            "row",
                            f"line {number} is not UTF-8 at byte {error.start + 1} "
                            f"(0x{line[error.start]:02x}); save the file as UTF-8 "
                            "('CSV UTF-8').",
                        )
                    )
                    yield line.decode(errors="replace")
    except OSError as error:
        raise DataError(f"Cannot read {path}: {error.strerror}.") from error


def wrong_case(names: Sequence[str], config: DataConfig) -> str:
    """Return what to say of a column that is there in another case, or an empty string."""
    for key in ("image_column", "labels_column", "split_column", "unknown_column"):
        expected = getattr(config, key)
        near = [name for name in names if name.casefold() == expected.casefold()]
        if near and expected not in near:
            return (
                f"a column '{near[0]}' where '{expected}' is expected; rename it, "
                f"or set data.{key} to '{near[0]}'."
            )
    return ""


def split_names(cell: str, config: DataConfig) -> list[str]:
    """Return the label names of a cell, without the spaces around them.

    Example:
        >>> split_names("plant life; sky;", DataConfig())
        ['plant life', 'sky']
    """
    if not cell:
        return []
    return [name for part in cell.split(config.separator) if (name := part.strip())]


def with_path(row: Row) -> Row:
    """Return the row with forward slashes in its path, and with a fault where it has no path."""
    if not row.path or "\0" in row.path:
        fault = Fault("row", "names no picture; give it the picture's path.")
        return row._replace(path="", faults=(*row.faults, fault))
    if "://" in row.path:
        try:
            local_place(row.path)
        except AddressError as error:
            return row._replace(path="", faults=(*row.faults, Fault("row", str(error))))
    return row._replace(path=row.path.replace("\\", "/")) if "\\" in row.path else row


def by_name(row: Row, names: Sequence[str], unknown: Sequence[str]) -> Row:
    """Return ``row`` with labels by name: ``?name`` is unknown, ``?`` and ``*`` all not named."""
    if not names and not unknown:
        return row
    present = [name for name in names if not name.startswith("?")]
    doubtful = [name[1:].strip() for name in names if name.startswith("?")]
    doubtful += [name if name != "*" else "" for name in unknown]
    others = UNKNOWN if "" in doubtful else row.others
    doubtful = [name for name in doubtful if name]
    faults = row.faults
    both = set(present).intersection(doubtful)
    if both:
        fault = Fault("row", f"says that the label '{min(both)}' is present and unknown.")
        faults = (*faults, fault)
    return row._replace(present=present, unknown=doubtful, others=others, faults=faults)
