"""Copying to the clipboard of the terminal, through tmux where it stands between."""

from __future__ import annotations

import os
import subprocess
from typing import Any

from textual.app import App

from loratui.ui import text


def copy(app: App[Any], words: str) -> None:
    """Copy text, made safe to paste; in a thread.

    tmux drops OSC 52 unless it was told not to; `tmux load-buffer -w` sets its own buffer and passes it on.
    """
    clean = "\n".join(text.lines(words))
    if os.environ.get("TMUX"):
        try:
            subprocess.run(
                ["tmux", "load-buffer", "-w", "-"],
                input=clean.encode(),
                timeout=2,
                check=True,
                capture_output=True,
            )
            return
        except (OSError, subprocess.SubprocessError):
            pass  # an old tmux, or none: the terminal is asked itself
    app.call_later(app.copy_to_clipboard, clean)
