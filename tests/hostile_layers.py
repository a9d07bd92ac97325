"""What lies around a file that gets mangled: a layer's files are made once, and laid each time."""

import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path

from hostile_data import lay_pack
from hostile_runs import lay_comparison, lay_model, lay_run, lay_soft_labels


@cache
def written(name: str) -> dict[str, bytes]:
    """Return the files that a layer writes, by their place."""
    layers = {
        "pack": lay_pack,
        "soft": lay_soft_labels,
        "model": lay_model,
        "run": lay_run,
        "comparison": lay_comparison,
    }
    with tempfile.TemporaryDirectory() as place:
        layers[name](Path(place))
        return {
            path.relative_to(place).as_posix(): path.read_bytes()
            for path in sorted(Path(place).rglob("*"))
            if path.is_file()
        }


def lay(name: str) -> Callable[[Path], None]:
    """Return what lays the files of a layer, made once."""

    def prepare(folder: Path) -> None:
        for place, content in written(name).items():
            (folder / place).parent.mkdir(parents=True, exist_ok=True)
            (folder / place).write_bytes(content)

    return prepare
