"""Label embeddings from files, held to the numbers in them, and every refusal."""

import pickle
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest

from cpsd.errors import ModelError
from cpsd.graph import LabelGraph
from cpsd.labels import LabelSpace
from cpsd.model_config import ModelConfig
from cpsd.models.label_vectors import label_information, read_label_embeddings

LABELS = LabelSpace(("cat", "traffic light", "dog"))
VECTORS = {
    "the": (9.0, 9.0, 9.0),
    "cat": (0.5, -1.25, 2.0),
    "traffic": (1.0, 2.0, 3.0),
    "light": (3.0, 0.0, -1.0),
    "dog": (-0.5, 0.25, 1e-3),
}


def text(path: Path, vectors: Mapping[str, Sequence[float]], *, header: str = "") -> Path:
    lines = [f"{word} {' '.join(map(str, numbers))}" for word, numbers in vectors.items()]
    path.write_text(header + "\n".join(lines) + "\n", encoding="utf-8")
    return path


def named(*names: str) -> LabelSpace:
    return LabelSpace(names)


def test_an_array_has_a_row_a_label(tmp_path: Path) -> None:
    array = np.arange(6, dtype=np.float64).reshape(3, 2)
    np.save(tmp_path / "vectors.npy", array)
    found = read_label_embeddings(tmp_path / "vectors.npy", LABELS, width=2)
    assert found.dtype == np.float32
    assert np.array_equal(found, array)


@pytest.mark.parametrize("header", ["", "5 3\n"])
def test_words_of_a_text_file_are_found_and_averaged(tmp_path: Path, header: str) -> None:
    found = read_label_embeddings(text(tmp_path / "v.txt", VECTORS, header=header), LABELS, width=3)
    assert found.dtype == np.float32
    np.testing.assert_allclose(
        found, [[0.5, -1.25, 2.0], [2.0, 1.0, 1.0], [-0.5, 0.25, 1e-3]], rtol=1e-6
    )


def test_the_header_of_word2vec_is_no_word(tmp_path: Path) -> None:
    # "red 3" has a word that is also how many words there are.
    path = text(tmp_path / "v.txt", {"red": (1.0, 2.0), "3": (3.0, 4.0)}, header="3 2\n")
    found = read_label_embeddings(path, named("red 3"), width=2)
    np.testing.assert_allclose(found, [[2.0, 3.0]])


def test_vectors_of_one_number_are_no_header(tmp_path: Path) -> None:
    path = text(tmp_path / "v.txt", {"cat": (1.5,), "dog": (2.5,)})
    assert read_label_embeddings(path, named("cat", "dog"), width=1).tolist() == [[1.5], [2.5]]


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("Cat", ("cat",)),
        ("CAT", ("cat",)),
        ("Traffic Light", ("traffic", "light")),
        ("traffic_light", ("traffic", "light")),
        ("traffic-light", ("traffic", "light")),
        ("dog/cat", ("dog", "cat")),
        ("the cat (dog)", ("the", "cat", "dog")),
        (" cat ", ("cat",)),
    ],
)
def test_labels_are_read_as_words_in_lower_case(
    tmp_path: Path, name: str, words: tuple[str, ...]
) -> None:
    found = read_label_embeddings(text(tmp_path / "v.txt", VECTORS), named(name), width=3)
    expected = np.mean([VECTORS[word] for word in words], axis=0)
    np.testing.assert_allclose(found[0], expected, rtol=1e-6)


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("Cat", "Cat"),
        ("traffic light", "traffic_light"),
        ("Traffic light", "Traffic_light"),
        ("Traffic light", "traffic_light"),
        ("Traffic Light", "traffic-light"),
    ],
)
def test_a_label_with_a_line_of_its_own_has_that_vector(
    tmp_path: Path, name: str, line: str
) -> None:
    path = text(tmp_path / "v.txt", {**VECTORS, line: (7.0, 8.0, 9.0)})
    assert read_label_embeddings(path, named(name), width=3).tolist() == [[7.0, 8.0, 9.0]]


def test_the_first_of_two_lines_of_a_word_counts(tmp_path: Path) -> None:
    path = text(tmp_path / "v.txt", {"cat": (1.0, 2.0)})
    path.write_text(path.read_text() + "cat 5 6\n")
    assert read_label_embeddings(path, named("cat"), width=2).tolist() == [[1.0, 2.0]]


def test_other_lines_may_be_anything(tmp_path: Path) -> None:
    # GloVe's largest file has words with spaces, and bytes that are no UTF-8 occur.
    path = tmp_path / "v.txt"
    path.write_bytes(b". . . 1 2\n\xff\xfe 1 2\n\n\xe2\x80\xa6 x y z\ncat 3 4 \r\ndog 5 6")
    assert read_label_embeddings(path, named("cat", "dog"), width=2).tolist() == [[3, 4], [5, 6]]


@pytest.mark.parametrize("first", [True, False])
def test_entries_of_several_words_are_none_of_their_first_word(first: bool, tmp_path: Path) -> None:
    path = tmp_path / "v.txt"
    lines = ["on 1 2", "on name@domain.com 3 4", "cat . name . 7 8", "cat 5 6"]
    path.write_text("\n".join(lines if first else reversed(lines)))
    assert read_label_embeddings(path, named("on", "cat"), width=2).tolist() == [[1, 2], [5, 6]]
    with pytest.raises(ModelError, match=r"'cat' has 2 numbers, model\.label_embedding_width is 1"):
        read_label_embeddings(path, named("cat"), width=1)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("dogg", r"'dogg', a word of the label 'dogg'\. Did you mean 'dog'\? Add a line for it"),
        ("traffic lihgt", r"'lihgt', a word of the label 'traffic lihgt'\. Did you mean 'light'\?"),
        # the nearest is a word that no label has
        ("thee", r"no vector for 'thee'.*Did you mean 'the'\?"),
        ("xylophone", r"no vector for 'xylophone', a word of the label 'xylophone'\. Add a line"),
        ("!?", r"no vector for '!\?', a word of the label '!\?'\. Add a line"),
    ],
)
def test_a_missing_word_is_named_with_the_nearest(tmp_path: Path, name: str, message: str) -> None:
    path = text(tmp_path / "v.txt", VECTORS)
    with pytest.raises(ModelError, match=message) as raised:
        read_label_embeddings(path, named("cat", name), width=3)
    assert str(path) in str(raised.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("cat 1 2 3\n", r"v\.txt, line 1: 'cat' has 3 numbers, model\.label_embedding_width is 2"),
        ("the 1 2\ncat 1\n", r"v\.txt, line 2: 'cat' has 1 numbers"),
        ("cat 1 two\n", r"v\.txt, line 1: what follows 'cat' is not all numbers"),
        ("cat 1 nan\n", r"the embedding of 'cat' is not finite"),
        ("cat 1 inf\n", r"the embedding of 'cat' is not finite"),
        ("", r"no vector for 'cat'"),
    ],
)
def test_a_text_file_that_does_not_fit_is_refused(
    tmp_path: Path, content: str, message: str
) -> None:
    path = tmp_path / "v.txt"
    path.write_text(content)
    with pytest.raises(ModelError, match=message):
        read_label_embeddings(path, named("cat"), width=2)


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros((3, 5)), r"shape \(3, 5\).*3 labels.*model\.label_embedding_width.*\(3, 2\)"),
        (np.zeros((2, 2)), r"shape \(2, 2\).*: \(3, 2\)"),
        (np.zeros(6), r"shape \(6,\)"),
        (np.array([[1, 2], [np.nan, 0], [0, 0]]), r"'traffic light' is not finite"),
        (np.array([["a", "b"]] * 3), r"damaged or holds no NumPy array of numbers"),
        (np.zeros(3, dtype=[("a", "f4"), ("b", "f4")]), r"damaged or holds no NumPy array"),
    ],
)
def test_an_array_that_does_not_fit_is_refused(
    tmp_path: Path, array: np.ndarray, message: str
) -> None:
    np.save(tmp_path / "v.npy", array)
    with pytest.raises(ModelError, match=message) as raised:
        read_label_embeddings(tmp_path / "v.npy", LABELS, width=2)
    assert "v.npy" in str(raised.value)


class Mischief:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return Path.touch, (Path(self.place),)  # type: ignore[return-value]

    def __init__(self, place: Path) -> None:
        self.place = place


def test_a_pickle_is_refused_and_not_run(tmp_path: Path) -> None:
    for number, path in enumerate((tmp_path / "object.npy", tmp_path / "pickle.npy")):
        mischief = Mischief(tmp_path / "ran")
        if number == 0:
            array = np.empty((3, 2), dtype=object)
            array[:] = mischief
            np.save(path, array, allow_pickle=True)
        else:
            path.write_bytes(pickle.dumps(mischief))
        with pytest.raises(ModelError, match="damaged or holds no NumPy array"):
            read_label_embeddings(path, LABELS, width=2)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    "damage",
    [
        lambda whole: whole[:-3],
        lambda whole: whole[:20],
        lambda whole: b"",
        lambda whole: b"<!doctype html>" + whole,
        # claims far more rows than any machine has memory for
        lambda whole: whole.replace(b"(3, 2), }" + b" " * 15, b"(999999999999999, 2), }" + b" "),
    ],
)
def test_a_damaged_array_is_refused(tmp_path: Path, damage: object) -> None:
    path = tmp_path / "v.npy"
    np.save(path, np.zeros((3, 2)))
    whole = path.read_bytes()
    path.write_bytes(damage(whole))  # type: ignore[operator]
    assert path.read_bytes() != whole
    with pytest.raises(ModelError, match=r"v\.npy is damaged or holds no NumPy array"):
        read_label_embeddings(path, LABELS, width=2)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    for path in (tmp_path / "none.txt", tmp_path):
        with pytest.raises(ModelError, match="does not exist or is not a file"):
            read_label_embeddings(path, LABELS, width=2)


def test_heads_get_the_files_embeddings_and_the_graph(tmp_path: Path) -> None:
    path = text(tmp_path / "v.txt", VECTORS)
    graph = LabelGraph.from_targets(np.zeros((2, 3), dtype=np.int8), LABELS)
    config = ModelConfig(label_embeddings=str(path), label_embedding_width=3)
    known = label_information(config, LABELS, graph)
    assert known.graph is graph
    assert known.embeddings is not None
    assert np.array_equal(known.embeddings, read_label_embeddings(path, LABELS, width=3))
    learned = label_information(ModelConfig(label_embedding_width=7), LABELS)
    assert learned.embeddings is None
    assert learned.graph is None
    assert learned.embedding_width == 7
