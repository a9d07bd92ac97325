"""``python -m cpsd``: the command line, where its script is not on the path."""

import sys

from cpsd.cli import main

if __name__ == "__main__":
    sys.exit(main())
