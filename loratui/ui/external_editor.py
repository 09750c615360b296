"""`E`: a text in the user's own editor."""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from textual.app import App, SuspendNotSupported

from loratui.errors import DatasetError


def editor_command() -> list[str]:
    """$VISUAL, $EDITOR, or the first of a few that is installed.

    Raises:
        DatasetError: there is none.
    """
    from shutil import which

    for name in ("VISUAL", "EDITOR"):
        try:
            words = shlex.split(os.environ.get(name, ""))
        except ValueError:
            continue
        if words:
            return words
    for name in ("nano", "vim", "vi"):
        if which(name):
            return [name]
    raise DatasetError("No editor is set.", "Set the variable EDITOR, as in: export EDITOR=nano")


@contextlib.contextmanager
def _ctrl_c_is_the_editors() -> Iterator[None]:
    """ctrl+c goes to all programs of the terminal; here it would end the app, whose screen is away."""
    before = signal.signal(signal.SIGINT, lambda *_: None)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


_AT_LINE = frozenset({"vi", "vim", "nvim", "view", "nano", "emacs", "micro", "kak", "joe", "jed", "ne", "mg"})
"""Editors that begin at a line when `+LINE` stands before the file."""


def edit_text(
    app: App[Any], before: str, name: str = "loratui-captions-.txt", line: int = 0, instead: str = "e"
) -> str | None:
    """Let the user change a text; None when it was left as it was.

    Args:
        app: lends its terminal.
        before: the text.
        name: of the file, something unique put in before its suffix.
        line: where to begin, 1-based; 0 for the top.
        instead: the key that edits without an editor, for the advice.

    Raises:
        DatasetError: there is no editor, or it failed.
    """
    command = editor_command()
    if line and Path(command[0]).name in _AT_LINE:
        command = [*command, f"+{line}"]
    handle, place = tempfile.mkstemp(prefix=Path(name).stem, suffix=Path(name).suffix)
    path = Path(place)
    try:
        with os.fdopen(handle, "w", encoding="utf-8", errors="replace", newline="\n") as file:
            file.write(before)
        code, failure = 0, None
        try:
            with app.suspend(), _ctrl_c_is_the_editors():
                try:
                    code = subprocess.run([*command, str(path)], check=False).returncode
                except OSError as error:  # caught in here: an error that leaves `suspend` leaves no screen
                    failure = error
        except SuspendNotSupported:
            message, advice = "This terminal cannot be lent to an editor.", f"Edit with {instead} instead."
            raise DatasetError(message, advice) from None
        if failure is not None:
            raise DatasetError(
                f"The editor {command[0]} cannot be started: {failure.strerror}.",
                "Check the variable EDITOR.",
            ) from failure
        if code:
            raise DatasetError(f"The editor ended with code {code}.", "Nothing was changed.")
        try:
            after = path.read_text(encoding="utf-8", errors="replace")
        except OSError as error:
            raise DatasetError("The edited text is not there any more.", "Nothing was changed.") from error
    finally:
        with contextlib.suppress(OSError):
            path.unlink()
    return None if after == before else after
