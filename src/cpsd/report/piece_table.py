"""Progress of pieces that are performed at once: a live table, and lines where nobody watches."""

from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

WAITING = "waits for a machine"


class PieceTable:
    """Shows a row for each piece that is begun and not over.

    On a terminal the rows are alive; elsewhere each new text of a piece is a line.

    Args:
        console: where to.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._rows: dict[str, TaskID] = {}
        self._texts: dict[str, str] = {}
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            TextColumn("{task.fields[text]}"),
            TimeRemainingColumn(),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Take the table away."""
        self._progress.stop()

    def begin(self, title: str) -> None:
        """Add a piece."""
        self._rows[title] = self._progress.add_task(title, total=None, start=False, text=WAITING)

    def show(self, title: str, done: int, total: int, text: str) -> None:
        """Show how far a piece is; 0 of 0 where that is not known."""
        if title not in self._rows:
            return
        row = self._rows[title]
        if not self._progress.tasks or self._texts.get(title) is None:
            self._progress.start_task(row)
        self._progress.update(row, completed=done, total=total or None, text=text)
        new = text and text != self._texts.get(title)
        self._texts[title] = text
        if new and not self._console.is_terminal:
            self.say(title, text)

    def say(self, title: str, sentence: str) -> None:
        """Print a sentence about a piece."""
        named = sentence if sentence.startswith(title) else f"{title}: {sentence}"
        self._console.print(f"  {named}", markup=False)

    def end(self, title: str) -> None:
        """Take a piece away."""
        self._progress.remove_task(self._rows.pop(title))
        self._texts.pop(title, None)
