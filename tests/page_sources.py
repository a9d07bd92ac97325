"""Look up every number of a report page in the files it names: an oracle of its own."""

import csv
import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import numpy as np
import pyarrow.parquet as pq
import yaml

from cpsd.graph import LabelGraph, co_occurrence_affinity, dis_occurrence_affinity

UNTRACED = {"script", "style", "title", "pre", "cite", "blockquote"}
"""Elements whose digits are no results."""
FREE_CLASSES = {"name", "fixed"}
"""Names may hold digits; ``fixed`` marks constants of the prose."""
VOID = {"meta", "link", "img", "input", "br", "source", "rect", "line", "circle"}


@dataclass
class Shown:
    """A number or text of the page with what it says of itself."""

    text: str
    value: str
    sources: list[str]
    shown_as: str
    derived: str


@dataclass
class Page(HTMLParser):
    """Collects the numbers of a page, and the digits that name no place."""

    shown: list[Shown] = field(default_factory=list)
    untraced: list[str] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)
    stack: list[tuple[str, dict[str, str]]] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__(convert_charrefs=True)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = {key: value or "" for key, value in attrs}
        if "data-shown-as" in attributes:
            self.shown.append(
                Shown(
                    "",
                    attributes.get("value", ""),
                    attributes["data-source"].split(),
                    attributes["data-shown-as"],
                    attributes.get("data-derived", ""),
                )
            )
        if tag not in VOID:
            self.stack.append((tag, attributes))

    def handle_endtag(self, tag: str) -> None:
        while self.stack and self.stack.pop()[0] != tag:
            pass

    def handle_data(self, data: str) -> None:
        inside = [tag for tag, _ in self.stack]
        if "script" in inside or "style" in inside:
            return
        self.texts.append(data)
        holders = [attributes for _, attributes in self.stack if "data-source" in attributes]
        if self.stack and "data-shown-as" in self.stack[-1][1]:
            self.shown[-1].text += data
        free = any(FREE_CLASSES & set(a.get("class", "").split()) for _, a in self.stack)
        if re.search(r"\d", data) and not holders and not free and not UNTRACED & set(inside):
            self.untraced.append(data.strip())


def read_page(path: Path) -> Page:
    """Return what a page shows."""
    page = Page()
    page.feed(path.read_text(encoding="utf-8", errors="replace"))
    page.close()
    return page


def look_up(folder: Path, source: str) -> Any:
    """Return what stands at a place; None where there is nothing."""
    file, _, place = source.partition("#")
    path = folder / unquote(file)
    if path.suffix == ".csv":
        return list(csv.reader(path.read_text(encoding="utf-8").splitlines()))
    if path.suffix == ".npz":
        return LabelGraph.load(path)
    if path.suffix == ".parquet":
        column = unquote(place.removeprefix("column="))
        return pq.ParquetFile(path).read(columns=[column])[column].to_numpy()
    text = path.read_text(encoding="utf-8")
    content = yaml.safe_load(text) if path.suffix == ".yaml" else json.loads(text)
    for token in place.split("/")[1:]:
        key = unquote(token).replace("~1", "/").replace("~0", "~")
        if isinstance(content, list):
            content = content[int(key)] if int(key) < len(content) else None
        else:
            content = content.get(key) if isinstance(content, dict) else None
    return content


def expected(folder: Path, shown: Shown) -> str:
    """Return what the page should show, from the files alone."""
    found = [look_up(folder, source) for source in shown.sources]
    if shown.derived == "interval":
        return " to ".join(formatted(value, shown.shown_as) for value in found)
    return formatted(DERIVED[shown.derived](found), shown.shown_as)


def formatted(value: Any, shown_as: str) -> str:
    """Return a number as the page writes it, by rules written down a second time."""
    if shown_as == "value":
        if isinstance(value, list):
            return ", ".join(map(str, value))
        return {True: "yes", False: "no", None: "none"}.get(value, str(value))
    if value is None:
        return "–"  # noqa: RUF001 - what the page shows
    text = {
        "percent": lambda: f"{100 * value:.1f}",
        "percentage": lambda: f"{100 * value:.1f} %",
        "points": lambda: re.sub(r"^[+-](0\.0)$", r"\1", f"{100 * value:+.1f}"),
        "decimal": lambda: f"{value:.3f}" if abs(value) < 10 else f"{value:,.1f}",
        "times": lambda: f"{value:,.1f}",
        "count": lambda: f"{round(value):,}",
        "amount": lambda: _with_prefix(value),
        "bytes": lambda: f"{_with_prefix(value)}{'' if value >= 1000 else ' '}B",
        "seconds": lambda: f"{value:.1f} s" if value < 10 else f"{round(value)} s",
    }[shown_as]()
    return text.replace("-", "−")  # noqa: RUF001 - what the page shows


def _with_prefix(value: float) -> str:
    thousands = max(0, (len(str(round(value))) - 1) // 3)
    return f"{value / 1000**thousands:.3g} {' kMGTPE'[thousands]}".strip()


def _share_inside(found: list[Any]) -> float:
    graph, partition = found
    affinity = co_occurrence_affinity(graph).toarray()
    part = {name: i for i, names in enumerate(partition["parts"]) for name in names}
    links = [(i, j) for i, j in zip(*np.nonzero(np.triu(affinity, 1)), strict=True)]
    assert len(links) <= 2 * len(affinity), "the oracle knows graphs of which all links are drawn"
    names = graph.labels.names
    inside = sum(affinity[i, j] for i, j in links if part[names[i]] == part[names[j]])
    return float(inside / sum(affinity[i, j] for i, j in links))


def _pairs(found: list[Any]) -> int:
    return int(np.count_nonzero(np.triu(found[0].images_with_both.toarray(), 1)))


DERIVED: dict[str, Callable[[list[Any]], Any]] = {
    "": lambda found: found[0],
    "difference": lambda found: None if None in found else found[0] - found[1],
    "ratio": lambda found: sum(found[:-1]) / found[-1],
    "sum": sum,
    "mean": lambda found: sum(found) / len(found),
    "length": lambda found: len(found[0]),
    "rows": lambda found: len(found[0]) - 1,
    "last-epoch": lambda found: float(found[0][-1][found[0][0].index(f"validation_{found[1]}")]),
    "share": _share_inside,
    "pairs": _pairs,
    "links": lambda found: min(_pairs(found), 2 * len(found[0].labels), 320),
    "positives": lambda found: int((found[0] == 1).sum()),
}


def affinity_bounds(graph: LabelGraph) -> set[str]:
    """Return the least and greatest affinities between labels, as the page writes them."""
    others = ~np.eye(len(graph.labels), dtype=np.bool_)
    affinities = co_occurrence_affinity(graph), dis_occurrence_affinity(graph)
    matrices = [affinity.toarray()[others] for affinity in affinities]
    return {f"{bound:.3f}" for matrix in matrices for bound in (matrix.min(), matrix.max())}
