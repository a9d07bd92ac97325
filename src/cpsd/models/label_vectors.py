"""Label embeddings from files: an array with a row a label, or word vectors in text.

Shapes: C labels, E width of an embedding.
"""

import re
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cpsd.array_files import read_npy
from cpsd.errors import ModelError, did_you_mean
from cpsd.graph import LabelGraph
from cpsd.labels import LabelSpace
from cpsd.model_config import ModelConfig
from cpsd.models.array_pickle import read_array_pickle
from cpsd.models.label_information import LabelInformation

PICKLE_SUFFIXES = (".pkl", ".pickle")


def label_information(
    config: ModelConfig, labels: LabelSpace, graph: LabelGraph | None = None
) -> LabelInformation:
    """Return what heads may know of ``labels``; the embeddings are read where a file is named.

    Raises:
        ModelError: the file cannot be read, lacks a word, or has another width than
            ``config.label_embedding_width``.
    """
    embeddings = None
    if config.label_embeddings is not None:
        embeddings = read_label_embeddings(
            Path(config.label_embeddings), labels, width=config.label_embedding_width
        )
    return LabelInformation(labels, graph, embeddings, config.label_embedding_width)


def read_label_embeddings(path: Path, labels: LabelSpace, *, width: int) -> NDArray[np.float32]:
    """Return the embeddings ``(C, E)`` of ``labels``.

    Args:
        path: ``.npy``, or ``.pkl`` with one NumPy array: a row a label, in the labels' order. Or a
            text file as GloVe's: a word and its E numbers a line. A label that has no line of its
            own gets the mean of its words'; upper case is read as lower case where the file has
            only that.
        labels: whose embeddings.
        width: E.

    Raises:
        ModelError: no such file, a damaged one, one of another shape, or a missing word.
    """
    _require_file(path)
    if not holds_words(path):
        vectors = read_array(path)
        needed = (len(labels), width)
        if vectors.shape != needed:
            raise ModelError(
                f"The label embeddings in {path} have shape {vectors.shape}; a row for each of the "
                f"{len(labels)} labels and model.label_embedding_width numbers a row are needed: "
                f"{needed}."
            )
    else:
        wanted = {word for name in labels for word in (*_spellings(name), *_words(name))}
        vectors = _mean_vectors(_read_words(path, wanted, width), labels, path)
    if not np.isfinite(vectors).all():
        row = int(np.argwhere(~np.isfinite(vectors))[0, 0])
        raise ModelError(f"{path}: the embedding of '{labels.names[row]}' is not finite.")
    return vectors


def holds_words(path: Path) -> bool:
    """Return whether a file of label embeddings is taken for word vectors in text."""
    return path.suffix != ".npy" and path.suffix not in PICKLE_SUFFIXES


def read_array(path: Path) -> NDArray[np.float32]:
    """Return the array of a ``.npy`` or ``.pkl`` file, whatever its shape.

    Raises:
        ModelError: no such file, or one that holds no array of numbers.
    """
    _require_file(path)
    if path.suffix in PICKLE_SUFFIXES:
        return read_array_pickle(path).astype(np.float32)
    try:
        return np.asarray(read_npy(path), dtype=np.float32)
    except (OSError, ValueError, TypeError) as error:
        raise ModelError(f"{path} is damaged or holds no NumPy array of numbers.") from error


def _require_file(path: Path) -> None:
    if not path.is_file():
        raise ModelError(f"The file of label embeddings {path} does not exist or is not a file.")


def _read_words(path: Path, wanted: set[str], width: int) -> dict[str, NDArray[np.float32]]:
    """Return the vectors of the wanted words; other lines are passed over."""
    vectors: dict[str, NDArray[np.float32]] = {}
    try:
        with path.open(encoding="utf-8", errors="replace") as file:
            for number, line in enumerate(file, start=1):
                word, *numbers = line.rstrip().split(" ")
                # word2vec's text format begins with how many words and numbers there are.
                is_header = number == 1 and len(numbers) == 1 and (word + numbers[0]).isdecimal()
                # GloVe's largest file has entries such as 'on name@domain.com' beside 'on'.
                has_spaces = not all(map(_is_number, numbers[:-width]))
                if word not in wanted or is_header or has_spaces:
                    continue
                if len(numbers) != width:
                    raise ModelError(
                        f"{path}, line {number}: '{word}' has {len(numbers)} numbers, "
                        f"model.label_embedding_width is {width}."
                    )
                try:
                    vectors.setdefault(word, np.array(numbers, dtype=np.float32))
                except ValueError as error:
                    raise ModelError(
                        f"{path}, line {number}: what follows '{word}' is not all numbers."
                    ) from error
    except OSError as error:
        raise ModelError(f"{path} cannot be read: {error.strerror}.") from error
    return vectors


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _vocabulary(path: Path) -> set[str]:
    """Return all words of the file, to find the one that was meant."""
    with path.open(encoding="utf-8", errors="replace") as file:
        return {line.split(" ", 1)[0].rstrip() for line in file}


def _mean_vectors(
    vectors: dict[str, NDArray[np.float32]], labels: LabelSpace, path: Path
) -> NDArray[np.float32]:
    rows = []
    for name in labels:
        whole = next((word for word in _spellings(name) if word in vectors), None)
        words = [whole] if whole is not None else _words(name)
        missing = [word for word in words if word not in vectors]
        if missing or not words:
            raise ModelError(
                f"{path} has no vector for '{missing[0] if missing else name}', a word of the "
                f"label '{name}'.{did_you_mean(missing[0], _vocabulary(path)) if missing else ''} "
                "Add a line for it, or give the embeddings as .npy with a row a label."
            )
        rows.append(np.mean([vectors[word] for word in words], axis=0))
    return np.stack(rows).astype(np.float32)


def _spellings(name: str) -> tuple[str, ...]:
    """Return how a file may spell the whole label."""
    joined = re.sub(r"\s+", "_", name.strip())
    return name, joined, name.lower(), joined.lower(), joined.lower().replace("_", "-")


def _words(name: str) -> list[str]:
    """Return the words of a label, in lower case.

    Example:
        >>> _words("Traffic light"), _words("hair_drier/blower")
        (['traffic', 'light'], ['hair', 'drier', 'blower'])
    """
    return [word for word in re.split(r"[\W_]+", name.lower()) if word]
