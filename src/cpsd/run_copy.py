"""The copy of a run that lives at an address: made the same as what is whole there, and sent."""

import hashlib
import logging
import os
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath

from filelock import FileLock, Timeout

from cpsd.addresses import copies_folder
from cpsd.copies import AT_ONCE, NothingThereError, file_system, make_folder, reached
from cpsd.errors import CpsdError, RunError
from cpsd.files import TEMPORARY_SUFFIX, read_json, write_json
from cpsd.run import MARKS, PARTIAL
from cpsd.whole_files import (
    WHOLE,
    Index,
    WholeFile,
    digest_of,
    index_digest,
    last_index,
    write_index,
)

_BESIDE = ".runs"  # folder among the copies: what is known of the copy of a run

logger = logging.getLogger(__name__)

Seen = dict[str, tuple[int, int]]
"""Length and time of change of files, by name."""


class InUseError(RunError):
    """Another process of this machine works on the copy."""


class RunCopy:
    """The copy of a run on this machine.

    Args:
        address: of the run.
        folder: of the copy.
    """

    def __init__(self, address: str, folder: Path) -> None:
        self.address = address
        self.folder = folder
        name = hashlib.sha256(address.encode("utf-8", "surrogatepass")).hexdigest()[:32]
        self._notes = copies_folder() / _BESIDE / f"{name}.json"
        self._known: dict[str, tuple[int, int, str]] = {}
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
            if self.index.get(name) != self._as_it_is(name):
                (self.folder / name).unlink()
        with ThreadPoolExecutor(AT_ONCE) as pool:
            whole = list(pool.map(self._fetched, wanted.keys(), wanted.values()))
        broken = [name for name, is_whole in zip(wanted, whole, strict=True) if not is_whole]
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

    def _fetched(self, name: str, file: WholeFile) -> bool:
        """Fetch a file, unless it is here; return whether it is whole."""
        place = self.folder / name
        if self._as_it_is(name) == file:
            return True
        temporary = place.with_name(f".{place.name}.{os.getpid()}{TEMPORARY_SUFFIX}")
        try:
            place.parent.mkdir(parents=True, exist_ok=True)
            there = f"{self.address}/{file.key(name)}"
            with reached(there):
                file_system(there).get_file(there, str(temporary))
            if temporary.stat().st_size != file.size or digest_of(temporary) != file.sha256:
                return False
            temporary.replace(place)
        except NothingThereError:
            return False
        finally:
            temporary.unlink(missing_ok=True)
        return True

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

    def scan(self) -> Seen:
        """Return the files that belong to the run, completion marks first.

        What a mark says is there was put in place before it.
        """
        found: Seen = {}
        for place, _, files in os.walk(self.folder):
            for file in files:
                path = Path(place, file)
                name = path.relative_to(self.folder).as_posix()
                if not file.endswith(TEMPORARY_SUFFIX) and not _stays_here(name):
                    with suppress(FileNotFoundError):
                        status = path.stat()
                        found[name] = (status.st_size, status.st_mtime_ns)
        return dict(sorted(found.items(), key=lambda one: f"/{MARKS}/" not in f"/{one[0]}"))

    def _as_it_is(self, name: str) -> WholeFile | None:
        """Return a file of the copy; its hash is known if it has not changed."""
        path = self.folder / name
        try:
            status = path.stat()
            seen = (status.st_size, status.st_mtime_ns)
            known = self._known.get(name)
            if known is None or known[:2] != seen:
                known = self._known[name] = (*seen, digest_of(path))
        except (FileNotFoundError, NotADirectoryError):
            return None
        return WholeFile(known[0], known[2])

    def send(self) -> bool:
        """Send what has changed, then the list of what is whole.

        Returns:
            Whether it could be done: not if files changed meanwhile.

        Raises:
            RunError: another process has gone on with the run.
            AddressError: the address cannot be reached or written to.
        """
        seen = self.scan()
        index = {name: file for name in seen if (file := self._as_it_is(name)) is not None}
        if index == self.index:
            return seen == self.scan()
        there = {file.key(name) for name, file in self.index.items() if index.get(name) == file}
        there |= {file.key(name) for name, file in self.index.items() if WHOLE in file.key(name)}
        todo = {file.key(name): name for name, file in index.items()}
        todo = {key: name for key, name in todo.items() if key not in there}
        try:
            with ThreadPoolExecutor(AT_ONCE) as pool:
                list(pool.map(self._put, todo.keys(), todo.values()))
        except FileNotFoundError:
            return False
        if self.scan() != seen:
            return False
        write_index(self.address, self.number + 1, index)
        old = {file.key(name) for name, file in self.index.items()}
        self.number, self.index = self.number + 1, index
        self.write_notes(complete=True)
        self._forget(old - {file.key(name) for name, file in index.items()})
        return True

    def _put(self, key: str, name: str) -> None:
        """Send a file.

        Raises:
            FileNotFoundError: it is not here any more.
            AddressError: it cannot be sent.
        """
        path, there = self.folder / name, f"{self.address}/{key}"
        make_folder(there.rpartition("/")[0])
        try:
            with reached(there):
                file_system(there).put_file(str(path), there)
        except NothingThereError:
            path.stat()  # what is not there may be the file, moved to its place meanwhile
            raise

    def _forget(self, keys: set[str]) -> None:
        """Remove what no list names any more; what cannot be removed is only in the way."""
        for key in keys:
            with suppress(CpsdError), reached(f"{self.address}/{key}"):
                file_system(self.address).rm_file(f"{self.address}/{key}")

    def tidy(self) -> None:
        """Remove what was sent of unfinished stages and is in no list, as by a killed process."""
        folder = f"{self.address}/{WHOLE}/objects"
        named = {file.key(name).rpartition("/")[2] for name, file in self.index.items()}
        names: list[object] = []
        with suppress(NothingThereError), reached(folder):
            names = file_system(folder).ls(folder, detail=False)
        objects = {str(name).rpartition("/")[2] for name in names} - named
        self._forget({f"{WHOLE}/objects/{name}" for name in objects if name})

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


def _stays_here(name: str) -> bool:
    parts = PurePosixPath(name).parts
    return (parts[-1] == "lock" and MARKS in parts) or any(".rank-" in part for part in parts[:-1])
