"""`python -m mxcensus`."""

import sys

from mxcensus.cli import main

if __name__ == "__main__":
    sys.exit(main())
