"""A folder of this machine whose files are to be the same as files at an address."""

import os
import platform
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath

from cpsd.copies import AT_ONCE, NothingThereError, file_system, make_folder, reached
from cpsd.errors import CpsdError
from cpsd.files import TEMPORARY_SUFFIX
from cpsd.stage import MARKS
from cpsd.whole_files import Index, WholeFile, digest_of

Seen = dict[str, tuple[int, int]]
"""Length and time of change of files, by name."""
Key = Callable[[str, WholeFile], str]
"""Says where a file lies, relative to the address."""
WORTH_COPYING = 2**20
"""Bytes from which on the server is asked to copy what it has; below, sending takes as long."""


def key_in_run(name: str, file: WholeFile) -> str:
    """Return where a file of a run lies, relative to the run's address."""
    return file.key(name)


class FolderCopy:
    """A folder here, and what fetches its files from an address and sends them there.

    Args:
        address: of the folder there.
        folder: here.
        key: where files lie at the address.
    """

    def __init__(self, address: str, folder: Path, key: Key = key_in_run) -> None:
        self.address = address
        self.folder = folder
        self._key = key
        self._known: dict[str, tuple[int, int, str]] = {}

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

    def as_it_is(self, name: str) -> WholeFile | None:
        """Return a file of the folder; its hash is known if it has not changed."""
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

    def fetch(self, files: Index) -> list[str]:
        """Fetch those files that are not here.

        Returns:
            The names of those that are not whole at the address: here they stay as they are.

        Raises:
            AddressError: it cannot be reached.
        """
        with self._fetched(files) as (whole, broken):
            for name in whole:
                self._temporary(name).replace(self.folder / name)
        return broken

    def fetch_all(self, files: Index) -> bool:
        """Fetch those files that are not here, if all are whole; return whether they are.

        They are put in place in the order of ``files``, when the last one is there.

        Raises:
            AddressError: the address cannot be reached.
        """
        with self._fetched(files) as (whole, broken):
            for name in [] if broken else whole:
                self._temporary(name).replace(self.folder / name)
        return not broken

    @contextmanager
    def _fetched(self, files: Index) -> Iterator[tuple[list[str], list[str]]]:
        """Yield which files are here under temporary names, and which are not whole."""
        todo = {name: file for name, file in files.items() if self.as_it_is(name) != file}
        try:
            with ThreadPoolExecutor(AT_ONCE) as pool:
                got = dict(zip(todo, pool.map(self._got, *_columns(todo)), strict=True))
            yield [name for name in todo if got[name]], [name for name in todo if not got[name]]
        finally:
            for name in todo:
                self._temporary(name).unlink(missing_ok=True)

    def _temporary(self, name: str) -> Path:
        place = self.folder / name
        here = f"{platform.node()}.{os.getpid()}"
        return place.with_name(f".{place.name}.{here}{TEMPORARY_SUFFIX}")

    def _got(self, name: str, file: WholeFile) -> bool:
        """Fetch a file under its temporary name; return whether it is whole."""
        temporary, there = self._temporary(name), f"{self.address}/{self._key(name, file)}"
        try:
            temporary.parent.mkdir(parents=True, exist_ok=True)
            with reached(there):
                file_system(there).get_file(there, str(temporary))
        except NothingThereError:
            return False
        return temporary.stat().st_size == file.size and digest_of(temporary) == file.sha256

    def put_all(self, names: Sequence[str], files: Index, there: Mapping[str, str]) -> None:
        """Send files; what the server has elsewhere, it is asked to copy.

        Args:
            names: which.
            files: with these and others.
            there: where at the address a content lies, by its hash.

        Raises:
            FileNotFoundError: a file is not here any more.
            AddressError: one cannot be sent.
        """
        first = {files[name].sha256: name for name in reversed(names)}
        sent = [name for name in names if first[files[name].sha256] == name]
        again = [name for name in names if first[files[name].sha256] != name]
        with ThreadPoolExecutor(AT_ONCE) as pool:
            list(pool.map(lambda name: self._put(name, files[name], there), sent))
            there = {**there, **{files[n].sha256: self._key(n, files[n]) for n in sent}}
            list(pool.map(lambda name: self._put(name, files[name], there), again))

    def _put(self, name: str, file: WholeFile, there: Mapping[str, str]) -> None:
        path, place = self.folder / name, f"{self.address}/{self._key(name, file)}"
        make_folder(place.rpartition("/")[0])
        system, same = file_system(place), there.get(file.sha256)
        if same is not None and file.size >= WORTH_COPYING:
            with suppress(NotImplementedError, NothingThereError), reached(place):
                system.cp_file(f"{self.address}/{same}", place)
                return
        try:
            with reached(place):
                system.put_file(str(path), place)
        except NothingThereError:
            path.stat()  # what is not there may be the file, moved to its place meanwhile
            raise

    def forget(self, keys: set[str]) -> None:
        """Remove what no list names any more; what cannot be removed is only in the way."""
        for key in keys:
            with suppress(CpsdError), reached(f"{self.address}/{key}"):
                file_system(self.address).rm_file(f"{self.address}/{key}")

    def forget_folder(self, key: str) -> None:
        """Remove a folder at the address; what cannot be removed is only in the way."""
        with suppress(CpsdError), reached(f"{self.address}/{key}"):
            file_system(self.address).rm(f"{self.address}/{key}", recursive=True)


def _columns(files: Index) -> tuple[list[str], list[WholeFile]]:
    return [*files.keys()], [*files.values()]


def _stays_here(name: str) -> bool:
    parts = PurePosixPath(name).parts
    return (parts[-1] == "lock" and MARKS in parts) or any(".rank-" in part for part in parts[:-1])
