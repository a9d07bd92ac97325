"""Numbers with the place they come from, so that every figure on the page can be looked up.

A source is a file relative to the folder of the report, and where in it, as a URI fragment: for
JSON and YAML a JSON pointer (RFC 6901), for CSV a cell (RFC 7111), for Parquet a column:

    evaluation/test.json#/predictors/teachers~1co-occurrence/mAP
    baseline/metrics.csv#cell=2,3
    predictions/student/test.parquet#column=target%3Acat
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import quote

from cpsd.report.progress import duration
from cpsd.report.tables import amount

Format = Literal[
    "percent",
    "points",
    "percentage",
    "decimal",
    "times",
    "count",
    "amount",
    "bytes",
    "seconds",
    "value",
]
Derivation = Literal[
    "",
    "difference",
    "ratio",
    "sum",
    "mean",
    "length",
    "share",
    "interval",
    "links",
    "pairs",
    "rows",
    "last-epoch",
]
"""How a number follows from its places; empty where it stands in one as it is."""
ABSENT = "\N{EN DASH}"
"""What stands where there is no number."""
_MINUS = "\N{MINUS SIGN}"


@dataclass(frozen=True)
class Traced:
    """A value of a file, and its place; ``None`` where the file does not have it.

    Args:
        value: what JSON can hold.
        source: the place.
    """

    value: Any
    source: str

    def at(self, *keys: str | int) -> "Traced":
        """Return what lies under ``keys``, one after another.

        Example:
            >>> Traced({"a/b": {"mAP": 0.5}}, "test.json").at("a/b", "mAP")
            Traced(value=0.5, source='test.json#/a~1b/mAP')
            >>> Traced({}, "test.json").at("mAP").value is None
            True
        """
        value = self.value
        for key in keys:
            value = _child(value, key)
        place = "".join(f"/{pointer_token(key)}" for key in keys)
        return Traced(value, f"{self.source}{'' if '#' in self.source else '#'}{place}")

    def items(self) -> Iterator[tuple[str, "Traced"]]:
        """Yield the keys of an object with what lies under them; nothing for another value."""
        if isinstance(self.value, dict):
            for key in self.value:
                yield str(key), self.at(key)

    def entries(self) -> Iterator["Traced"]:
        """Yield what a list holds; nothing for another value."""
        if isinstance(self.value, list):
            for index in range(len(self.value)):
                yield self.at(index)

    @property
    def there(self) -> bool:
        """Whether the file has a value here."""
        return self.value is not None

    @property
    def file(self) -> str:
        """The file alone."""
        return self.source.split("#", maxsplit=1)[0]


@dataclass(frozen=True)
class Figure:
    """A number as it stands on the page.

    Args:
        text: what is shown.
        sources: the places it comes from.
        shown_as: how the text follows from the number.
        derived: how the number follows from several places; empty where it stands in one.
        number: itself; None where there is none, and for text.
    """

    text: str
    sources: tuple[str, ...]
    shown_as: Format
    derived: Derivation = ""
    number: float | None = None


def figure(traced: Traced, shown_as: Format) -> Figure:
    """Return a value of a file as it is shown.

    Example:
        >>> figure(Traced(0.12345, "a.json#/mAP"), "percent").text
        '12.3'
    """
    number = _number(traced.value)
    text = show(traced.value, shown_as)
    return Figure(text, (traced.source,), shown_as, number=number)


def difference(first: Traced, second: Traced) -> Figure:
    """Return ``first - second`` of two fractions in percentage points, with its sign.

    Example:
        >>> difference(Traced(0.25, "a"), Traced(0.5, "b")).text
        '−25.0'
    """
    return _derived("difference", "points", (first, second), lambda values: values[0] - values[1])


def ratio(parts: Sequence[Traced], whole: Traced) -> Figure:
    """Return the sum of ``parts`` over ``whole``; none where that is zero."""

    def divided(values: Sequence[float]) -> float:
        return math.fsum(values[:-1]) / values[-1] if values[-1] else math.nan

    return _derived("ratio", "times", [*(part for part in parts if part.there), whole], divided)


def total(traced: Sequence[Traced], shown_as: Format) -> Figure:
    """Return the sum of several values; those that are none are left out."""
    return _derived("sum", shown_as, [one for one in traced if one.there], math.fsum)


def average(traced: Sequence[Traced], shown_as: Format) -> Figure:
    """Return the mean of several values.

    Example:
        >>> average([Traced(0.25, "a"), Traced(0.5, "b")], "percent").text
        '37.5'
    """
    return _derived("mean", shown_as, traced, lambda values: math.fsum(values) / len(values))


def length(traced: Traced) -> Figure:
    """Return how many entries a list or object has."""
    number = len(traced.value) if isinstance(traced.value, list | dict) else None
    return Figure(show(number, "count"), (traced.source,), "count", "length", number)


def interval(low: Traced, high: Traced, shown_as: Format) -> Figure | None:
    """Return two bounds as ``low to high``; None where one of them is not there."""
    if _number(low.value) is None or _number(high.value) is None:
        return None
    text = f"{show(low.value, shown_as)} to {show(high.value, shown_as)}"
    return Figure(text, (low.source, high.source), shown_as, "interval")


def show(value: object, shown_as: Format) -> str:
    """Return a number as text.

    ``percent`` is a fraction in percent without the sign, ``percentage`` with it, ``points`` a
    difference of fractions with plus or minus, ``decimal`` two or three digits that count,
    ``amount`` three digits with the prefix of a large number and ``bytes`` the same of memory,
    ``seconds`` a length of time, and ``value`` whatever the file says.

    Example:
        >>> [show(0.5, kind) for kind in ("percent", "percentage", "points", "decimal")]
        ['50.0', '50.0 %', '+50.0', '0.500']
        >>> show(1234567, "count"), show(125.0, "seconds"), show(None, "percent")
        ('1,234,567', '2 min 05 s', '–')
        >>> show(4.1e12, "amount"), show(1.5e9, "bytes")
        ('4.1 T', '1.5 GB')
        >>> show(True, "value"), show(["a", "b"], "value"), show(0.25, "value")
        ('yes', 'a, b', '0.25')
    """
    if shown_as == "value":
        return _plain(value)
    number = _number(value)
    return ABSENT if number is None else _FORMATS[shown_as](number)


def pointer_token(key: str | int) -> str:
    """Return a key as one token of a JSON pointer in a URI fragment.

    Example:
        >>> pointer_token("a/b ~c")
        'a~1b%20~0c'
    """
    return quote(str(key).replace("~", "~0").replace("/", "~1"), safe="", errors="surrogateescape")


def column_source(file: str, column: str) -> str:
    """Return the place of a column of a Parquet file."""
    return f"{file}#column={quote(column, safe='', errors='surrogateescape')}"


def _derived(
    how: Derivation,
    shown_as: Format,
    traced: Sequence[Traced],
    compute: Callable[[Sequence[float]], float],
) -> Figure:
    sources = tuple(one.source for one in traced)
    values = [number for one in traced if (number := _number(one.value)) is not None]
    if len(values) < len(traced) or not values:
        return Figure(ABSENT, sources, shown_as, how)
    number = compute(values)
    return Figure(show(number, shown_as), sources, shown_as, how, _number(number))


def _number(value: object) -> float | None:
    """Return a finite number, None for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return value


def _child(value: Any, key: str | int) -> Any:  # noqa: ANN401 - JSON has no narrower type
    if isinstance(value, dict):
        return value.get(key)
    if isinstance(value, list) and isinstance(key, int) and key < len(value):
        return value[key]
    return None


def _plain(value: object) -> str:
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return ", ".join(_plain(entry) for entry in value)
    return f"{value:g}" if isinstance(value, float) else str(value)


def _signed(number: float) -> str:
    text = f"{100 * number:+.1f}"
    return "0.0" if float(text) == 0 else text.replace("-", _MINUS)


def _percent(number: float) -> str:
    return f"{100 * number:.1f}".replace("-", _MINUS)


def _decimal(number: float) -> str:
    return (f"{number:.3f}" if abs(number) < 10 else f"{number:,.1f}").replace("-", _MINUS)


def _duration(seconds: float) -> str:
    """Return a length of time with the digits that count."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    return duration(seconds)


_FORMATS: dict[Format, Callable[[float], str]] = {
    "percent": _percent,
    "percentage": lambda number: f"{_percent(number)} %",
    "points": _signed,
    "decimal": _decimal,
    "times": lambda number: f"{number:,.1f}",
    "count": lambda number: f"{round(number):,}",
    "amount": amount,
    "bytes": lambda number: amount(number, "B"),
    "seconds": _duration,
}
