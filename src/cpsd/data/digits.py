"""The embedded demo data: pictures of handwritten digits that appear in company.

Made from the 1,797 digits that come with scikit-learn (8 x 8 pixels; UCI "Optical Recognition of
Handwritten Digits", CC BY 4.0), so nothing is downloaded. A label is a digit in an ink (``red 3``).
A picture holds two to five of them, drawn from one of five hidden *contexts*: a context favours
four labels and one background texture, so labels appear together and the background gives them
away. That is the shortcut which complementary teachers are about; ``test-unseen`` takes it away:
there labels appear about as often as in ``test``, but in any company and on any background.

    FOLDER/
      labels.csv              image, labels ("; " between), split
      boxes.csv               where each label lies: image, label, left, top, right, bottom (pixels)
      images/SPLIT-00000.jpg  48 x 48 pixels
      digits.json             what the folder was made with
"""

import csv
import io
import json
import os
import shutil
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from sklearn.datasets import load_digits

from cpsd.data.boxes import BOX_COLUMNS, BOXES_FILE, Box
from cpsd.data.digit_pictures import NUM_TEXTURES, glyph, render
from cpsd.data.records import TEST, TRAIN, VALIDATION
from cpsd.errors import DataError
from cpsd.files import plain_file_errors, write_text
from cpsd.seeds import derive_seed

TEST_UNSEEN = f"{TEST}-unseen"
INKS = ("red", "blue")
CONTEXTS: tuple[tuple[str, ...], ...] = (
    ("red 0", "blue 3", "red 7", "blue 8"),
    ("blue 1", "red 4", "blue 6", "red 9"),
    ("red 2", "blue 0", "blue 5", "red 6"),
    ("blue 4", "red 3", "blue 9", "red 1"),
    ("red 8", "blue 2", "red 5", "blue 7"),
)
"""The labels each context favours, the most frequent first. The two inks of a digit never share a
context, so neither a digit's shape nor its ink alone says its company."""
LABELS: tuple[str, ...] = tuple(f"{ink} {digit}" for digit in range(10) for ink in INKS)

_TABLE_NAME = "labels.csv"
_MARK_NAME = "digits.json"
_VERSION = 1  # of the pictures; raise it when any byte of them changes

_CONTEXT_SHARE = np.array([0.38, 0.27, 0.18, 0.1, 0.07])  # with the next line: the long tail
_RANK_WEIGHT = np.array([1.0, 0.55, 0.28, 0.12])
_STRAY_WEIGHT = 0.02  # of a label outside its context: rare, but every pair of labels occurs
_COUNTS = np.array([2, 3, 4, 5])  # labels a picture
_COUNT_SHARE = np.array([0.4, 0.32, 0.18, 0.1])
_FAVOURED_TEXTURE = 0.8  # how often a context's picture lies on the context's own background
_SEPARATOR = "; "
_POOL_SHARE = {TRAIN: 0.6, VALIDATION: 0.15, TEST: 0.25}


def write_digits(
    folder: str | Path,
    *,
    seed: int,
    train: int = 1000,
    validation: int = 600,
    test: int = 800,
    test_unseen: int = 800,
) -> Path:
    """Write the pictures and their table into ``folder``; return the path of the table.

    The files depend on ``seed`` and the sizes alone, byte for byte. The handwritten digits that the
    pictures of train, validation and test are made of are disjoint; both test splits share theirs.
    A folder that already holds the same data is left as it is; one that was written before there
    were boxes gets them, its pictures untouched.

    Args:
        folder: where to; absent, empty, or written by an earlier call with the same arguments.
        seed: of everything random.
        train: number of pictures in the split ``train``.
        validation: number of pictures in ``validation``.
        test: number of pictures in ``test``, drawn like those of ``train``.
        test_unseen: number of pictures in ``test-unseen``, drawn without regard to context.

    Raises:
        DataError: a size is negative, or the folder holds something else.
        RunError: the disk is full, or the folder cannot be written to.
    """
    folder = Path(folder)
    sizes = {TRAIN: train, VALIDATION: validation, TEST: test, TEST_UNSEEN: test_unseen}
    for split, size in sizes.items():
        if size < 0:
            raise DataError(f"The split '{split}' of the digits has size {size}; give 0 or more.")
    made_with = {"data": "digits", "version": _VERSION, "seed": seed, "sizes": sizes}
    with plain_file_errors(folder):
        if not _is_there(folder, made_with):
            _write(folder, sizes, made_with, seed=seed)
        elif not (folder / BOXES_FILE).exists():
            scenes = _scenes(sizes, seed=seed)
            write_text(folder / BOXES_FILE, _boxes_table(scene for scene, _ in scenes))
    return folder / _TABLE_NAME


class _Scene(NamedTuple):
    """A picture before it is one: its name, its split, and where each of its labels lies."""

    name: str
    split: str
    boxes: dict[str, Box]
    """By label, in the order of ``LABELS``."""


def _write(folder: Path, sizes: dict[str, int], made_with: dict[str, object], *, seed: int) -> None:
    """Write the pictures and their table; the folder appears whole or not at all."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    unfinished = folder.with_name(f".{folder.name}.{os.getpid()}.tmp")
    try:
        (unfinished / "images").mkdir(parents=True)
        scenes = []
        for scene, pixels in _scenes(sizes, seed=seed):
            # Without chroma subsampling, for thin strokes keep their ink; a third of a PNG's bytes.
            Image.fromarray(pixels).save(unfinished / scene.name, quality=90, subsampling=0)
            scenes.append(scene)
        rows = [(scene.name, _SEPARATOR.join(scene.boxes), scene.split) for scene in scenes]
        for name, table in (
            (_TABLE_NAME, _csv([("image", "labels", "split"), *rows])),
            (BOXES_FILE, _boxes_table(scenes)),
        ):
            (unfinished / name).write_text(table, encoding="utf-8")
        mark = json.dumps(made_with, indent=2) + "\n"
        (unfinished / _MARK_NAME).write_text(mark, encoding="utf-8")
        unfinished.rename(folder)  # takes the place of an empty folder, of no other
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)  # gone already unless something failed


def digit_pools(seed: int) -> dict[str, tuple[NDArray[np.intp], ...]]:
    """Return, for each split, the samples of ``load_digits()`` its pictures are made of.

    The value of a split is a tuple of ten index arrays, one for each digit; the splits are disjoint
    and together hold every sample.

    Example:
        >>> pools = digit_pools(0)
        >>> list(pools), sum(len(samples) for pool in pools.values() for samples in pool)
        (['train', 'validation', 'test'], 1797)
    """
    _, digits = _samples()
    generator = np.random.default_rng(derive_seed(seed, "digits", "pools"))
    shuffled = [generator.permutation(np.flatnonzero(digits == digit)) for digit in range(10)]
    ends = np.cumsum(list(_POOL_SHARE.values()))[:-1]
    cut = [np.split(samples, (ends * len(samples)).astype(int)) for samples in shuffled]
    return {split: tuple(part[s] for part in cut) for s, split in enumerate(_POOL_SHARE)}


@cache
def _samples() -> tuple[tuple[Image.Image, ...], NDArray[np.int64]]:
    """Return the 1,797 handwritten digits, ready to be painted, and which digit each is."""
    bunch = load_digits()
    pixels = (bunch.images * (255 / 16)).round().astype(np.uint8)
    return tuple(glyph(digit) for digit in pixels), bunch.target


def _is_there(folder: Path, made_with: dict[str, object]) -> bool:
    """Return whether ``folder`` holds this very data; refuse it when it holds anything else."""
    if not folder.exists():
        return False
    if not folder.is_dir():
        raise DataError(f"{folder} is a file; name a folder for the digits.")
    if not any(folder.iterdir()):
        return False
    mark = folder / _MARK_NAME
    try:
        found = json.loads(mark.read_text(encoding="utf-8")) if mark.is_file() else None
    except ValueError:  # a file of that name which is not ours
        found = None
    if found == made_with and (folder / _TABLE_NAME).is_file():
        return True
    ours = isinstance(found, dict) and found.get("data") == made_with["data"]
    what = "digits made with another seed or other sizes" if ours else "other files"
    raise DataError(f"{folder} holds {what}; name a new or an empty folder for the digits.")


def _scenes(sizes: dict[str, int], *, seed: int) -> Iterator[tuple[_Scene, NDArray[np.uint8]]]:
    """Yield what is in each picture of all splits, and its pixels."""
    for split, size in sizes.items():
        yield from _split_scenes(split, size=size, seed=seed)


def _split_scenes(
    split: str, *, size: int, seed: int
) -> Iterator[tuple[_Scene, NDArray[np.uint8]]]:
    """Yield what is in each picture of a split, and its pixels."""
    generator = np.random.default_rng(derive_seed(seed, "digits", split))
    pool = digit_pools(seed)[TEST if split == TEST_UNSEEN else split]
    glyphs, _ = _samples()
    labels, textures = _draw_scenes(size, generator, in_context=split != TEST_UNSEEN)
    for number, (columns, texture) in enumerate(zip(labels, textures, strict=True)):
        pools = [pool[column // len(INKS)] for column in columns]
        samples = [samples[generator.integers(len(samples))] for samples in pools]
        inks = [INKS[column % len(INKS)] for column in columns]
        pixels, boxes = render([glyphs[sample] for sample in samples], inks, texture, generator)
        places = sorted(zip(columns, boxes, strict=True))
        by_label = {LABELS[column]: box for column, box in places}
        yield _Scene(f"images/{split}-{number:05d}.jpg", split, by_label), pixels


def _boxes_table(scenes: Iterable[_Scene]) -> str:
    """Return what ``boxes.csv`` holds."""
    places = [(scene.name, label, *box) for scene in scenes for label, box in scene.boxes.items()]
    return _csv([BOX_COLUMNS, *places])


def _csv(rows: Iterable[Iterable[object]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()


def _label_weights() -> NDArray[np.float64]:
    """Return how likely each context draws each label, ``(contexts, labels)``, rows add up to 1."""
    weights = np.full((len(CONTEXTS), len(LABELS)), _STRAY_WEIGHT)
    for context, names in enumerate(CONTEXTS):
        weights[context, [LABELS.index(name) for name in names]] = _RANK_WEIGHT
    shares: NDArray[np.float64] = weights / weights.sum(axis=1, keepdims=True)
    return shares


_LABEL_WEIGHTS = _label_weights()


def _draw_scenes(
    size: int, generator: np.random.Generator, *, in_context: bool
) -> tuple[list[list[int]], list[int]]:
    """Return the labels (columns of ``LABELS``) and the texture of each of ``size`` pictures."""
    contexts = generator.choice(len(CONTEXTS), size=size, p=_CONTEXT_SHARE)
    if in_context:
        labels = _draw_labels(_LABEL_WEIGHTS[contexts], generator)
        favoured = generator.random(size) < _FAVOURED_TEXTURE
        textures = np.where(favoured, contexts, generator.integers(NUM_TEXTURES, size=size))
        return labels, textures.tolist()
    # How often a label appears in context, learned from 10,000 pictures that nobody sees.
    sample, _ = _draw_scenes(10_000, generator, in_context=True)
    frequency = np.bincount([column for columns in sample for column in columns])
    labels = _draw_labels(np.tile(frequency, (size, 1)), generator)
    return labels, generator.integers(NUM_TEXTURES, size=size).tolist()


def _draw_labels(weights: NDArray[np.float64], generator: np.random.Generator) -> list[list[int]]:
    """Return two to five distinct labels a picture, drawn by ``weights`` ``(pictures, labels)``."""
    # The labels with the largest log weight + Gumbel noise are a weighted draw without replacement.
    order = (-np.log(weights) - generator.gumbel(size=weights.shape)).argsort(axis=1).tolist()
    counts = generator.choice(_COUNTS, size=len(weights), p=_COUNT_SHARE)
    return [columns[:count] for columns, count in zip(order, counts, strict=True)]
