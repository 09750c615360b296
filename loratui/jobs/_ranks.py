"""A job of several processes, started by torchrun: which of them this one is, and what the silent ones do.

Rank 0 runs the shell of `_main`: it holds the lock and writes. The others have no journal and no lock, hear
of requests from rank 0 (`train.ranks`), and end with it.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from loratui.runs.control import Request
from loratui.runs.directory import RunDir
from loratui.runs.state import RunState

_PR_SET_PDEATHSIG = 1


def rank() -> int:
    """The number of this process, 0 unless torchrun says otherwise."""
    return int(os.environ.get("RANK", 0)) if "TORCHELASTIC_RUN_ID" in os.environ else 0


def launcher_pid() -> int:
    """The process that started this one and its like; 0 for a process on its own."""
    return os.getppid() if "TORCHELASTIC_RUN_ID" in os.environ else 0


def die_with_launcher() -> None:
    """Have the kernel kill this process when torchrun is gone, however it went (`train.ranks` looks, too)."""
    if not launcher_pid():
        return
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() == 1:  # it went before the call
        sys.exit(1)


class Silent:
    """The context of a process that writes nothing; see `_main.Context`.

    Attributes:
        ranks: what it knows of the other processes.
    """

    leads = False

    def __init__(self, run: RunDir) -> None:
        self.run = run
        self.stop_requested = ""
        self.journal: Any = SimpleNamespace(
            write=lambda kind, **fields: None, close=lambda: None, state=RunState()
        )
        self.ranks: Any = None
        self.from_step = 0

    def set_state(self, state: str, reason: str = "", advice: str = "") -> None:
        """Nothing."""

    def set_device(self, device: str) -> None:
        """Nothing."""

    def rewind(self, step: int) -> None:
        """Nothing."""

    def controls(self) -> list[Request]:
        """None of its own."""
        return []

    def ack(self, request: Request, ok: bool = True, reason: str = "") -> None:
        """Nothing."""


def follow(
    main: Callable[[Any], None], context: Silent, describe: Callable[[BaseException, RunDir], tuple[str, ...]]
) -> int:
    """Run `main` without a word; the exit code. What goes wrong is left for rank 0 to tell."""
    try:
        main(context)
    except SystemExit as error:
        return int(bool(error.code))
    except BaseException as error:
        if context.ranks is not None:
            report = dict(zip(("code", "message", "advice"), describe(error, context.run), strict=True))
            context.ranks.failed(error, report)
        raise
    return 0
