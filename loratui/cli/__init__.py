"""The command line. `main` parses, runs one command and turns every error into one clear message.

Each group of commands is one file with an `add` function; what a command needs is imported when it runs, so
that `loratui --help` and the start of the app import next to nothing.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        argv: arguments without the program's name; those of the process when None.

    Returns:
        The exit code: 0 done, 1 the job failed, 2 the request was wrong.
    """
    from loratui.cli.shell import run

    return run(list(sys.argv[1:] if argv is None else argv))
