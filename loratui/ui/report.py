"""What is left when the app itself breaks: a report on disk and one line on the terminal."""

from __future__ import annotations

import os
import platform
import time
import traceback

from loratui import __version__
from loratui.paths import state_dir
from loratui.runs.plain import clean, clean_log


def write_report(error: BaseException | None) -> str:
    """Write the traceback to the state folder.

    Returns:
        One line for the user.
    """
    what = clean(f"{type(error).__name__}: {error}".splitlines()[0]) if error is not None else "unknown error"
    head = (
        f"loratui {__version__}, Python {platform.python_version()}, {time.strftime('%Y-%m-%d %H:%M:%S')}\n\n"
    )
    trace = "".join(traceback.format_exception(error)) if error is not None else ""
    path = state_dir() / f"crash-{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}.txt"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(head + clean_log(trace), encoding="utf-8")
    except OSError:
        return f"loratui broke ({what}); captions are saved, runs go on."
    return f"loratui broke ({what}); captions are saved, runs go on. Report: {clean(str(path))}"
