"""The copy of a run that lives at an address: made the same as what is whole there, and sent."""

import hashlib
import logging
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath

from filelock import FileLock, Timeout

from cpsd.addresses import copies_folder
from cpsd.copies import NothingThereError, file_system, reached
from cpsd.errors import RunError
from cpsd.files import read_json, write_json
from cpsd.folder_copy import FolderCopy
from cpsd.stage import MARKS, PARTIAL
from cpsd.whole_files import (
    MADE,
    WHOLE,
    Index,
    index_digest,
    last_index,
    write_index,
)

_BESIDE = ".runs"  # folder among the copies: what is known of the copy of a run

logger = logging.getLogger(__name__)


class InUseError(RunError):
    """Another process of this machine works on the copy."""


class RunCopy(FolderCopy):
    """The copy of a run on this machine.

    Args:
        address: of the run.
        folder: of the copy.
    """

    def __init__(self, address: str, folder: Path) -> None:
        super().__init__(address, folder)
        name = hashlib.sha256(address.encode("utf-8", "surrogatepass")).hexdigest()[:32]
        self._notes = copies_folder() / _BESIDE / f"{name}.json"
        self.number = 0
        self.index: Index = {}

    @contextmanager
    def held(self) -> Iterator[None]:
        """Hold the copy for this process.

        Raises:
            InUseError: another process of this machine holds it.
        """
        self._notes.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(self._notes.with_suffix(".lock"), blocking=False)
        try:
            lock.acquire()
        except Timeout as error:
            raise InUseError(
                f"{self.address} is in use by another process of this machine; wait for it or "
                "choose another --out."
            ) from error
        try:
            yield
        finally:
            lock.release()

    def bring(self, *, without: tuple[str, ...] = ()) -> bool:
        """Make the copy what is whole at the address, unless it is what that was sent from.

        Args:
            without: names of folders that are not wanted, of a copy that is only read.

        Returns:
            Whether a run has been there.

        Raises:
            RunError: there are files of others at the address, and no run.
        """
        notes = self._read_notes()
        found = last_index(self.address)
        if found is not None:
            self.number, self.index = found
        of_list = notes.get("list") == [self.number, index_digest(self.index)]
        if of_list and notes.get("complete"):
            return found is not None  # what the last process did not send is still here
        if found is None:
            if not without:
                self._begin()
            return False
        wanted = {name: file for name, file in self.index.items() if is_read(name, without)}
        for name in self.scan():
            if self.index.get(name) != self.as_it_is(name):
                (self.folder / name).unlink()
        broken = self.fetch(wanted)
        if broken:
            self._drop_stages_of(broken)
        self.write_notes(complete=not without)
        return True

    def _begin(self) -> None:
        """Begin a run where there is nothing."""
        system = file_system(self.address)
        with suppress(NothingThereError), reached(self.address):
            names = [str(name).rstrip("/") for name in system.ls(self.address, detail=False)]
            itself = str(system._strip_protocol(self.address)).rstrip("/")
            others = [n for n in names if n != itself and not n.endswith(f"/{WHOLE}")]
            if others:
                raise RunError(
                    f"{self.address} holds files that no run has written there; name another "
                    "address with --out."
                )
        # What an earlier run at this address has left here is not of this one.
        shutil.rmtree(self.folder, ignore_errors=True)
        self.write_notes(complete=True)

    def _drop_stages_of(self, broken: list[str]) -> None:
        """Remove the stages of which a file is not whole: they are done again."""
        logger.info(
            "%s: %s of its files are not whole there (%s), so that what they belong to is done "
            "again", self.address, len(broken), ", ".join(sorted(broken)[:5]),
        )  # fmt: skip
        for name in broken:
            parts = PurePosixPath(name).parts
            if PARTIAL in parts:
                stage = parts[: parts.index(PARTIAL) + 2]
                shutil.rmtree(self.folder.joinpath(*stage), ignore_errors=True)
        for mark in self.folder.rglob(f"{MARKS}/*.json"):
            run = mark.parent.parent
            outputs = read_json(mark)["outputs"]
            beginnings = [(run / output).relative_to(self.folder).as_posix() for output in outputs]
            if any(f"{name}/".startswith(f"{start}/") for name in broken for start in beginnings):
                mark.unlink()

    def send(self) -> bool:
        """Send what has changed, then the list of what is whole.

        Returns:
            Whether it could be done: not if files changed meanwhile.

        Raises:
            RunError: another process has gone on with the run.
            AddressError: the address cannot be reached or written to.
        """
        seen = self.scan()
        index = {name: file for name in seen if (file := self.as_it_is(name)) is not None}
        if index == self.index:
            return seen == self.scan()
        there = {file.key(name) for name, file in self.index.items() if index.get(name) == file}
        there |= {file.key(name) for name, file in self.index.items() if WHOLE in file.key(name)}
        todo = {file.key(name): name for name, file in index.items()}
        contents = {
            file.sha256: file.key(name)
            for name, file in self.index.items()
            if file.key(name) in there
        }
        try:
            self.put_all([name for key, name in todo.items() if key not in there], index, contents)
        except FileNotFoundError:
            return False
        if self.scan() != seen:
            return False
        write_index(self.address, self.number + 1, index)
        old = {file.key(name) for name, file in self.index.items()}
        self.number, self.index = self.number + 1, index
        self.write_notes(complete=True)
        self.forget(old - {file.key(name) for name, file in index.items()})
        return True

    def tidy(self) -> None:
        """Remove what was sent and is in no list, as by a killed process, and by its workers."""
        folder = f"{self.address}/{WHOLE}/objects"
        named = {file.key(name).rpartition("/")[2] for name, file in self.index.items()}
        names: list[object] = []
        with suppress(NothingThereError), reached(folder):
            names = file_system(folder).ls(folder, detail=False)
        objects = {str(name).rpartition("/")[2] for name in names} - named
        self.forget({f"{WHOLE}/objects/{name}" for name in objects if name})
        self.forget_folder(f"{WHOLE}/{MADE}")

    def _read_notes(self) -> dict[str, object]:
        try:
            notes = read_json(self._notes)
            self._known = {name: tuple(known) for name, known in notes["known"].items()}
        except (RunError, TypeError, KeyError, AttributeError):
            return {}
        return dict(notes)

    def write_notes(self, *, complete: bool) -> None:
        """Write down which list the copy is of, and the hashes of its files."""
        known = {name: list(told) for name, told in self._known.items()}
        of_list = [self.number, index_digest(self.index)]
        write_json(self._notes, {"list": of_list, "complete": complete, "known": known})


def is_read(name: str, without: tuple[str, ...]) -> bool:
    """Return whether a file lies in none of the folders ``without``, nor among the lists."""
    return not {*without, WHOLE}.intersection(PurePosixPath(name).parts)
