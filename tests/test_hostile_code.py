"""Files that would run code: none of it is run."""

import io
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cpsd.array_files import DamagedArrayError, read_npy
from cpsd.errors import UserError
from cpsd.graph import LabelGraph
from cpsd.models.label_vectors import read_label_embeddings
from cpsd.models.weights import read_weights
from cpsd.training.checkpoint import checkpoint_to_resume
from hostile_data import LABELS
from hostile_runs import saved


class Payload:
    """Writes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return exec, (f"open({str(self.path)!r}, 'w').close()",)


def test_the_payload_works(tmp_path: Path) -> None:
    pickle.loads(pickle.dumps(Payload(tmp_path / "ran")))
    assert (tmp_path / "ran").exists()


def _object_array(payload: Payload) -> bytes:
    stream = io.BytesIO()
    array = np.empty(3, dtype=object)
    array[:] = payload
    np.save(stream, array, allow_pickle=True)
    return stream.getvalue()


def _archive(payload: Payload) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name in ("good", "bad", "labels", "num_images", "both_data"):
            archive.writestr(f"{name}.npy", _object_array(payload))
    return stream.getvalue()


CODE: dict[str, tuple[str, Callable[[Payload], bytes], Callable[[Path], object]]] = {
    "weights": ("w.pth", saved, read_weights),
    "weights in a state_dict": ("w.pt", lambda p: saved({"state_dict": {"a": p}}), read_weights),
    "old weights": ("w.ckpt", pickle.dumps, read_weights),
    "checkpoint": ("last.ckpt", saved, checkpoint_to_resume),
    "pickled embeddings": (
        "e.pkl",
        pickle.dumps,
        lambda path: read_label_embeddings(path, LABELS, width=1),
    ),
    "embeddings": (
        "e.npy",
        _object_array,
        lambda path: read_label_embeddings(path, LABELS, width=1),
    ),
    "array": ("a.npy", _object_array, read_npy),
    "mapped array": ("a.npy", _object_array, lambda path: read_npy(path, mapped=True)),
    "label graph": ("g.npz", _archive, LabelGraph.load),
}


@pytest.mark.parametrize("kind", CODE)
def test_code_in_files_is_not_run(kind: str, tmp_path: Path) -> None:
    name, write, read = CODE[kind]
    path, ran = tmp_path / name, tmp_path / "ran"
    path.write_bytes(write(Payload(ran)))
    with pytest.raises((UserError, DamagedArrayError)):
        read(path)
    assert not ran.exists()
