"""A training on several devices of a cluster: its piece leads, an actor for each other follows.

Ray places a gang's members together, when there is room for all of them. Those that follow work
in folders of their own, on what there is to go on from as the one that leads has it, and leave
nothing. A member that is lost ends the one that leads, whose piece Ray then gives to another
worker: that gathers a gang anew and goes on from the last checkpoint, as after any loss.
"""

import os
import socket
import threading
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext, suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import ray
import torch
from threadpoolctl import threadpool_limits

from cpsd.addresses import copies_folder
from cpsd.arguments import config_from_yaml
from cpsd.cluster.demands import Gang
from cpsd.cluster.piece import Piece, Refusal, enter
from cpsd.cluster.piece_copies import PieceCopy, folder_of_piece
from cpsd.cluster.piece_stage import stage_at_address, stage_in_folder
from cpsd.computing import device_of
from cpsd.cost import Cost
from cpsd.errors import TrainingError, UserError
from cpsd.files import plain_file_errors
from cpsd.process_group import LOST, formed, met
from cpsd.stage import Stage

SECONDS_TO_END = 10.0
"""For followers to say why they have ended, and to remove what they have worked in."""
_EXIT_LOST = 1
"""Exit code of a leader that has lost a follower."""
_LOGS = "tensorboard"
"""Folder of an unfinished training that nothing goes on from."""


@dataclass(frozen=True)
class Meeting:
    """Where the members of a gang find each other.

    Args:
        address: of the machine of the one that leads.
        port: where it waits for the others.
    """

    address: str
    port: int


class Follower:
    """A member that does not lead; an actor, so that nothing of it stays in a worker."""

    def __init__(self, piece: Piece, gang: Gang, rank: int) -> None:
        self._piece = piece
        self._gang = gang
        self._rank = rank
        self._ending = ExitStack()
        self._telling: Callable[[], AbstractContextManager[None]] = nullcontext

    def prepare(self) -> Refusal | None:
        """Load what the training needs; return why that cannot be, if so."""

        def work() -> None:
            enter(self._piece)
            torch.set_num_threads(self._piece.threads)
            worker, home = uuid.uuid4().hex, self._piece.home
            self._folder = self._ending.enter_context(folder_of_piece(worker))
            if home is None:
                self._stage, _ = stage_in_folder(self._piece)
            else:
                copy = PieceCopy(home, self._piece.run, worker, self._folder, lambda made: None)
                self._telling = copy.telling_addresses
                with copy.telling_addresses():
                    self._stage = stage_at_address(self._piece, copy)

        return self._refusal(work)

    def take(self, begun: Sequence[Any]) -> Refusal | None:
        """Have what the stage has so far in a folder of its own; return why that cannot be.

        Args:
            begun: the reference to files by name, in a list: so nobody holds them for longer.
        """

        def work() -> None:
            _write(ray.get(begun[0]), self._folder / self._stage.begun)

        return self._refusal(work)

    def follow(self, meeting: Meeting) -> Refusal | None:
        """Train with the others, who meet there; return why that failed."""

        def work() -> None:
            with (
                self._ending,
                threadpool_limits(self._piece.threads),
                _member(self._piece, self._gang, self._rank, meeting),
            ):
                self._stage.work(self._folder / self._stage.begun)

        return self._refusal(work)

    def leave(self) -> None:
        """Remove what this member has worked in."""
        self._ending.close()

    def _refusal(self, work: Callable[[], None]) -> Refusal | None:
        """Do some work; return why the user has to do something first, if so."""
        try:
            with self._telling(), plain_file_errors(copies_folder()):
                work()
        except UserError as error:
            return Refusal.of(error)
        return None


@contextmanager
def spread(piece: Piece, stage: Stage) -> Iterator[Stage]:
    """Yield ``stage`` with work that the piece's gang does together, if there is one.

    The gang is in the placement group that this task is in, and ends with the block.

    Raises:
        UserError: what a member cannot do; by the work, what it raises here or in another member.
    """
    if piece.gang is None:
        yield stage
        return
    followers = [_follower(piece, piece.gang, rank) for rank in range(1, piece.gang.size)]
    try:
        _require([follower.prepare.remote() for follower in followers])
        yield replace(stage, work=partial(_work_together, piece, piece.gang, stage, followers))
    finally:
        leaving = [follower.leave.remote() for follower in followers]
        ray.wait(leaving, num_returns=len(leaving), timeout=SECONDS_TO_END)
        for follower in followers:
            ray.kill(follower)


def _work_together(
    piece: Piece, gang: Gang, stage: Stage, followers: Sequence[Any], folder: Path
) -> Cost:
    """Do the work of ``stage`` in ``folder`` with those that follow."""
    begun = [ray.put(_read(folder))]
    _require([follower.take.remote(begun) for follower in followers])
    begun.clear()
    util: Any = ray.util
    meeting = Meeting(util.get_node_ip_address(), _free_port())
    following = [follower.follow.remote(meeting) for follower in followers]
    try:
        with _ending_with(following), _member(piece, gang, 0, meeting):
            return stage.work(folder)
    except TrainingError as error:
        if str(error) != LOST:
            raise
        raise _why(following) or error from error
    finally:
        ray.wait(following, num_returns=len(following), timeout=SECONDS_TO_END)


def _require(asked: Sequence[Any]) -> None:
    """Wait until followers have done something; raise what one of them could not do."""
    for one in asked:
        refusal = _answer(one)
        if refusal is not None:
            raise refusal.error()


def _read(folder: Path) -> dict[str, bytes]:
    """Return the files of a folder by name, but for logs."""
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    names = {path: path.relative_to(folder) for path in files}
    return {
        name.as_posix(): path.read_bytes()
        for path, name in names.items()
        if _LOGS not in name.parts
    }


def _write(files: Mapping[str, bytes], folder: Path) -> None:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    folder.mkdir(parents=True, exist_ok=True)


def _follower(piece: Piece, gang: Gang, rank: int) -> Any:  # noqa: ANN401 - Ray has no types
    util: Any = ray.util
    placed = util.scheduling_strategies.PlacementGroupSchedulingStrategy(
        util.get_current_placement_group(), gang.bundle(rank)
    )
    actor: Any = ray.remote(Follower)
    return actor.options(
        name=f"{piece.title} ({rank + 1} of {gang.size}) {os.getpid()}",
        num_cpus=gang.member.cpus,
        num_gpus=gang.member.gpus,
        memory=gang.member.memory,
        scheduling_strategy=placed,
    ).remote(piece, gang, rank)


@contextmanager
def _member(piece: Piece, gang: Gang, rank: int, meeting: Meeting) -> Iterator[None]:
    """Be a member of the gang, whom Lightning takes for one that torchrun has started."""
    started = {
        "RANK": rank, "WORLD_SIZE": gang.size, "GROUP_RANK": rank, "LOCAL_RANK": 0,
        "LOCAL_WORLD_SIZE": 1, "TORCHELASTIC_RUN_ID": "cpsd",
    }  # fmt: skip
    on_cpu = device_of(config_from_yaml(piece.config)).type == "cpu"
    os.environ.update({name: str(value) for name, value in started.items()})
    try:
        store = met(rank, gang.size, meeting.address, meeting.port)
        with formed(rank, gang.size, on_cpu=on_cpu, store=store):
            yield
    finally:
        for name in started:
            os.environ.pop(name, None)


@contextmanager
def _ending_with(following: Sequence[Any]) -> Iterator[None]:
    """End this process when a follower is lost meanwhile: Ray gives the piece to another."""
    over = threading.Event()

    def watch() -> None:
        left = [*following]
        while left and not over.is_set():
            ended, left = ray.wait(left, timeout=0.5)
            for follower in ended:
                with suppress(ray.exceptions.RayTaskError):  # told where its answer is read
                    _answer(follower)

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield
    finally:
        over.set()
        watcher.join()


def _answer(asked: Any) -> Refusal | None:  # noqa: ANN401 - Ray has no types
    """Return what a follower answers; end this process if it is lost."""
    try:
        answer: Refusal | None = ray.get(asked)
    except ray.exceptions.RayTaskError:  # an error of the code is no loss
        raise
    except ray.exceptions.RayError:
        os._exit(_EXIT_LOST)
    return answer


def _why(following: Sequence[Any]) -> UserError | None:
    """Return what a follower says of its end, where that is more than that another has ended."""
    ended, _ = ray.wait([*following], num_returns=len(following), timeout=SECONDS_TO_END)
    refusals = [refusal for refusal in map(_answer, ended) if refusal is not None]
    return next((one.error() for one in refusals if one.message != LOST), None)


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("", 0))
        port: int = found.getsockname()[1]
        return port
