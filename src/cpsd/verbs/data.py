"""The verbs about data sets: data check, data demo."""

import dataclasses

from jsonargparse import Namespace

from cpsd import arguments as command_line
from cpsd.addresses import folder_here
from cpsd.data.check import CheckReport, check_data
from cpsd.data.digits import write_digits
from cpsd.report.progress import counting
from cpsd.report.tables import count_table
from cpsd.verbs.terminal import console, say, stderr

EXIT_WRONG = 1
"""Something is wrong with the data that were looked at."""


def check(arguments: Namespace) -> int:
    """Account for every row of a data set."""
    data = command_line.data_config(arguments)
    with counting(stderr, "decoding") as progress:
        report = check_data(data, seed=arguments.seed, progress=progress)
    _show_check(report)
    return EXIT_WRONG if report.problems else 0


def _show_check(report: CheckReport) -> None:
    columns = ("split", "pictures", "with a positive", "without", "unlabelled", "with a problem")
    rows = [dataclasses.astuple(count) for count in report.counts]
    if rows:
        console.print(count_table(f"{report.source}: {report.num_rows:,} rows", columns, rows))
    say(report.notices)
    if report.num_without_picture:
        say([f"{report.num_without_picture:,} rows name no picture that could be made out."])
    if not report.problems:
        console.print("Nothing is wrong.")
        return
    kinds = list(report.kinds().items())
    console.print(count_table("Problems", ("kind", "count"), kinds))
    for problem in report.problems:
        console.print(f"{problem.origin}: {problem.kind}: {problem.detail}", markup=False)


def demo(arguments: Namespace) -> int:
    """Write the embedded demo data."""
    table = write_digits(folder_here(arguments.folder, "The folder"), seed=arguments.seed)
    say([f"The demo data lie in {table}"])
    return 0
