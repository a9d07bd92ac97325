"""The verb report: write the page of a run or of a comparison anew."""

from pathlib import Path

from jsonargparse import Namespace

from cpsd.report.page import write_comparison_report, write_report
from cpsd.verbs.compare import COMPARISON_FILE
from cpsd.verbs.terminal import say_page


def report(arguments: Namespace) -> int:
    """Write ``report.html`` from the files of a run or of a comparison."""
    folder = Path(arguments.folder)
    is_comparison = (folder / COMPARISON_FILE).is_file()
    say_page(write_comparison_report(folder) if is_comparison else write_report(folder))
    return 0
