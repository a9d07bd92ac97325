"""What the verbs print with."""

import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.text import Text

from cpsd.addresses import with_addresses
from cpsd.stage import Stage, StageState

if TYPE_CHECKING:
    import lightning


class _TellingConsole(Console):
    """Names what was copied from an address by the address."""

    def render_str(self, text: str, **how: Any) -> Text:  # noqa: ANN401 - as Rich has it
        return super().render_str(with_addresses(text), **how)


# Where nobody looks at a terminal (a file, a pipe), lines are as long as their words.
console = _TellingConsole(highlight=False, width=None if sys.stdout.isatty() else 200)
stderr = _TellingConsole(stderr=True, highlight=False, soft_wrap=True)


def training_progress(title: str) -> "list[lightning.Callback]":
    """Return what shows the progress of a training."""
    # Imported by verbs that train alone: Lightning and torch take seconds.
    from cpsd.report.training_progress import TrainingProgress

    return [TrainingProgress(console, title)]


def keep_quiet() -> None:
    """Print nothing any more but errors: another process of the same training speaks."""
    console.quiet = True
    logging.getLogger("cpsd").setLevel(logging.WARNING)


def announce(stage: Stage, state: StageState) -> None:
    """Print a stage before it is performed or skipped."""
    texts = {
        StageState.DONE: "done before, kept",
        StageState.STARTED: "going on where it stopped",
        StageState.CHANGED: "doing it again with the new settings",
    }
    console.print(f"[bold]{stage.name}[/bold] {texts.get(state, '')}")


def say(sentences: Sequence[str]) -> None:
    """Print sentences, a line each."""
    for sentence in sentences:
        console.print(f"  {sentence}", markup=False)


def say_excluded(split: str, labels: Sequence[str]) -> None:
    """Print which labels of a split are not scored."""
    if labels:
        say([f"{split}: no picture has {', '.join(labels)}, so these are not scored."])


def say_page(path: Path) -> None:
    """Print where a report page lies."""
    console.print(f"The report page is {path}", markup=False)
