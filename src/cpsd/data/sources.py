"""From the configuration to records: every format, unlabelled pictures, splits, and what to say."""

import os
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from cpsd.config import DataConfig, DataFormat
from cpsd.data.bad_pictures import PictureCheck, without_bad_pictures
from cpsd.data.coco import coco_source
from cpsd.data.fetching import with_copies
from cpsd.data.images import find_pictures
from cpsd.data.nuswide import nuswide_source
from cpsd.data.pack import open_pack
from cpsd.data.records import TRAIN, Records
from cpsd.data.rows import Source, read_label_list, read_strictly
from cpsd.data.splits import assign_splits, first_rows, limit_splits, picture_keys
from cpsd.data.table import table_source
from cpsd.data.voc import voc_source
from cpsd.errors import ConfigError, DataError
from cpsd.labels import PRESENT, UNKNOWN, LabelSpace

_SOURCES: dict[DataFormat, Callable[[str, DataConfig], Source]] = {
    "table": table_source,
    "coco": coco_source,
    "voc": voc_source,
    "nus-wide": nuswide_source,
}

_SHOWN = 10  # names in a sentence before the rest is counted


def open_source(config: DataConfig) -> Source:
    """Return the data set that the configuration names, about to be read.

    Raises:
        ConfigError: no table or folder is named.
        DataError: it is not there, or not of the format.
    """
    key = "table" if config.format == "table" else "root"
    place = config.table if config.format == "table" else config.root
    if not place:
        what, how = (
            ("the CSV or JSONL file", "name it after the verb, as in cpsd run labels.csv")
            if key == "table"
            else ("the folder of the data set", "say --data.root FOLDER")
        )
        raise ConfigError(
            f"data.{key} is not set; the format '{config.format}' needs it, {what}: {how}."
        )
    return _SOURCES[config.format](place, config)


def read_records(
    config: DataConfig, *, labels: LabelSpace | None = None
) -> tuple[Records, list[str]]:
    """Return the labelled pictures with splits as the data writes them, and what to say of them.

    Args:
        config: what to read.
        labels: the labels to read, for a model that has them; by default those of
            ``config.label_list``, or all there are.

    Raises:
        ConfigError: no table or folder is named.
        DataError: something is wrong with the data.
        AddressError: an address is malformed or cannot be reached.
    """
    config = with_copies(config)
    source = open_source(config)
    records = read_strictly(source, labels or read_label_list(config.label_list))
    return records, [*source.notices, *duplicate_notices(records), *_label_notices(records, config)]


def load_records(
    config: DataConfig, *, seed: int, check: PictureCheck | None = None
) -> tuple[Records, list[str]]:
    """Return all pictures of a run, each in a split, and plain sentences on what was done.

    Args:
        config: what to read.
        seed: the run's seed, for splits that are drawn.
        check: how pictures are looked at; by default only whether they are there.

    Raises:
        ConfigError: no table or folder is named, or settings that contradict each other.
        DataError: something is wrong with the data, or a picture cannot be used and
            ``config.on_bad_image`` does not say to leave it out.
        AddressError: an address is malformed or cannot be reached.
    """
    config = with_copies(config)
    records, notices = read_records(config)
    records, more = choose_without_positive(records, config)
    notices += more
    if config.unlabelled is not None:
        records, more = with_unlabelled(records, config.unlabelled)
        notices += more
    records, drawn = assign_splits(records, config, seed=seed)
    records, limited = limit_splits(records, config.limit, seed=seed)
    # Of the pictures of the run alone, and once they have their splits: a bad picture changes no
    # other's.
    records, skipped = without_bad_pictures(records, config, check or PictureCheck())
    records = with_pack(records, config.pack)
    return records, [*notices, *drawn, *limited, *skipped, *unlearnable_notices(records)]


def with_pack(records: Records, folder: str | None) -> Records:
    """Return the records with the pixels of the pack at ``folder``, if one is named.

    Raises:
        DataError: it is not one of these pictures as they are now.
    """
    return records if folder is None else replace(records, packed=open_pack(Path(folder), records))


def choose_without_positive(
    records: Records, config: DataConfig
) -> tuple[Records, tuple[str, ...]]:
    """Return the records without the pictures that the user drops, and how many there are.

    Raises:
        DataError: no picture is left.
    """
    without = records.without_positive()
    count = int(without.sum())
    known = int((records.targets != UNKNOWN).any(axis=1).sum())
    if not count:
        return records, ("Every picture of which labels are known has a positive label.",)
    said = f"{count:,} of {known:,} pictures with known labels have no positive label; they are"
    if config.without_positive == "keep":
        return records, (f"{said} kept (data.without_positive drop leaves them out).",)
    if count == len(records):
        raise DataError("No picture has a positive label, so dropping those leaves none.")
    return records.select(np.flatnonzero(~without)), (f"{said} left out.",)


def with_unlabelled(records: Records, folder: str) -> tuple[Records, tuple[str, ...]]:
    """Return the records and the pictures of ``folder``, of which nothing is known, for training.

    A picture that the records have already is not taken again, for it may be in a test split.

    Raises:
        DataError: no such folder, or no picture in it.
    """
    root = os.path.realpath(records.root)
    # Relative to the root even where the folder lies outside: the same data set then has the same
    # fingerprint wherever it lies.
    start = os.path.relpath(os.path.realpath(folder), root)
    found = [start + "/" + path.relative_to(folder).as_posix() for path in find_pictures(folder)]
    found = [os.path.normpath(path) for path in found]
    taken = set(picture_keys(records))
    new = [path for path in found if os.path.normpath(f"{root}/{path}") not in taken]
    notice = f"train: {len(new):,} pictures without labels from {folder} were added"
    if len(new) < len(found):
        notice += f"; {len(found) - len(new):,} there are in the data already"
    targets = np.full((len(new), len(records.labels)), UNKNOWN, dtype=np.int8)
    return replace(
        records,
        paths=(*records.paths, *new),
        targets=np.concatenate([records.targets, targets]),
        splits=(*records.splits, *[TRAIN] * len(new)),
        origins=(*records.origins, *(f"data.unlabelled, {path}" for path in new)),
    ), (f"{notice}.",)


def duplicate_notices(records: Records) -> list[str]:
    """Return a sentence on pictures that stand in more than one row, if there are any."""
    count = int((first_rows(records) != np.arange(len(records))).sum())
    if not count:
        return []
    return [
        f"{count:,} rows name a picture that another row names too; all are kept "
        "('cpsd data check' lists them)."
    ]


def case_twins(labels: LabelSpace) -> list[tuple[str, ...]]:
    """Return the groups of labels that differ only in upper and lower case.

    Example:
        >>> case_twins(LabelSpace(("Dog", "cat", "dog")))
        [('Dog', 'dog')]
    """
    groups: dict[str, list[str]] = defaultdict(list)
    for name in labels:
        groups[name.casefold()].append(name)
    return [tuple(group) for group in groups.values() if len(group) > 1]


def case_notices(labels: LabelSpace) -> list[str]:
    """Return a sentence for every group of labels that differ only in case."""
    return [
        f"The labels {' and '.join(map(repr, twins))} differ only in case; are they one label?"
        for twins in case_twins(labels)
    ]


def _label_notices(records: Records, config: DataConfig) -> list[str]:
    return [*case_notices(records.labels), *comma_notices(records, config.separator)]


def comma_notices(records: Records, separator: str) -> list[str]:
    """Return a sentence where commas seem to stand between labels and another mark is looked for.

    That is where labels have commas in them and no picture has two labels.
    """
    with_comma = [name for name in records.labels if "," in name]
    if "," in separator or not with_comma or ((records.targets == PRESENT).sum(axis=1) > 1).any():
        return []
    return [
        f"'{with_comma[0]}' is taken for one label, and no picture has two. If commas stand "
        "between labels, set data.separator to ','."
    ]


def labels_without_positive(records: Records, split: str) -> tuple[str, ...]:
    """Return the labels that no picture of ``split`` is known to have."""
    positives = (records.targets[records.indices(split)] == PRESENT).any(axis=0)
    return tuple(np.array(records.labels.names, dtype=object)[~positives])


def unlearnable_notices(records: Records) -> list[str]:
    """Return a sentence on the labels that nothing in train shows, if there are any."""
    names = labels_without_positive(records, TRAIN)
    if not names:
        return []
    return [f"train: no picture has the label {_listed(names)}, so it cannot be learned."]


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(f"'{name}'" for name in names[:_SHOWN])
    return shown if len(names) <= _SHOWN else f"{shown} or {len(names) - _SHOWN:,} others"
