"""The files of stored soft labels: which there are, and whether they are as they were written."""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cpsd.data.records import Records
from cpsd.errors import RunError
from cpsd.files import read_json

MANIFEST = "manifest.json"
ROWS = "rows.npy"
_KEYS: dict[str, tuple[type, ...]] = {
    "labels": (list,),
    "strategies": (list,),
    "image": (dict,),
    "num_views": (int, type(None)),
    "num_images": (int,),
    "pictures": (str,),
    "chunk_size": (int,),
    "seed": (int, type(None)),
    "rows": (str,),
    "chunks": (dict,),
}


def chunk_name(start: int, chunk_size: int) -> str:
    """Return the file of the chunk that begins at position ``start``."""
    return f"{start // chunk_size:05d}.npy"


def chunk_manifest(chunk: int) -> str:
    """Return the manifest of a chunk that is written on its own, until there is one of all."""
    return f"manifest-{chunk:05d}.json"


def chunk_manifests(folder: Path) -> list[str]:
    """Return the manifests of chunks that were written on their own."""
    return sorted(path.name for path in folder.glob("manifest-*.json"))


def read_manifest(folder: Path, name: str = MANIFEST) -> dict[str, Any]:
    """Return what a manifest in ``folder`` says, by default that of the whole store.

    Raises:
        RunError: it is missing or damaged.
    """
    manifest = read_json(folder / name)
    known = manifest if isinstance(manifest, dict) else {}
    for key in sorted(_KEYS):
        if not isinstance(known.get(key, NotImplemented), _KEYS[key]):
            what = f"'{key}' holds something else" if key in known else f"it has no '{key}'"
            raise RunError(f"{folder / name} is damaged: {what}. {_remedy(folder)}")
    texts = [*known["labels"], *known["strategies"], *known["chunks"].values()]
    if known["chunk_size"] < 1 or not all(isinstance(text, str) for text in texts):
        raise RunError(f"{folder / name} is damaged: a name or size is none. {_remedy(folder)}")
    return dict(known)


def names_digest(records: Records, rows: Sequence[int]) -> str:
    """Return a hash of which pictures ``rows`` are: a row is only a number."""
    names = [records.paths[row] if row < len(records) else None for row in rows]
    return hashlib.sha256(json.dumps(names).encode()).hexdigest()


def checked(folder: Path, name: str, digest: str | None) -> Path:
    """Return the path of a file whose bytes are those of its SHA-256.

    Raises:
        RunError: they are not, or there is no such file.
    """
    path = folder / name
    if not path.is_file() or sha256(path) != digest:
        raise missing_or_damaged(folder, name)
    return path


def missing_or_damaged(folder: Path, name: str) -> RunError:
    """Return what to raise where a file is not what was written."""
    return RunError(f"The soft labels {folder / name} are missing or damaged. {_remedy(folder)}")


def sha256(path: Path) -> str:
    """Return the hash of a file."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _remedy(folder: Path) -> str:
    return f"Remove the folder {folder} and start the run again to have it made anew."
