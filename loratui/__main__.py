"""`python -m loratui`."""

import sys

from loratui.cli import main

if __name__ == "__main__":
    sys.exit(main())
