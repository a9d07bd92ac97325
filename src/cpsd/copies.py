"""Copies of what lies at addresses: fetched whole, and fetched again when it has changed.

fsspec reaches for addresses, in the main process alone: loader workers read copies, so that no
connection is inherited over a fork. It is imported when there is an address, and not before.

A copy is complete under its name or not there; what it is a copy of stands in its length and its
time of change, which is made from what the server says (time, ETag). So a look at a listing and at
a copy tells whether anything is to be fetched.
"""

import hashlib
import os
import threading
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import Any

from cpsd.addresses import address_of
from cpsd.errors import AddressError, CpsdError
from cpsd.files import TEMPORARY_SUFFIX, refusal

Progress = Callable[[int, int], None]
Info = Mapping[str, Any]
"""What a server says of a file or folder."""

AT_ONCE = 16
"""Files that are fetched or sent at the same time."""
_WORTH_LISTING = 10  # so many files of a folder are looked up by listing it, not one by one
_KNOWN_BY = (
    *("ETag", "etag", "LastModified", "last_modified", "mtime", "updated", "created"),
    *("md5Hash", "checksum", "generation", "content_md5"),
)
_TIMES = ("LastModified", "last_modified", "mtime", "updated", "created")
_BEFORE = 1_000_000_000  # seconds since 1970, of files of which no time is known
_WITHOUT_FOLDERS = frozenset({"s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "oss"})
# A server that does not answer is told in seconds; botocore would try for minutes.
_S3 = {
    "config_kwargs": {
        "connect_timeout": 10,
        "read_timeout": 60,
        "retries": {"max_attempts": 3, "mode": "standard"},
    }
}


class NothingThereError(AddressError):
    """There is nothing at an address."""


def file_system(address: str) -> Any:  # noqa: ANN401 - fsspec has no types
    """Return what reaches for ``address``.

    Raises:
        AddressError: no library knows of such addresses, or it is not installed.
    """
    import fsspec

    protocol = address.partition("://")[0]
    settings = dict(_S3) if protocol in ("s3", "s3a") else {}
    if protocol in ("http", "https"):
        settings = _patience()
    told = fsspec.config.conf.get(protocol, {})
    settings = {key: value for key, value in settings.items() if key not in told}
    with reached(address):
        return fsspec.core.url_to_fs(address, use_listings_cache=False, **settings)[0]


def _patience() -> dict[str, Any]:
    with suppress(ImportError):
        import aiohttp

        patience = aiohttp.ClientTimeout(total=None, sock_connect=10, sock_read=60)
        return {"client_kwargs": {"timeout": patience}}
    return {}


@contextmanager
def reached(address: str) -> Iterator[None]:
    """Say in a sentence why ``address`` cannot be reached, read or written.

    Raises:
        NothingThereError: there is nothing.
        FileExistsError: there is something where there should be nothing.
        AddressError: any other reason.
    """
    try:
        yield
    except (CpsdError, FileExistsError):
        raise
    # Every library has errors of its own, and hands on those of the libraries below it.
    except Exception as error:
        if isinstance(error, FileNotFoundError) and not _is_trouble(error.__cause__):
            raise NothingThereError(f"There is nothing at {address}; check it.") from error
        raise AddressError(f"{address} cannot be reached: {_reason(address, error)}") from error


def _is_trouble(cause: BaseException | None) -> bool:
    """Return whether a file is only said to be missing because the server was not reached."""
    status = getattr(cause, "status", None)
    if status is not None:
        return status not in (404, 410)
    return isinstance(cause, OSError | TimeoutError) and not isinstance(cause, FileNotFoundError)


def _reason(address: str, error: Exception) -> str:
    cause = error.__cause__
    if isinstance(error, FileNotFoundError) and isinstance(cause, Exception):
        error = cause
    text = " ".join(str(error).split())[:300] or type(error).__name__
    if isinstance(error, ImportError):
        remedy = ": pip install 'cpsd[s3]'" if address.startswith(("s3:", "s3a:")) else ""
        return f"a package is not installed ({text}){remedy}."
    if isinstance(error, ValueError) and text.startswith("Protocol not known"):
        return f"fsspec knows of no such protocol ({text})."
    if isinstance(error, PermissionError) or "credentials" in text.lower():
        return f"access is refused ({text}); check the credentials and what they allow."
    local = refusal(error)
    if local is not None:
        return local
    return f"{text.rstrip('.')}. Check the address, the network and the server."


def make_folder(address: str) -> None:
    """Make the folder at ``address``, where there are folders; a bucket is never made.

    Raises:
        AddressError: it cannot be made.
    """
    if address.partition("://")[0] not in _WITHOUT_FOLDERS:
        with reached(address):
            file_system(address).makedirs(address, exist_ok=True)


def info_at(address: str) -> Info:
    """Return what the server says of a file or folder.

    Raises:
        NothingThereError: there is nothing.
        AddressError: it cannot be asked.
    """
    system = file_system(address)
    with reached(address):
        info: Info = system.info(address)
        return info


def listed(folder: str) -> dict[str, Info]:
    """Return all files under the folder at an address, by their names relative to it.

    Raises:
        AddressError: it cannot be listed.
    """
    system = file_system(folder)
    with reached(folder):
        beginning = str(system._strip_protocol(folder)).rstrip("/") + "/"
        found: dict[str, Info] = system.find(folder, detail=True)
    return {
        str(name).removeprefix(beginning): info
        for name, info in found.items()
        if str(name).startswith(beginning) and not str(name).endswith("/")
    }


def fetch(places: Iterable[str | Path], progress: Progress | None = None) -> int:
    """Make the copies at ``places`` those of what lies at their addresses now.

    A place that is no copy's is left alone. Where there is nothing at the address there is no copy
    either, afterwards.

    Args:
        places: paths.
        progress: told how many of how many are done.

    Returns:
        How many were fetched.

    Raises:
        AddressError: an address cannot be reached, or a copy not be written.
    """
    wanted = {str(place): address_of(place) for place in places}
    todo = {Path(place): address for place, address in wanted.items() if address is not None}
    if not todo:
        return 0
    known = _looked_up(todo.values())

    def bring(copy: Path, address: str) -> bool:
        info = known[address] if address in known else _info_or_none(address)
        return _brought(copy, address, info)

    fetched = 0
    pool = ThreadPoolExecutor(AT_ONCE)
    try:
        for done, new in enumerate(pool.map(bring, todo.keys(), todo.values()), start=1):
            fetched += new
            if progress is not None:
                progress(done, len(todo))
    finally:
        pool.shutdown(cancel_futures=True)
    return fetched


def _looked_up(addresses: Iterable[str]) -> dict[str, Info | None]:
    """Return what servers say of files in folders of which many are wanted, by listing those."""
    by_folder: dict[str, list[str]] = defaultdict(list)
    for address in addresses:
        by_folder[address.rpartition("/")[0]].append(address)
    known: dict[str, Info | None] = {}
    for folder, inside in by_folder.items():
        if len(inside) < _WORTH_LISTING or folder.startswith("http"):
            continue
        system = file_system(folder)
        there: dict[str, Info] = {}
        with suppress(NothingThereError), reached(folder):
            there = {str(one["name"]): one for one in system.ls(folder, detail=True)}
        known |= {address: there.get(str(system._strip_protocol(address))) for address in inside}
    return known


def _info_or_none(address: str) -> Info | None:
    try:
        return info_at(address)
    except NothingThereError:
        return None


def _brought(copy: Path, address: str, info: Info | None) -> bool:
    """Make ``copy`` one of what the server says of; return whether it was fetched."""
    with reached(address):
        if info is None or info.get("type") == "directory":
            with suppress(FileNotFoundError, NotADirectoryError, IsADirectoryError):
                copy.unlink()
            return False
        size, time = info.get("size"), _time_of(info)
        with suppress(FileNotFoundError):
            there = copy.stat()
            if there.st_mtime_ns == time and size in (None, there.st_size):
                return False
        return _got(copy, address, size, time)


def _got(copy: Path, address: str, size: int | None, time: int) -> bool:
    """Fetch a file, whole or not at all; return False where there is none any more."""
    owner = f"{os.getpid()}.{threading.get_ident()}"
    temporary = copy.with_name(f".{copy.name[:100]}.{owner}{TEMPORARY_SUFFIX}")
    copy.parent.mkdir(parents=True, exist_ok=True)
    try:
        with reached(address):
            file_system(address).get_file(address, str(temporary))
        got = temporary.stat().st_size
        if size is not None and got != size:
            raise AddressError(
                f"{address} came in part only ({got:,} of {size:,} bytes); start the same "
                "command again."
            )
        os.utime(temporary, ns=(time, time))
        temporary.replace(copy)
    except NothingThereError:  # it went between the look and the fetch
        return False
    finally:
        temporary.unlink(missing_ok=True)
    return True


def _time_of(info: Info) -> int:
    """Return nanoseconds since 1970 that differ where what the server says of a file differs."""
    seconds = _BEFORE
    for key in _TIMES:
        time = info.get(key)
        if isinstance(time, datetime):
            seconds = int(time.timestamp())
            break
    # Listings and single answers give times of different precision: seconds are common to them.
    said = [
        (key, str(info[key]).strip('"'))
        for key in _KNOWN_BY
        if info.get(key) and not isinstance(info[key], datetime)
    ]
    digest = hashlib.blake2b(repr((said, info.get("size"))).encode(), digest_size=4).digest()
    return seconds * 10**9 + int.from_bytes(digest) % 10**9


def fetch_folder(
    address: str, copy: Path, wanted: Callable[[str], bool], progress: Progress | None = None
) -> set[str]:
    """Fetch the files of a folder at an address; its folders are there afterwards, all of them.

    Args:
        address: of the folder.
        copy: its copy.
        wanted: whether to fetch a file, by its name relative to the folder.
        progress: told how many of how many are done.

    Returns:
        The names of all files at the address.

    Raises:
        NothingThereError: there is nothing at the address.
        AddressError: it cannot be reached.
    """
    names = set(listed(address))
    if not names:
        raise NothingThereError(f"There is nothing at {address}; check it.")
    for folder in {str(Path(name).parent) for name in names}:
        with reached(f"{address}/{folder}"):
            (copy / folder).mkdir(parents=True, exist_ok=True)
    fetch([copy / name for name in names if wanted(name)], progress)
    return names
