"""Splits: train, validation and test, named by the data or drawn from train.

Models learn on train, are chosen on validation and scored on test. Where the data names no
validation or test split, a multi-label stratified one is drawn from the training pictures of which
some label is known: iterative stratification (Sechidis, Tsoumakas and Vlahavas, On the
Stratification of Multi-Label Data, ECML PKDD 2011).
"""

import os
from collections import Counter
from collections.abc import Iterator, Sequence

import numpy as np
from iterstrat.ml_stratifiers import IterativeStratification
from numpy.typing import NDArray

from cpsd.addresses import place_in
from cpsd.config import DataConfig
from cpsd.data.records import TEST, TRAIN, UNASSIGNED, VALIDATION, Records
from cpsd.data.rows import Problem, refuse
from cpsd.errors import ConfigError, DataError, did_you_mean
from cpsd.labels import PRESENT, UNKNOWN, Targets
from cpsd.seeds import derive_seed

FURTHER_TEST = f"{TEST}-"
OTHER_TEST = f"{FURTHER_TEST}other"
"""What the data's own test split is called where ``config.test_split`` names another."""

_LONGEST_NAME = 100  # of a file's name, which may have 255 bytes, the split is a part

_NAMES = {
    "": UNASSIGNED,
    "train": TRAIN,
    "training": TRAIN,
    "val": VALIDATION,
    "valid": VALIDATION,
    "validation": VALIDATION,
    "dev": VALIDATION,
    "test": TEST,
}


def normalise_split(name: str, *, test_split: str | None = None) -> str:
    """Return the split that ``name`` stands for.

    Args:
        name: a split as the data writes it; case and spaces around it do not matter.
        test_split: the name, as the data writes it, of the split to test on.

    Raises:
        DataError: no such split.

    Example:
        >>> normalise_split("Training"), normalise_split("dev"), normalise_split("test-night")
        ('train', 'validation', 'test-night')
        >>> normalise_split("val", test_split="val"), normalise_split("test", test_split="val")
        ('test', 'test-other')
    """
    name = name.strip()
    if test_split is not None and name == test_split.strip():
        return TEST
    folded = name.casefold()
    if folded.startswith(FURTHER_TEST) and len(folded) > len(FURTHER_TEST):
        _require_file_name(folded)
        return folded
    if folded not in _NAMES:
        known = [key for key in _NAMES if key]
        raise DataError(
            f"the split '{name}' is none of {', '.join(known)} and {FURTHER_TEST}NAME."
            + did_you_mean(name, known)
        )
    split = _NAMES[folded]
    return OTHER_TEST if split == TEST and test_split is not None else split


def _require_file_name(split: str) -> None:
    """Refuse a name that files of a run could not have, or that would put them elsewhere.

    Raises:
        DataError: it is such a name.
    """
    wrong = [mark for mark in split if mark in "/\\:" or not mark.isprintable()]
    if wrong or len(split.encode("utf-8", "replace")) > _LONGEST_NAME:
        reason = f"holds {wrong[0]!a}" if wrong else f"is longer than {_LONGEST_NAME} bytes"
        raise DataError(
            f"the split '{split[:_LONGEST_NAME]}' {reason}, and files are named after it; rename "
            "it."
        )


def name_splits(records: Records, test_split: str | None) -> tuple[Records, list[Problem]]:
    """Return the records with every split named as this package does, and the splits that are none.

    A split that is none keeps the name it has.

    Raises:
        DataError: no picture is in ``test_split``.
    """
    written = dict.fromkeys(split.strip() for split in records.distinct_splits())
    if test_split is not None and test_split.strip() not in written:
        there = ", ".join(f"'{split}'" for split in written if split) or "none"
        raise DataError(
            f"data.test_split is '{test_split}', but no picture is in that split; there are: "
            f"{there}.{did_you_mean(test_split, written)}"
        )
    named: dict[str, str] = {}
    wrong: dict[str, str] = {}
    for split in written:
        try:
            named[split] = normalise_split(split, test_split=test_split)
        except DataError as error:
            named[split], wrong[split] = split, str(error)
    problems = []
    if wrong:
        problems = [
            Problem("split", origin, wrong[split.strip()])
            for split, origin in zip(records.splits, records.origins, strict=True)
            if split.strip() in wrong
        ]
    renamed = {split: named[split.strip()] for split in records.distinct_splits()}
    return records.with_renamed_splits(renamed), problems


def picture_keys(records: Records) -> Iterator[str]:
    """Yield N keys that are equal where two rows name the same file.

    Paths are compared as text (``a/../b.jpg`` is ``b.jpg``): links are not followed.
    """
    root = os.path.realpath(records.root)
    return (os.path.normpath(place_in(root, path)) for path in records.paths)


def first_rows(records: Records) -> NDArray[np.intp]:
    """Return for each row ``(N,)`` the first row that names the same file, see ``picture_keys``."""
    keys = map(hash, picture_keys(records))
    hashes = np.fromiter(keys, dtype=np.int64, count=len(records))
    _, first, place_N = np.unique(hashes, return_index=True, return_inverse=True)
    first_N: NDArray[np.intp] = first[place_N]
    repeated = np.flatnonzero(first_N != np.arange(len(records)))
    again = [[int(i), int(first_N[i])] for i in repeated]
    keys_of = list(picture_keys(records.select(np.array(again, dtype=np.intp).ravel())))
    if keys_of[::2] == keys_of[1::2]:
        return first_N
    seen: dict[str, int] = {}  # two files with one hash: a chance in ten million for a million
    found = (seen.setdefault(key, i) for i, key in enumerate(picture_keys(records)))
    return np.fromiter(found, dtype=np.intp, count=len(records))


def split_clashes(records: Records) -> list[Problem]:
    """Return a problem for every row whose picture an earlier row puts into another split."""
    problems = []
    first_N = first_rows(records)
    splits = records.splits
    for i in np.flatnonzero(first_N != np.arange(len(records))).tolist():
        j = int(first_N[i])
        if (splits[i] or TRAIN) != (splits[j] or TRAIN):
            there, here = splits[j] or TRAIN, splits[i] or TRAIN
            detail = (
                f"{records.paths[i]} is in {here}, but in {there} by {records.origins[j]}; "
                "a picture may be in one split only."
            )
            problems.append(Problem("two splits", records.origins[i], detail))
    return problems


def assign_splits(
    records: Records, config: DataConfig, *, seed: int
) -> tuple[Records, tuple[str, ...]]:
    """Return the records with every picture in a split, and sentences on what was done for it.

    Raises:
        DataError: a split that is none, a picture in two splits, nothing to train on, or too few
            pictures to draw a split from.
        ConfigError: the shares to draw leave nothing to train on.
    """
    records, problems = name_splits(records, config.test_split)
    refuse([*problems, *split_clashes(records)])
    records, notices = draw_splits(records, config, seed=seed)
    if TRAIN not in records.splits:
        raise DataError(
            "No picture is in the split train; name one, or leave the split of pictures empty."
        )
    return records, notices


def draw_splits(
    records: Records, config: DataConfig, *, seed: int
) -> tuple[Records, tuple[str, ...]]:
    """Draw validation and test from train where the data names none; unassigned rows are train.

    The shares are of the training pictures of which some label is known. Rows of one picture go
    together. Pictures of which nothing is known stay in train.

    Args:
        records: splits named as this package does.
        config: its ``validation_fraction`` and ``test_fraction``; 0 draws no split.
        seed: the run's seed.

    Returns:
        The records, and a plain sentence on each thing done.

    Raises:
        DataError: too few pictures to draw from.
        ConfigError: the shares leave nothing to train on.
    """
    shares = _shares(records, config)
    splits = [TRAIN if split == UNASSIGNED else split for split in records.splits]
    notices = _unassigned_notices(records, config)
    known = (records.targets != UNKNOWN).any(axis=1)
    rows = [i for i, split in enumerate(splits) if split == TRAIN and known[i]]
    if not shares or not rows:
        return records.with_splits(splits), tuple(notices)
    keys = first_rows(records).tolist()
    first: dict[int, int] = {}
    for i in rows:
        first.setdefault(keys[i], i)
    pictures = list(first.values())
    names = [TRAIN, *shares]
    if len(pictures) < len(names):
        raise DataError(
            f"Only {len(pictures)} pictures are in train, too few to draw {' and '.join(shares)} "
            "from it; add pictures, or name the splits in the data."
        )
    folds = stratify(
        records.targets[pictures],
        [1 - sum(shares.values()), *shares.values()],
        seed=derive_seed(seed, "splits"),
    )
    fold_of = {keys[i]: names[fold] for i, fold in zip(pictures, folds, strict=True)}
    for i, split in enumerate(splits):
        if split == TRAIN:
            splits[i] = fold_of.get(keys[i], TRAIN)
    counts = Counter(names[fold] for fold in folds)
    notices += [
        f"{name}: {counts[name]:,} of {len(pictures):,} pictures drawn from train with seed "
        f"{seed}, because the data names no {name} split."
        for name in shares
    ]
    return records.with_splits(splits), tuple(notices)


def limit_splits(
    records: Records, limit: int | None, *, seed: int
) -> tuple[Records, tuple[str, ...]]:
    """Return at most ``limit`` pictures of each split, in their order, and sentences on it.

    Args:
        records: every picture in a split.
        limit: None for all.
        seed: the run's seed, of the draw.
    """
    if limit is None:
        return records, ()
    kept: list[int] = []
    notices = []
    for split in records.distinct_splits():
        rows = records.indices(split)
        if len(rows) > limit:
            generator = np.random.default_rng(derive_seed(seed, "limit", split))
            notices.append(
                f"{split}: {limit:,} of {len(rows):,} pictures drawn with seed {seed}, because of "
                "data.limit."
            )
            rows = generator.choice(rows, size=limit, replace=False)
        kept += rows.tolist()
    return records.select(sorted(kept)), tuple(notices)


def _shares(records: Records, config: DataConfig) -> dict[str, float]:
    """Return the share of train that every split to be drawn takes."""
    shares = {}
    if VALIDATION not in records.splits and config.validation_fraction:
        shares[VALIDATION] = config.validation_fraction
    if not records.test_splits() and config.test_fraction:
        shares[TEST] = config.test_fraction
    if sum(shares.values()) >= 1:
        raise ConfigError(
            f"data.validation_fraction and data.test_fraction add up to {sum(shares.values()):g}; "
            "together they must stay below 1."
        )
    return shares


def _unassigned_notices(records: Records, config: DataConfig) -> list[str]:
    notices = []
    counts = Counter(records.splits)
    # Pictures without labels go to train as a matter of course, with a split or without.
    known = (records.targets != UNKNOWN).any(axis=1)
    unassigned = int(known[records.indices(UNASSIGNED)].sum())
    if 0 < unassigned < known.sum():
        notices.append(f"train: {unassigned:,} pictures without a split were put into it.")
    if config.test_split is not None and counts[OTHER_TEST]:
        notices.append(
            f"test: the split '{config.test_split}'; the data's own test split is a further one, "
            f"'{OTHER_TEST}'."
        )
    elif config.test_split is not None:
        notices.append(f"test: the split '{config.test_split}', {counts[TEST]:,} pictures.")
    return notices


def stratify(targets: Targets, shares: Sequence[float], *, seed: int) -> NDArray[np.intp]:
    """Return which of the folds ``(N,)`` every picture is in, labels shared out like pictures.

    Sizes may be off by a few pictures, for the labels' sake. No fold is empty where there are
    enough pictures.

    Args:
        targets: ``(N, C)`` int8; what is unknown counts as absent.
        shares: the folds' shares of the pictures, positive, adding up to 1.
        seed: of the order of the pictures and of ties.

    Example:
        >>> targets = np.repeat(np.array([[1, 0], [0, 1]], dtype=np.int8), 10, axis=0)
        >>> folds = stratify(targets, [0.8, 0.2], seed=0)
        >>> targets[folds == 1].sum(axis=0).tolist()
        [2, 2]
    """
    # The library takes the legacy generator, whose seeds have 32 bits.
    random = np.random.RandomState(seed % 2**32)
    order = random.permutation(len(targets))
    folds = np.empty(len(targets), dtype=np.intp)
    folds[order] = IterativeStratification(
        labels=targets[order] == PRESENT, r=np.array(shares), random_state=random
    )
    # Small data: a share of less than a picture may have got none.
    for fold in range(len(shares)):
        if not (folds == fold).any():
            largest = np.bincount(folds, minlength=len(shares)).argmax()
            folds[random.choice(np.flatnonzero(folds == largest))] = fold
    return folds
