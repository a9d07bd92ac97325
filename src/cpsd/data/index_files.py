"""Files of a data set in a folder that say which pictures there are and what labels they have."""

import os
from pathlib import Path

from cpsd.config import DataConfig
from cpsd.errors import DataError


def require_inside(path: Path, root: Path, config: DataConfig) -> None:
    """Refuse a file that a link puts outside its data set, and one that is no file, unopened.

    A folder that comes from elsewhere shall not choose what else on the machine is read; a table
    that the user names is their choice.

    Args:
        path: the file; where there is none, or can be none, its reader says so.
        root: the folder of the data set, which may itself be a link.
        config: its ``outside_root`` may allow links.

    Raises:
        DataError: it lies elsewhere, or is a pipe or device.
    """
    inside = os.path.join(os.path.realpath(root), "")  # noqa: PTH118
    if config.outside_root != "follow" and not os.path.realpath(path).startswith(inside):
        raise DataError(
            f"{path} is a link that leads out of the data root {root}; put the file itself there, "
            "or set data.outside_root to 'follow'."
        )
    try:
        is_special = path.exists() and not path.is_file() and not path.is_dir()
    except OSError:  # of a name that is too long, for one
        return
    if is_special:
        raise DataError(f"{path} is a pipe or device, not a file.")
