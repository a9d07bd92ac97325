"""Fingerprints: what a stage's result depends on, as one hash."""

import hashlib
import importlib.util
import json
from dataclasses import asdict
from pathlib import Path

from cpsd.data.records import Records


def data_fingerprint(records: Records) -> str:
    """Return a hash over rows, targets, splits and the size of every picture file.

    Sizes stand in for contents: reading every picture would take minutes, and a picture that is
    replaced by another seldom keeps its size. Pictures that are left out count by their row.
    """
    sizes = [
        None if row in records.skipped else records.image_path(row).stat().st_size
        for row in range(len(records))
    ]
    return fingerprint(records.fingerprint(), sizes)


def fingerprint(*parts: object) -> str:
    """Return a SHA-256 over settings and other fingerprints."""
    plain = json.dumps(parts, default=asdict, sort_keys=True)
    return hashlib.sha256(plain.encode()).hexdigest()


def file_digest(name: str | None) -> str | None:
    """Return the hash of a local file, or what stands for none."""
    path = Path(name or "")
    if not path.is_file():
        return name
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def source_digest(factory: str | None) -> str | None:
    """Return the hash of the file that a factory ``package.module:function`` stands in.

    Other files that this one imports are not looked at.
    """
    module = None if factory is None else importlib.util.find_spec(factory.partition(":")[0])
    return None if module is None else file_digest(module.origin)
