"""The gallery: pictures with the predictors' maps laid over them, inlined."""

import base64
from dataclasses import dataclass
from pathlib import PurePosixPath

from cpsd.report.page.run_files import EXPLANATIONS_FOLDER, RunFiles, is_there
from cpsd.report.page.traced import Figure, Traced, figure

GALLERY_FILE = f"{EXPLANATIONS_FOLDER}/gallery.json"
MOST_BYTES = 2_500_000
"""Room for all pictures of the gallery; entries that do not fit are left out."""
_TYPES = {".jpg": "image/jpeg", ".jpeg": "image/jpeg", ".png": "image/png"}
_TARGETS = {1: "present", 0: "absent", -1: "unknown"}


@dataclass(frozen=True)
class Cell:
    """One predictor's map.

    Args:
        predictor: its name.
        picture: with the map laid over, as a data URI.
        probability: that it gives the label.
        nothing_to_compare: why the map tells no places apart; nothing where it does.
    """

    predictor: str
    picture: str
    probability: Figure
    nothing_to_compare: Traced


@dataclass(frozen=True)
class Entry:
    """A picture, a label, and where each predictor looks for it.

    Args:
        image: the picture's name.
        label: looked for.
        target: ``present``, ``absent`` or ``unknown``.
        width: of each cell in pixels.
        height: of each cell in pixels.
        picture: as a data URI.
        cells: one a predictor.
        boxes: where the label truly is: left, top, width, height in percent.
    """

    image: str
    label: str
    target: str
    width: int
    height: int
    picture: str
    cells: list[Cell]
    boxes: list[tuple[float, float, float, float]]


@dataclass(frozen=True)
class Gallery:
    """The entries, how they were picked, why there are none, and how many had no room."""

    split: Traced
    method: Traced
    selection: Traced
    unexplained: Traced
    entries: list[Entry]
    left_out: int


def gallery(files: RunFiles) -> Gallery | None:
    """Return the run's gallery; None where there is none.

    Raises:
        RunError: ``gallery.json`` is damaged.
    """
    content = files.json(GALLERY_FILE)
    if not content.there:
        return None
    entries: list[Entry] = []
    room = MOST_BYTES
    found = list(content.at("entries").entries())
    for described in found:
        entry = _entry(files, described)
        if entry is None:
            continue
        room -= sum(len(uri) for uri in (entry.picture, *(cell.picture for cell in entry.cells)))
        if room < 0:
            break
        entries.append(entry)
    left_out = len(found) - len(entries)
    return Gallery(
        split=content.at("split"),
        method=content.at("method"),
        selection=content.at("selection"),
        unexplained=content.at("unexplained"),
        entries=entries,
        left_out=left_out,
    )


def data_uri(files: RunFiles, file: str) -> str | None:
    """Return a picture of the run as a data URI; None for one that is not there or no picture."""
    path = files.path(file)
    kind = _TYPES.get(path.suffix.lower())
    inside = not PurePosixPath(file).is_absolute() and ".." not in PurePosixPath(file).parts
    if kind is None or not inside or not is_there(path):
        return None
    return f"data:{kind};base64,{base64.b64encode(path.read_bytes()).decode('ascii')}"


def _entry(files: RunFiles, described: Traced) -> Entry | None:
    """Return one entry; None where a picture of it is missing."""
    value = described.value
    picture = data_uri(files, f"{EXPLANATIONS_FOLDER}/{value.get('picture')}")
    cells = []
    for cell in described.at("cells").entries():
        uri = data_uri(files, f"{EXPLANATIONS_FOLDER}/{cell.at('file').value}")
        if uri is None:
            return None
        probability = figure(cell.at("probability"), "percentage")
        name = str(cell.at("predictor").value)
        cells.append(Cell(name, uri, probability, cell.at("nothing_to_compare")))
    if picture is None:
        return None
    return Entry(
        image=str(value.get("image")),
        label=str(value.get("label")),
        target=_TARGETS.get(value.get("target"), "unknown"),
        width=int(value.get("width") or 0),
        height=int(value.get("height") or 0),
        picture=picture,
        cells=cells,
        boxes=[
            (100 * left, 100 * top, 100 * (right - left), 100 * (bottom - top))
            for left, top, right, bottom in value.get("boxes") or []
        ],
    )
