"""What a piece of a run is, and what a worker makes of what it is told."""

import os
import platform
from dataclasses import dataclass
from typing import Self

from cpsd import errors
from cpsd.cluster.demands import Gang
from cpsd.errors import RunError, UserError


@dataclass(frozen=True)
class Piece:
    """What a worker is told.

    Args:
        title: how the driver calls it.
        home: address of the run, or of the comparison that it belongs to; None where the run is in
            a folder, which all machines share.
        run: the run directory; of a run at an address, relative to that.
        stage: the stage's name.
        part: the piece of it; None for the stage itself.
        fingerprint: the stage's, as the driver has it.
        config: the run's settings as YAML.
        split_seed: that splits are drawn with.
        looked_at: file that remembers which pictures are bad; of a run at an address, relative to
            that.
        folder: the driver's working directory, which relative paths count from.
        threads: that compute.
        picture_memory: share of the machine's memory for decoded pictures.
        gang: the devices that its training is spread over; None for one.
    """

    title: str
    home: str | None
    run: str
    stage: str
    part: str | None
    fingerprint: str
    config: str
    split_seed: int
    looked_at: str
    folder: str
    threads: int
    picture_memory: float
    gang: Gang | None


@dataclass(frozen=True)
class Refusal:
    """Why a piece failed, where the user can mend it; a value, so that nobody tries it again.

    Args:
        kind: name of the error's class in ``cpsd.errors``.
        message: of the error.
    """

    kind: str
    message: str

    @classmethod
    def of(cls, error: UserError) -> Self:
        """Return what is told of an error."""
        module = UserError.__module__
        kinds = [kind.__name__ for kind in type(error).__mro__ if kind.__module__ == module]
        return cls(kinds[0], str(error))

    def error(self) -> UserError:
        """Return the error again."""
        found: UserError = getattr(errors, self.kind)(self.message)
        return found


def enter(piece: Piece) -> None:
    """Go to the folder that relative paths count from; of a run at an address there may be none."""
    try:
        os.chdir(piece.folder)
    except OSError as error:
        if piece.home is not None:
            return
        raise RunError(
            f"The machine {platform.node()} has no folder {piece.folder} ({error.strerror}). The "
            "run directory, the data and the folder that the command is started in must lie at the "
            "same paths on all machines, on a disk that they share."
        ) from error
