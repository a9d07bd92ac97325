"""Progress of what trains nothing: a bar with the time left, in a terminal; and time in words."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn


@contextmanager
def counting(console: Console, title: str) -> Iterator[Callable[[int, int], None]]:
    """Yield what is told how many of how many pictures are done, and shows it in a terminal.

    Elsewhere nothing is shown.

    Args:
        console: where to.
        title: of what is done.
    """
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed:,}/{task.total:,} pictures"),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        redirect_stdout=False,  # what is printed may go elsewhere
        disable=not console.is_terminal,
    ) as progress:
        bar = progress.add_task(title, total=None, visible=False)
        yield lambda done, total: progress.update(bar, completed=done, total=total, visible=True)


def duration(seconds: float) -> str:
    """Return a length of time in the largest fitting unit.

    Example:
        >>> duration(42.4), duration(125), duration(7300)
        ('42 s', '2 min 05 s', '2 h 01 min')
    """
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
