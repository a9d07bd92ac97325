"""The command line: run, partition, train, distill, evaluate, predict, import, and data."""

import logging
import sys
import traceback
from collections.abc import Sequence

from rich.console import Console

from cpsd.arguments import parse
from cpsd.errors import EXIT_USER_ERROR, UserError

EXIT_INTERRUPTED = 130
"""What a shell makes of Ctrl-C."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    argv = sys.argv[1:] if argv is None else list(argv)
    logging.basicConfig(format="  %(message)s", level=logging.WARNING, stream=sys.stdout)
    logging.getLogger("cpsd").setLevel(logging.INFO)
    stderr = Console(stderr=True, highlight=False, soft_wrap=True)
    try:
        verb, arguments = parse(argv)
        # Imported once the arguments are known to be good: torch takes seconds, help should not.
        from cpsd.verbs import VERBS

        return VERBS[verb](arguments)
    except UserError as error:
        if "--debug" in argv:
            traceback.print_exc()
        stderr.print(f"cpsd: {error}", style="red", markup=False)
        return EXIT_USER_ERROR
    except KeyboardInterrupt:
        stderr.print("Interrupted. Start the same command again to go on where it stopped.")
        return EXIT_INTERRUPTED
