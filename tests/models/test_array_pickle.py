"""Pickled arrays: every way NumPy writes them, and that nothing else is even looked up."""

import pickle
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from cpsd.errors import ModelError
from cpsd.labels import LabelSpace
from cpsd.models.array_pickle import read_array_pickle
from cpsd.models.label_vectors import read_label_embeddings

VALUES = np.random.default_rng(0).standard_normal((4, 3))


class TouchesAFile:
    """Pickles to a call that leaves a mark when it is run."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.mark,)


def written(path: Path, content: object, protocol: int = pickle.DEFAULT_PROTOCOL) -> Path:
    path.write_bytes(pickle.dumps(content, protocol=protocol))
    return path


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize(
    "array",
    [
        VALUES,
        VALUES.astype(np.float32),
        VALUES.astype(np.float16),
        VALUES.astype(">f8"),
        np.asfortranarray(VALUES),
        VALUES[:, ::2],
        np.arange(6).reshape(2, 3),
    ],
    ids=["f8", "f4", "f2", "big-endian", "columns first", "scattered", "integers"],
)
def test_arrays_come_back_in_every_protocol(
    tmp_path: Path, array: NDArray[Any], protocol: int
) -> None:
    found = read_array_pickle(written(tmp_path / "a.pkl", array, protocol))
    assert found.dtype == array.dtype
    np.testing.assert_array_equal(found, array)


def test_what_python_2_and_an_old_numpy_wrote_is_read(tmp_path: Path) -> None:
    numbers = struct.pack("<2f", 1.5, -2.25)
    content = (
        b"\x80\x02cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R"
        b"(K\x01K\x01K\x02\x86cnumpy\ndtype\nU\x02f4K\x00K\x01\x87R"
        b"(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89U\x08" + numbers + b"tb."
    )
    (tmp_path / "a.pkl").write_bytes(content)
    assert read_array_pickle(tmp_path / "a.pkl").tolist() == [[1.5, -2.25]]


def test_code_is_refused_by_name_and_not_run(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    for content in (TouchesAFile(mark), [VALUES, TouchesAFile(mark)], {"a": TouchesAFile(mark)}):
        path = written(tmp_path / "a.pkl", content)
        with pytest.raises(ModelError, match=r"a\.pkl holds '.*', not one NumPy array of numbers"):
            read_array_pickle(path)
        assert not mark.exists()
        pickle.loads(path.read_bytes())  # the same file would run it when trusted
        assert mark.exists()
        mark.unlink()


def test_an_array_of_objects_is_refused_and_they_are_not_made(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    array = np.array([TouchesAFile(mark)], dtype=object)
    with pytest.raises(ModelError, match="not one NumPy array of numbers"):
        read_array_pickle(written(tmp_path / "a.pkl", array))
    assert not mark.exists()
    with pytest.raises(ModelError, match="content is not numbers, not one NumPy array"):
        read_array_pickle(written(tmp_path / "a.pkl", np.array([None, 3], dtype=object)))


@pytest.mark.parametrize(
    "name", ["os.system", "builtins.eval", "numpy.load", "numpy.core.multiarray.fromfile"]
)
def test_no_other_name_is_looked_up(tmp_path: Path, name: str) -> None:
    module, _, function = name.rpartition(".")
    content = f"c{module}\n{function}\n(S'1'\ntR.".encode()
    (tmp_path / "a.pkl").write_bytes(content)
    with pytest.raises(ModelError, match=f"holds '{name}', not one"):
        read_array_pickle(tmp_path / "a.pkl")


@pytest.mark.parametrize(
    "content", [3, [1.0, 2.0], {"a": VALUES}, (VALUES, VALUES), np.array(["word"]), np.float64(2)]
)
def test_other_content_is_refused(tmp_path: Path, content: object) -> None:
    with pytest.raises(ModelError, match="not one NumPy array of numbers"):
        read_array_pickle(written(tmp_path / "a.pkl", content))


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"<html>Not found</html>",
        pickle.dumps(VALUES)[:-20],
        pickle.dumps(VALUES).replace(b"K\x04K\x03\x86", b"K\x04K\x07\x86"),
    ],
    ids=["empty", "page", "cut off", "another shape than its bytes"],
)
def test_a_damaged_file_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.pkl").write_bytes(content)
    with pytest.raises(ModelError, match=r"a\.pkl is damaged or holds no pickled NumPy array"):
        read_array_pickle(tmp_path / "a.pkl")


def test_label_embeddings_are_read_from_it(tmp_path: Path) -> None:
    labels = LabelSpace(("ant", "bee", "cat", "dog"))
    path = written(tmp_path / "glove.pkl", VALUES)
    found = read_label_embeddings(path, labels, width=3)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, VALUES, rtol=1e-6)
    with pytest.raises(ModelError, match=r"shape \(4, 3\).*\(4, 300\)"):
        read_label_embeddings(path, labels, width=300)
    with pytest.raises(ModelError, match=r"none\.pkl does not exist"):
        read_label_embeddings(tmp_path / "none.pkl", labels, width=3)
