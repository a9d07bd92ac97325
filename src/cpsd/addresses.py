"""Addresses (``s3://bucket/photos``), and where this machine keeps copies of what lies there.

A copy's place says what it is a copy of: ``s3://bucket/photos/a.jpg`` is copied to
``COPIES/s3/bucket/photos/a.jpg``. So an address becomes an ordinary path, relative names, links and
``..`` mean what they mean in paths, and whatever names a copy can say its address instead.

Nothing here reaches for anything; ``cpsd.copies`` does.
"""

import os
import posixpath
import re
from functools import lru_cache
from pathlib import Path

from cpsd.errors import AddressError

CACHE = "CPSD_CACHE"
"""Environment variable with the folder of copies; by default ``cpsd`` in the user's cache."""
ON_THIS_MACHINE = frozenset({"file", "local"})
"""Protocols of what is an ordinary path already."""

# With colons, so that a chain such as simplecache::s3://bucket is refused and not taken for a path.
_ADDRESS = re.compile(r"([A-Za-z][A-Za-z0-9+.:-]*)://(.*)", re.DOTALL)


def is_address(name: str) -> bool:
    """Return whether a name is an address and no path.

    Example:
        >>> is_address("s3://bucket/a.jpg"), is_address("photos/a.jpg"), is_address("a/b://c")
        (True, False, False)
    """
    return "://" in name and _ADDRESS.fullmatch(name) is not None


def local_place(name: str) -> Path:
    """Return the path that a path or address stands for on this machine: itself, or its copy's.

    Whether there is anything is another question.

    Raises:
        AddressError: no such address can be: without a bucket or host, with a password in it.

    Example:
        >>> local_place("photos/a.jpg"), local_place("file:///photos/a b.jpg")
        (PosixPath('photos/a.jpg'), PosixPath('/photos/a b.jpg'))
        >>> local_place("s3://bucket/x/../a.jpg").relative_to(copies_folder())
        PosixPath('s3/bucket/a.jpg')
    """
    match = _ADDRESS.fullmatch(name) if "://" in name else None
    if match is None:
        return Path(name)
    protocol, rest = match[1].lower(), match[2]
    if protocol in ON_THIS_MACHINE:
        if not rest.startswith("/"):
            raise AddressError(f"{name} has no whole path; write {protocol}:///folder/file.")
        return Path(rest)
    first = rest.split("/", 1)[0]
    if "::" in name:
        raise AddressError(f"{name} is a chain of addresses, which cannot be used; name one.")
    if not first.strip() or "\0" in rest:
        raise AddressError(f"{name} names no bucket or host after '{protocol}://'.")
    if "@" in first:
        raise AddressError(
            f"{protocol}://...@{first.rpartition('@')[2]} has a name or password in it, which "
            "would be written into the run; give credentials by the environment or fsspec's "
            "settings."
        )
    rest = posixpath.normpath(f"/{rest}").lstrip("/")
    if not rest:
        raise AddressError(f"{name} leads out of its bucket or host.")
    return copies_folder() / protocol / rest


def folder_here(name: str, option: str) -> Path:
    """Return the path of a folder or file that has to lie on a disk of this machine.

    Raises:
        AddressError: an address elsewhere.
    """
    place = local_place(name)
    if address_of(place) is not None and is_address(name):
        raise AddressError(f"{option} is {name}, but it has to be a place on this machine.")
    return place


def place_in(root: str | Path, name: str) -> str:
    """Return where a file lies that data under ``root`` call ``name``.

    Example:
        >>> place_in("photos", "a.jpg"), place_in("photos", "/elsewhere/a.jpg")
        ('photos/a.jpg', '/elsewhere/a.jpg')
    """
    return os.path.join(root, local_place(name) if "://" in name else name)  # noqa: PTH118


def copies_folder() -> Path:
    """Return the folder of copies."""
    cache = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return _folder(os.environ.get(CACHE) or f"{cache}/cpsd")


def address_of(place: str | Path) -> str | None:
    """Return the address of which ``place`` is a copy's, None where it is no such place.

    Example:
        >>> address_of(local_place("s3://bucket/a.jpg")), address_of("/photos/a.jpg")
        ('s3://bucket/a.jpg', None)
    """
    beginning = os.path.join(copies_folder(), "")  # noqa: PTH118
    path = os.path.normpath(place)
    if not path.startswith(beginning):
        return None
    protocol, _, rest = path.removeprefix(beginning).partition("/")
    return f"{protocol}://{rest}" if rest else None


def with_addresses(text: str) -> str:
    """Return ``text`` with addresses in place of the copies that it names.

    Example:
        >>> with_addresses(f"There is no {local_place('s3://bucket/a.jpg')}.")
        'There is no s3://bucket/a.jpg.'
    """
    beginning = os.path.join(copies_folder(), "")  # noqa: PTH118
    if beginning not in text:
        return text
    return re.sub(f"{re.escape(beginning)}([a-z][a-z0-9+.-]*)/", r"\1://", text)


@lru_cache(maxsize=8)
def _folder(name: str) -> Path:
    # The real one, so that what is resolved on the way still is a copy.
    return Path(os.path.realpath(Path(name).expanduser()))
