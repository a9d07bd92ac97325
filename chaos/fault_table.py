"""The table of faults: kinds, outcomes and the time they have cost."""

from collections import Counter
from collections.abc import Sequence
from statistics import median

from disturbed_job import Struck


def markdown(struck: Sequence[Struck]) -> str:
    """Return a Markdown table with a row a kind, and all together."""
    lines = [
        "| fault | injected | outcomes | seconds lost: median | most |",
        "|---|--:|---|--:|--:|",
    ]
    kinds = sorted({one.kind for one in struck})
    lines += [_row(kind, [one for one in struck if one.kind == kind]) for kind in kinds]
    return "\n".join([*lines, _row("**all**", struck, outcomes=False)])


def _row(name: str, struck: Sequence[Struck], *, outcomes: bool = True) -> str:
    counts = Counter(one.outcome for one in struck).most_common() if outcomes else []
    told = "; ".join(f"{count} {outcome}" for outcome, count in counts)
    lost = [one.lost for one in struck] or [0.0]
    return f"| {name} | {len(struck)} | {told} | {median(lost):.1f} | {max(lost):.1f} |"
