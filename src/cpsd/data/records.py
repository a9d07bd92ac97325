"""Records: the one in-memory form of a data set, whatever format it came from."""

import hashlib
import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from cpsd.addresses import place_in
from cpsd.data.packed_pixels import PackedPixels
from cpsd.data.texts import Names, Numbered, Texts
from cpsd.errors import DataError
from cpsd.labels import PRESENT, UNKNOWN, LabelSpace, Targets

TRAIN = "train"
VALIDATION = "validation"
TEST = "test"
UNASSIGNED = ""
SKIPPED = "skipped"
"""Of pictures that cannot be used and are left out; nothing reads this split."""


class Skipped(NamedTuple):
    """A picture that is left out: the split it was in, and what is wrong with it."""

    split: str
    kind: str
    detail: str


@dataclass(frozen=True, eq=False)
class Records:
    """Pictures, what is known of their labels, and the split each belongs to.

    Texts are kept compactly whatever sequence they come in (``cpsd.data.texts``): a million
    pictures with eighty labels take some 150 MB.

    Args:
        paths: N picture paths as the source wrote them, with forward slashes, relative to ``root``
            (an absolute path stands for itself, and an address for its copy).
        targets: ``(N, C)`` int8; 1 present, 0 absent, -1 unknown.
        labels: the C labels.
        splits: N split names: ``train``, ``validation``, ``test``, further test splits
            (``test-...``), or ``""`` where the source named none.
        root: the folder that ``paths`` are relative to.
        origins: N places in the source (``labels.csv, row 12``), for messages.
        packed: the pictures' pixels, where they come from a pack.
        skipped: by row, what is wrong with the pictures of the split ``skipped``.

    Raises:
        DataError: the lengths do not agree, or a target is not 1, 0 or -1.
    """

    paths: Sequence[str]
    targets: Targets
    labels: LabelSpace
    splits: Sequence[str]
    root: Path
    origins: Sequence[str]
    packed: PackedPixels | None = None
    skipped: Mapping[int, Skipped] = field(default_factory=dict)

    def __post_init__(self) -> None:
        num_images = len(self.paths)
        if self.targets.shape != (num_images, len(self.labels)):
            raise DataError(
                f"Targets of shape {self.targets.shape} do not fit {num_images} pictures "
                f"and {len(self.labels)} labels."
            )
        if not len(self.splits) == len(self.origins) == num_images:
            raise DataError("Every picture needs one split and one origin.")
        if self.targets.size and not -1 <= self.targets.min() <= self.targets.max() <= 1:
            raise DataError("A target is 1 (present), 0 (absent) or -1 (unknown), nothing else.")
        for name, kind in (("paths", Texts), ("splits", Names), ("origins", Numbered)):
            texts = getattr(self, name)
            if not isinstance(texts, kind):
                object.__setattr__(self, name, kind(texts))

    @property
    def _names(self) -> Names:
        assert isinstance(self.splits, Names)
        return self.splits

    def __len__(self) -> int:
        return len(self.paths)

    def image_path(self, index: int) -> Path:
        """Return where the picture of row ``index`` lies."""
        return Path(place_in(self.root, self.paths[index]))

    def indices(self, split: str) -> NDArray[np.intp]:
        """Return the rows of ``split``, ascending."""
        return np.flatnonzero(self._names.equal(split))

    def test_splits(self) -> tuple[str, ...]:
        """Return the test splits there are: ``test`` first, further ones in order of appearance."""
        seen = [s for s in self._names.distinct if s == TEST or s.startswith(f"{TEST}-")]
        return tuple(sorted(seen, key=lambda split: split != TEST))

    def distinct_splits(self) -> tuple[str, ...]:
        """Return the splits there are, in order of appearance."""
        return self._names.distinct

    def with_renamed_splits(self, names: Mapping[str, str]) -> "Records":
        """Return the same pictures with other names of splits; ``names`` has every one there is."""
        return replace(self, splits=self._names.renamed(names))

    def select(self, rows: Sequence[int] | NDArray[np.intp]) -> "Records":
        """Return the records of ``rows``, in the given order."""
        rows = np.asarray(rows, dtype=np.intp)
        return replace(
            self,
            paths=_taken(self.paths, rows),
            targets=self.targets[rows],
            splits=self._names.take(rows),
            origins=_taken(self.origins, rows),
            packed=None if self.packed is None else self.packed.select(rows),
            skipped={
                place: self.skipped[row]
                for place, row in enumerate(rows.tolist() if self.skipped else ())
                if row in self.skipped
            },
        )

    def with_splits(self, splits: Sequence[str]) -> "Records":
        """Return the same pictures with other splits."""
        return replace(self, splits=Names(splits))

    def with_skipped(self, splits: Sequence[str], skipped: Mapping[int, Skipped]) -> "Records":
        """Return the same pictures, some of them left out of their splits."""
        return replace(self, splits=Names(splits), skipped=dict(skipped))

    def without_positive(self) -> NDArray[np.bool_]:
        """Return which pictures ``(N,)`` have something known of them but no positive label."""
        known = (self.targets != UNKNOWN).any(axis=1)
        return np.asarray(known & ~(self.targets == PRESENT).any(axis=1), dtype=np.bool_)

    def fingerprint(self) -> str:
        """Return a SHA-256 over paths, targets, labels and splits (not over picture contents)."""
        digest = hashlib.sha256()
        for names in (self.labels.names, self.paths, self.splits):
            for piece in _joined(names):
                digest.update(piece.encode(errors="surrogateescape"))
            digest.update(b"\1")
        digest.update(np.ascontiguousarray(self.targets).data)
        return digest.hexdigest()


def _taken(texts: Sequence[str], rows: NDArray[np.intp]) -> Sequence[str]:
    assert isinstance(texts, Texts | Numbered)
    return texts.take(rows)


def _joined(names: Iterable[str]) -> Iterator[str]:
    """Yield the names with a zero between them, in pieces: never a million strings at once."""
    left, begin = iter(names), ""
    while some := list(itertools.islice(left, 10_000)):
        yield begin + "\0".join(some)
        begin = "\0"
