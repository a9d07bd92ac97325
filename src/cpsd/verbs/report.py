"""The verb report: write the page of a run or of a comparison anew."""

from jsonargparse import Namespace

from cpsd.report.page import write_comparison_report, write_report
from cpsd.run_home import at_home
from cpsd.verbs.compare import COMPARISON_FILE
from cpsd.verbs.terminal import say_page


def report(arguments: Namespace) -> int:
    """Write ``report.html`` from the files of a run or of a comparison."""
    with at_home(arguments.folder) as folder:
        is_comparison = (folder / COMPARISON_FILE).is_file()
        page = write_comparison_report(folder) if is_comparison else write_report(folder)
    say_page(page)
    return 0
