r"""NUS-WIDE: its lists of pictures and a file a label and split.

::

    ROOT/ImageList/{TrainImagelist,TestImagelist}.txt      actor\0001_2124494179.jpg
    ROOT/TrainTestLabels/Labels_<label>_{Train,Test}.txt   1 or 0, a line a picture of the list
    ROOT/Concepts81.txt                                    a label a line

``TrainTestLabels`` may lie in ``Groundtruth``, ``Concepts81.txt`` in ``ConceptsList``, the pictures
in ``Flickr`` or ``images``, as the parts of the data set are published. The splits are ``train``
and ``test``.
"""

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np

from cpsd.config import DataConfig
from cpsd.data.index_files import require_inside
from cpsd.data.records import Records
from cpsd.data.rows import Fault, Row, Source, read_label_list, read_strictly
from cpsd.errors import DataError
from cpsd.labels import ABSENT, PRESENT, LabelSpace, Targets

_SPLITS = {"Train": "train", "Test": "test"}
_VALUES = {b"0": ABSENT, b"1": PRESENT}
_NEITHER = 2  # stands for anything but 0 and 1


def read_nuswide(root: str | Path, config: DataConfig) -> Records:
    """Return the records of a NUS-WIDE folder.

    Raises:
        DataError: a file is not there, or two of them do not have the same number of rows.
    """
    return read_strictly(nuswide_source(root, config), read_label_list(config.label_list))


def nuswide_source(root: str | Path, config: DataConfig) -> Source:
    """Return a NUS-WIDE folder as a source of rows.

    Raises:
        DataError: a file is not there, or two of them do not have the same number of rows.
    """
    root = Path(root)
    if not root.is_dir():
        raise DataError(f"There is no folder {root}; set data.root to the NUS-WIDE folder.")
    folder = _first(root, ("TrainTestLabels", "Groundtruth/TrainTestLabels"))
    labels = _labels(root, folder, config)
    pictures = next((name for name in ("Flickr", "images") if (root / name).is_dir()), "")
    lists = {part: root / "ImageList" / f"{part}Imagelist.txt" for part in _SPLITS}
    read = partial(_lines, root=root, config=config)
    names = {part: read(path) for part, path in lists.items()}
    targets = {
        part: _targets(folder, labels, part, lists[part], read, len(names[part]))
        for part in _SPLITS
    }

    def rows() -> Iterator[Row]:
        for part, split in _SPLITS.items():
            for i, name in enumerate(names[part]):
                origin = f"{lists[part].name}, line {i + 1}"
                yield _row(name, origin, split, pictures, targets[part][i], labels)

    return Source(str(root), root, rows(), labels.names)


def _labels(root: Path, folder: Path, config: DataConfig) -> LabelSpace:
    """Return the labels that the concept list names, or else the files of the labels."""
    for concepts in (root / "Concepts81.txt", root / "ConceptsList" / "Concepts81.txt"):
        if concepts.is_file():
            require_inside(concepts, root, config)
            if (listed := read_label_list(str(concepts))) is not None:
                return listed
    beginning, end = "Labels_", "_Train.txt"
    names = sorted(path.name for path in folder.glob(f"{beginning}*{end}"))
    if not names:
        raise DataError(f"{folder} has no file {beginning}<label>{end}; set data.root.")
    return LabelSpace(tuple(name[len(beginning) : -len(end)] for name in names))


def _first(root: Path, names: tuple[str, ...]) -> Path:
    found = next((root / name for name in names if (root / name).exists()), None)
    if found is None:
        raise DataError(f"{root} has neither {names[0]} nor {names[1]}; set data.root.")
    return found


def _lines(path: Path, root: Path, config: DataConfig) -> list[bytes]:
    require_inside(path, root, config)
    try:
        lines = path.read_bytes().removeprefix(b"\xef\xbb\xbf").splitlines()
    except FileNotFoundError as error:
        raise DataError(f"There is no {path}; the data set is not complete.") from error
    except OSError as error:
        raise DataError(f"Cannot read {path}: {error.strerror}.") from error
    while lines and not lines[-1].strip():
        lines.pop()
    return lines


def _targets(
    folder: Path,
    labels: LabelSpace,
    part: str,
    listed: Path,
    read: Callable[[Path], list[bytes]],
    num_images: int,
) -> Targets:
    """Return the ``(N, C)`` targets of a part; 2 stands where a file has neither 0 nor 1."""
    targets = np.empty((num_images, len(labels)), dtype=np.int8)
    for c, label in enumerate(labels):
        if "/" in label or "\\" in label:
            # A list may name labels of this data set only, not files elsewhere.
            raise DataError(f"The label '{label}' has a slash, so it can have no file in {folder}.")
        path = folder / f"Labels_{label}_{part}.txt"
        values = read(path)
        if len(values) != num_images:
            raise DataError(
                f"{path} has {len(values):,} rows, but {listed} names {num_images:,} pictures; "
                "both need a line for each picture."
            )
        targets[:, c] = [_VALUES.get(value.strip(), _NEITHER) for value in values]
    return targets


def _row(
    name: bytes, origin: str, split: str, pictures: str, targets: Targets, labels: LabelSpace
) -> Row:
    try:
        path = name.decode().strip().replace("\\", "/")
    except UnicodeDecodeError as error:
        detail = f"is not UTF-8 at byte {error.start + 1}."
        return Row("", origin, split, faults=(Fault("row", detail),))
    if not path or "\0" in path:
        return Row("", origin, split, faults=(Fault("row", "names no picture."),))
    faults = tuple(
        Fault("row", f"the file of the label '{labels.names[c]}' has neither 0 nor 1 there.")
        for c in np.flatnonzero(targets == _NEITHER)
    )
    present = [labels.names[c] for c in np.flatnonzero(targets == PRESENT)]
    path = f"{pictures}/{path}" if pictures else path
    return Row(path, origin, split, present=present, faults=faults)
