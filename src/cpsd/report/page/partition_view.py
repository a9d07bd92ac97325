"""The partitions as the page shows them: labels around a circle, and affinities as pictures."""

import base64
import io
import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cpsd.errors import RunError
from cpsd.graph import LabelGraph, co_occurrence_affinity, dis_occurrence_affinity
from cpsd.report.page.run_files import RunFiles
from cpsd.report.page.traced import Derivation, Figure, figure, length, show

Floats = NDArray[np.float64]
GRAPH_FILE = "label_graph.npz"
MOST_LINKS = 320
"""Links drawn in a graph; more would be a grey disc."""
MOST_LABELS = 1500
"""Labels of which circles and matrices are drawn: both are dense, and of more nothing is seen."""
MOST_PIXELS = 500
"""Side of a matrix in pixels; with more labels neighbours share one."""
LIGHT = ((255, 255, 255), (198, 219, 239), (66, 133, 190), (8, 48, 107))
DARK = ((17, 20, 24), (24, 56, 96), (70, 140, 200), (225, 240, 255))
"""Colours of affinities from the least to the greatest, on light and on dark paper."""


@dataclass(frozen=True)
class PartitionView:
    """One partition on the page.

    Args:
        strategy: of the partition.
        source: its file.
        parts: the labels of each part, those in most pictures first.
        order: the labels' columns in the order of ``parts``.
        num_parts: as a figure.
        normalized_cut: as a figure.
        matrix_light: PNG as a data URI; affinities in the order of ``parts``.
        matrix_dark: the same for dark paper.
        matrix_range: least and greatest affinity between two labels, as text.
        matrix_side: labels that share one pixel's side.
        inside: share of the drawn links' weight that lies within parts.
    """

    strategy: str
    source: str
    parts: tuple[tuple[str, ...], ...]
    order: tuple[int, ...]
    num_parts: Figure
    normalized_cut: Figure
    matrix_light: str
    matrix_dark: str
    matrix_range: tuple[str, str]
    matrix_side: int
    inside: Figure

    @property
    def hues(self) -> list[int]:
        """The hue of each part in degrees, spread evenly."""
        return [round(25 + 360 * index / len(self.parts)) % 360 for index in range(len(self.parts))]

    @property
    def bounds(self) -> list[tuple[float, float]]:
        """Begin and end of each part along the matrix, in percent."""
        ends = np.cumsum([0, *(len(part) for part in self.parts)]) / len(self.order) * 100
        return [(float(a), float(b)) for a, b in itertools.pairwise(ends)]


@dataclass(frozen=True)
class PartitionViews:
    """All partitions of a run.

    Args:
        source: the file of the label graph.
        labels: the run's.
        images: training pictures with each label.
        links: the strongest co-occurrence affinities: two columns and the affinity.
        num_pairs: pairs of labels that occur together at all.
        views: the partitions; none, and no links, where there are too many labels to draw.
    """

    source: str
    labels: tuple[str, ...]
    images: tuple[int, ...]
    links: tuple[tuple[int, int, float], ...]
    num_pairs: int
    views: tuple[PartitionView, ...]

    @property
    def too_many(self) -> bool:
        """Whether there are more labels than are drawn."""
        return len(self.labels) > MOST_LABELS

    @property
    def most_labels(self) -> str:
        """How many labels are drawn at most, as text."""
        return f"{MOST_LABELS:,}"

    @property
    def links_shown(self) -> Figure:
        """How many links are drawn."""
        return self._counted(len(self.links), "links")

    @property
    def pairs_shown(self) -> Figure:
        """How many pairs of labels occur together."""
        return self._counted(self.num_pairs, "pairs")

    def _counted(self, number: int, derived: Derivation) -> Figure:
        return Figure(show(number, "count"), (self.source,), "count", derived, number)


def partition_views(files: RunFiles) -> PartitionViews | None:
    """Return the run's partitions; None where no label graph is there.

    Raises:
        PartitionError: the label graph is damaged.
        RunError: a partition names labels that the graph does not have.
    """
    if not files.path(GRAPH_FILE).is_file():
        return None
    source = files.place(GRAPH_FILE)
    graph = LabelGraph.load(files.path(GRAPH_FILE))
    images = tuple(graph.images_with_label.tolist())
    num_pairs = int(graph.images_with_both.nnz - np.count_nonzero(images)) // 2
    if len(graph.labels) > MOST_LABELS:
        return PartitionViews(source, graph.labels.names, images, (), num_pairs, ())
    together = co_occurrence_affinity(graph).toarray()
    links = strongest_links(together, MOST_LINKS)
    names = [file.removeprefix("partitions/") for file in files.names("partitions/*.json")]
    return PartitionViews(
        source=source,
        labels=graph.labels.names,
        images=images,
        links=links,
        num_pairs=num_pairs,
        views=tuple(_view(files, f"partitions/{name}", graph, together, links) for name in names),
    )


def strongest_links(affinity_CC: Floats, most: int) -> tuple[tuple[int, int, float], ...]:
    """Return pairs of labels by affinity, the greatest first, none of them zero.

    Each label's own strongest link comes before the rest, so that a rare pair of labels does not
    leave all others without a line.

    Example:
        >>> strongest_links(np.array([[0, 0.9, 0.5], [0.9, 0, 0.2], [0.5, 0.2, 0]]), 2)
        ((0, 1, 0.9), (0, 2, 0.5))
    """
    upper = np.triu(affinity_CC, 1)
    first = {(min(i, j), max(i, j)) for i, j in enumerate(affinity_CC.argmax(axis=1).tolist())}
    pairs = [(int(i), int(j)) for i, j in np.argwhere(upper > 0)]
    pairs.sort(key=lambda pair: (pair not in first, -upper[pair], pair))
    kept = sorted(pairs[: min(most, 2 * len(affinity_CC))], key=lambda pair: (-upper[pair], pair))
    return tuple((i, j, float(upper[i, j])) for i, j in kept)


def _view(
    files: RunFiles,
    file: str,
    graph: LabelGraph,
    together: Floats,
    links: Sequence[tuple[int, int, float]],
) -> PartitionView:
    partition = files.json_object(file)
    strategy = str(partition.at("strategy").value)
    images = graph.images_with_label
    try:
        parts = [
            sorted((graph.labels.index(name) for name in names), key=lambda c: (-images[c], c))
            for names in partition.at("parts").value
        ]
    except (TypeError, ValueError) as error:
        raise RunError(f"{files.path(file)} does not fit {GRAPH_FILE}: {error}") from error
    order = [c for part in parts for c in part]
    apart = strategy == "dis-occurrence"
    affinity = dis_occurrence_affinity(graph).toarray() if apart else together
    reordered = affinity[np.ix_(order, order)]
    side = -(-len(order) // MOST_PIXELS)
    pixels = downsampled(reordered, side)
    between = reordered[~np.eye(len(order), dtype=np.bool_)]
    low, high = (float(between.min()), float(between.max())) if between.size else (0.0, 0.0)
    return PartitionView(
        strategy=strategy,
        source=files.place(file),
        parts=tuple(tuple(graph.labels.names[c] for c in part) for part in parts),
        order=tuple(order),
        num_parts=length(partition.at("parts")),
        normalized_cut=figure(partition.at("normalized_cut"), "decimal"),
        matrix_light=png(pixels, low, high, LIGHT),
        matrix_dark=png(pixels, low, high, DARK),
        matrix_range=(show(low, "decimal"), show(high, "decimal")),
        matrix_side=side,
        inside=_share_inside(links, parts, f"{files.place(GRAPH_FILE)} {files.place(file)}"),
    )


def _share_inside(
    links: Sequence[tuple[int, int, float]], parts: Sequence[Sequence[int]], sources: str
) -> Figure:
    part_of = {c: index for index, part in enumerate(parts) for c in part}
    weight = sum(link[2] for link in links)
    inside = sum(w for i, j, w in links if part_of.get(i) == part_of.get(j))
    number = inside / weight if weight else None
    return Figure(show(number, "percentage"), tuple(sources.split()), "percentage", "share", number)


def downsampled(matrix_CC: Floats, side: int) -> Floats:
    """Return the means of blocks of ``side`` by ``side`` entries; the last may be smaller.

    Example:
        >>> downsampled(np.arange(9.0).reshape(3, 3), 2).tolist()
        [[2.0, 3.5], [6.5, 8.0]]
    """
    if side == 1:
        return matrix_CC
    begins = np.arange(0, len(matrix_CC), side)
    sums = np.add.reduceat(np.add.reduceat(matrix_CC, begins, axis=0), begins, axis=1)
    sizes = np.diff([*begins, len(matrix_CC)])
    return np.asarray(sums / np.outer(sizes, sizes))


def png(matrix_CC: Floats, low: float, high: float, colours: Sequence[tuple[int, int, int]]) -> str:
    """Return a matrix as a PNG data URI, a pixel an entry, from ``low`` to ``high``."""
    steps = np.linspace(0, len(colours) - 1, 256)
    channels = np.array(colours, dtype=np.float64)
    palette = np.stack([np.interp(steps, range(len(colours)), c) for c in channels.T], axis=1)
    scaled = np.clip((matrix_CC - low) / (high - low or 1.0), 0, 1)
    # The diagonal says nothing: a label's affinity to itself is zero by definition.
    image = Image.fromarray((scaled * 255).round().astype(np.uint8), mode=None)
    image.putpalette(palette.round().astype(np.uint8).ravel().tolist())
    file = io.BytesIO()
    image.save(file, format="PNG", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode('ascii')}"
