"""Errors that a user can mend.

    CpsdError
    └── UserError            exit code 2, one or two plain sentences, no traceback
        ├── ConfigError      a setting: unknown key, bad value, settings that contradict each other
        ├── DataError        a data set: a row, a file, a picture, a label
        ├── PartitionError   a label graph or a partition
        ├── ModelError       a backbone, a weights file, a model directory, an ensemble
        ├── RunError         a run directory: in use, changed settings, damaged files
        ├── AddressError     an address (s3://...): malformed, out of reach, refused
        └── TrainingError    a loss that is not finite, memory that ran out

Every message says what is wrong and where (file, row or key), what was found, and what would do.
"""

import difflib
import traceback
from collections.abc import Iterable

EXIT_USER_ERROR = 2
"""Exit code of a command that the user can mend."""


class Preempted(KeyboardInterrupt):
    """The system wants the process to end, as one that gives its place to another (SIGTERM)."""


class CpsdError(Exception):
    """Root of all errors that this package raises on purpose."""


class UserError(CpsdError):
    """Something the user gave cannot be used; the message says what would do."""


class ConfigError(UserError, ValueError):
    """A setting is unknown, has a bad value or contradicts another."""


class DataError(UserError, ValueError):
    """A data set, a row of it, a picture or a label cannot be used."""


class PartitionError(UserError, ValueError):
    """A label graph cannot be cut as asked, or a partition file does not fit."""


class ModelError(UserError, ValueError):
    """A backbone, a weights file, a model directory or an ensemble does not fit."""


class RunError(UserError, RuntimeError):
    """A run directory is in use, holds other settings, or is damaged."""


class AddressError(UserError, RuntimeError):
    """An address is malformed, or what lies at it cannot be reached, read or written."""


class TrainingError(UserError, RuntimeError):
    """Training cannot go on: a loss that is not finite, or no memory left."""


def did_you_mean(name: str, choices: Iterable[str]) -> str:
    """Return `` Did you mean 'x'?`` for the choice nearest to ``name``, or an empty string.

    Example:
        >>> did_you_mean("epoch", ["epochs", "seed"])
        " Did you mean 'epochs'?"
        >>> did_you_mean("zzz", ["epochs"])
        ''
    """
    by_folded = {choice.casefold(): choice for choice in choices}
    near = difflib.get_close_matches(name.casefold(), by_folded, n=1)
    return f" Did you mean '{by_folded[near[0]]}'?" if near else ""


def is_of_killed_loader(error: BaseException) -> bool:
    """Return whether a process that loads pictures was killed, which torch raises anywhere.

    torch says so wherever this process is at the moment, so that whoever goes on after any error
    has to let this one pass; or a batch was being taken over from the loader's socket.
    """
    if isinstance(error, RuntimeError) and "DataLoader worker" in str(error):
        return True
    is_broken = isinstance(error, RuntimeError | EOFError | ConnectionError | FileNotFoundError)
    frames = traceback.walk_tb(error.__traceback__)
    return is_broken and any(at.f_code.co_name == "rebuild_storage_fd" for at, _ in frames)
