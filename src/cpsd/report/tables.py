"""Tables for the terminal: where room is short names fold; nothing is cut off."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich.markup import escape
from rich.table import Table

from cpsd.data.records import TEST
from cpsd.evaluation.metrics import METRICS
from cpsd.partition import LabelPartition

_PREFIXES = ("", "k", "M", "G", "T", "P", "E", "Z")
DISTANCES = {"squared_logit": "squared logit", "absolute_probability": "probability"}


def score_table(boards: Mapping[str, Mapping[str, Any]]) -> Table:
    """Return the scores of all predictors, in percent, a block of rows for each test split.

    ``test`` comes first, then further splits by name.

    Args:
        boards: by test split, what ``evaluation/<split>.json`` holds.
    """
    blocks = {
        split: [
            (name, *(percent(scores.get(column)) for column in METRICS))
            for name, scores in boards[split]["predictors"].items()
        ]
        for split in in_order(boards)
    }
    return _split_table("Scores in percent", ("predictor", *METRICS), blocks)


def distance_table(boards: Mapping[str, Mapping[str, Any]]) -> Table:
    """Return how far the student is from its teachers, a block of rows for each test split."""
    blocks = {
        split: [
            (name, *(f"{distance[key]:.3f}" if key in distance else "-" for key in DISTANCES))
            for name, distance in boards[split]["student_teacher_distance"].items()
        ]
        for split in in_order(boards)
    }
    return _split_table("Student to teachers", ("teachers", *DISTANCES.values()), blocks)


def partition_table(partitions: Sequence[LabelPartition]) -> Table:
    """Return which labels share a part, and how small each partition's normalized cut is."""
    table = _table("Partitions", ("strategy", "labels in a part"), ("part", "size"))
    for partition in partitions:
        cut = partition.normalized_cut
        value = "" if cut is None else f"\nnormalized cut {cut:.4f}"
        for index in range(partition.num_parts):
            names = partition.part_labels(index).names
            head = "" if index else f"{escape(partition.strategy)}{value}"
            table.add_row(head, escape("; ".join(names)), str(index), str(len(names)))
        table.add_section()
    return table


def stage_table(stages: Mapping[str, Mapping[str, Any]], method: Mapping[str, Any] | None) -> Table:
    """Return what each stage of a run has cost, and the method in all.

    Args:
        stages: of the manifest.
        method: of the manifest, what the student and all that it needs have cost.
    """
    names = ("stage",)
    numbers = ("x plain", "by the clock", "seconds", "FLOPs", "memory", "forward", "backward")
    table = _table("Cost in plain trainings; pictures forward and backward", names, numbers)
    for name, mark in stages.items():
        table.add_row(escape(name), *_cost_cells(mark))
    if method is not None:
        table.add_section()
        table.add_row("the method", *_cost_cells(method))
    table.caption = counted_by(stages.values())
    return table


def counted_by(ratios: Iterable[Mapping[str, Any]]) -> str | None:
    """Return why some plain trainings are not counted by FLOPs; None where all are."""
    others = {ratio.get("plain_trainings_by", "FLOPs") for ratio in ratios} - {"FLOPs"}
    return f"Counted by {'; '.join(sorted(others))}." if others else None


def flops_of(cost: Mapping[str, Any]) -> int | None:
    """Return the operations of a cost as it is written; None where they are not known."""
    forward, backward = cost.get("flops_forward"), cost.get("flops_backward")
    return None if forward is None or backward is None else forward + backward


def _cost_cells(mark: Mapping[str, Any]) -> tuple[str, ...]:
    cost = mark["cost"]
    return (
        times(mark.get("plain_trainings")),
        times(mark.get("plain_trainings_by_the_clock")),
        f"{cost['seconds']:.1f}",
        amount(flops_of(cost)),
        amount(cost.get("peak_memory"), "B"),
        f"{cost['images_forward']:,}",
        f"{cost['images_backward']:,}",
    )


def times(ratio: float | None) -> str:
    """Return how many times as much; a dash where nobody knows.

    Example:
        >>> times(13.876), times(0.0), times(0.001), times(None)
        ('13.88', '0', '0.001', '-')
    """
    if ratio is None:
        return "-"
    return f"{ratio:.2f}" if ratio >= 0.01 else f"{ratio:.1g}"


def amount(number: float | None, unit: str = "") -> str:
    """Return three digits of a large number with their prefix; a dash where nobody knows.

    Example:
        >>> amount(4_089_184_256, "B"), amount(1.25e17), amount(999_999), amount(0)
        ('4.09 GB', '125 P', '1 M', '0')
    """
    if number is None:
        return "-"
    power = 0
    value = float(f"{number:.3g}")
    while value >= 1000 and power < len(_PREFIXES) - 1:
        power += 1
        value /= 1000
    return f"{value:.3g} {_PREFIXES[power]}{unit}".strip()


def count_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> Table:
    """Return a plain table: the first column to the left, numbers to the right."""
    table = _table(title, columns[:1], columns[1:])
    for row in rows:
        table.add_row(*(f"{c:,}" if isinstance(c, int) else escape(str(c)) for c in row))
    return table


def in_order(splits: Iterable[str]) -> list[str]:
    """Return test splits as they are shown: ``test`` first, then by name.

    Example:
        >>> in_order(["test-unseen", "test-far", "test"])
        ['test', 'test-far', 'test-unseen']
    """
    return sorted(splits, key=lambda split: (split != TEST, split))


def percent(value: float | None) -> str:
    """Return a fraction as percent with one digit; a dash where there is none.

    Example:
        >>> percent(0.12345), percent(None)
        ('12.3', '-')
    """
    return "-" if value is None else f"{100 * value:.1f}"


def _split_table(
    title: str, columns: Sequence[str], blocks: Mapping[str, Sequence[Sequence[str]]]
) -> Table:
    """Return a table with a block of rows a split; rows are a name and its numbers."""
    # Splits below each other, for beside each other two of them are too wide for 80 characters.
    table = _table(title, ("split", columns[0]), columns[1:])
    for split, rows in blocks.items():
        for position, (name, *numbers) in enumerate(rows):
            table.add_row("" if position else escape(split), escape(name), *numbers)
        table.add_section()
    return table


def _table(title: str, names: Sequence[str], numbers: Sequence[str]) -> Table:
    table = Table(title=escape(title), title_justify="left")
    for name in names:
        table.add_column(escape(name), overflow="fold")
    for number in numbers:
        table.add_column(escape(number), overflow="fold", justify="right")
    return table
