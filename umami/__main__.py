"""Runs the command line as ``python -m umami``."""

import sys

from umami.cli import main

if __name__ == "__main__":
    sys.exit(main())
