"""Data at addresses: copied to this machine before they are read, tables first, then pictures."""

import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from cpsd.addresses import address_of, folder_here, is_address, local_place
from cpsd.config import DataConfig, DataFormat
from cpsd.copies import NothingThereError, fetch, fetch_folder, info_at
from cpsd.data.boxes import BOXES_FILE
from cpsd.data.images import IMAGE_SUFFIXES
from cpsd.data.rows import LABEL_LISTS
from cpsd.errors import DataError

# What a format reads beside pictures. A data set's folder may hold anything else, of any size.
_READ: dict[DataFormat, re.Pattern[str]] = {
    "coco": re.compile(r"annotations/instances_(train|val)\d{4}\.json"),
    "voc": re.compile(r"(.*/)?(ImageSets/Main/[^/]+\.txt|Annotations/[^/]+\.xml)"),
    "nus-wide": re.compile(r"(.*/)?(ImageList|TrainTestLabels|ConceptsList)/[^/]+\.txt|[^/]+\.txt"),
}


def with_copies(config: DataConfig) -> DataConfig:
    """Return the settings with paths on this machine for what they name by address.

    Everything but pictures is fetched, and the pictures without labels.

    Raises:
        DataError: there is nothing at an address.
        AddressError: an address is malformed or cannot be reached, or is that of a pack, which is
            mapped into memory.
    """
    said = {key: getattr(config, key) for key in ("table", "root", "label_list", "unlabelled")}
    if config.label_list in LABEL_LISTS and not Path(str(config.label_list)).is_file():
        said["label_list"] = None
    named = {key: name for key, name in said.items() if name is not None and is_address(name)}
    if config.pack is not None and is_address(config.pack):
        folder_here(config.pack, "data.pack")
        named["pack"] = config.pack
    if not named:
        return config
    places: dict[str, Any] = {key: str(local_place(name)) for key, name in named.items()}
    config = replace(config, **places)
    _fetch_files(config, [places[key] for key in ("table", "label_list") if key in places])
    if config.format != "table" and "root" in places:
        _fetch_folder(places["root"], lambda name: _is_read(name, config.format))
    if "unlabelled" in places:
        fetch_pictures_in(Path(places["unlabelled"]))
    return config


def _is_read(name: str, format_: DataFormat) -> bool:
    return name == BOXES_FILE or _READ[format_].fullmatch(name) is not None


def _fetch_files(config: DataConfig, places: Sequence[str]) -> None:
    root = config.root or (config.table and str(Path(config.table).parent))
    boxes = [] if root is None or config.format != "table" else [f"{root}/{BOXES_FILE}"]
    fetch([*places, *boxes])
    for place in places:
        address = address_of(place)
        if address is not None and not Path(place).exists():
            raise DataError(
                f"There is no file at {address}; check the address, and that its bucket exists."
            )


def _fetch_folder(place: str, wanted: Callable[[str], bool]) -> set[str]:
    address = address_of(place)
    if address is None:
        return set()
    try:
        return fetch_folder(address, Path(place), wanted)
    except NothingThereError as error:
        raise DataError(str(error)) from error


def fetch_pictures_in(folder: Path) -> None:
    """Fetch the pictures of a folder, if it is a copy, and drop copies that have no picture.

    Raises:
        DataError: there is nothing at its address.
        AddressError: it cannot be reached.
    """
    address = address_of(folder)
    if address is None:
        return
    names = _fetch_folder(str(folder), _is_picture)
    for copy in folder.rglob("*"):
        name = copy.relative_to(folder).as_posix()
        if _is_picture(name) and name not in names and copy.is_file():
            copy.unlink()


def _is_picture(name: str) -> bool:
    return Path(name).suffix.lower() in IMAGE_SUFFIXES


def fetched_places(names: Sequence[str]) -> list[Path]:
    """Return the paths of pictures and folders of pictures that are named by path or address.

    What lies at addresses is fetched; of what is not there, there is no file afterwards.

    Raises:
        AddressError: an address is malformed or cannot be reached.
    """
    places = [local_place(name) for name in names]
    files = []
    for place in places:
        address = address_of(place)
        if address is None:
            continue
        try:
            is_folder = info_at(address).get("type") == "directory"
        except NothingThereError:
            is_folder = False
        if is_folder:
            fetch_pictures_in(place)
        else:
            files.append(place)
    fetch(files)
    return places
