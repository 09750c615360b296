"""The user's own editor in a real terminal: the screen is lent and taken back, with and without an editor."""

from __future__ import annotations

from pathlib import Path

from app_kit import APP, environment, project
from pty_probe import PtyProgram


def test_the_terminal_is_lent_to_the_editor(tmp_path: Path) -> None:
    """One that is not there is told, and the app goes on; one that is there changes a setting."""
    root = project(tmp_path / "p", 2)
    editor = tmp_path / "my-editor"
    env = environment(tmp_path) | {"EDITOR": str(editor), "VISUAL": ""}
    with PtyProgram([*APP, str(root)], 120, 40, env=env) as app:
        assert app.wait_text("captioned", 30) is not None
        app.press("3")
        assert app.wait_written("Optimizer steps"), "\n".join(app.screen())
        app.press("E")
        assert app.wait_written("cannot be started"), "\n".join(app.screen())
        editor.write_text('#!/bin/sh\nsed -i "s/^# rank = .*/rank = 3/" "$1"\n')
        editor.chmod(0o700)
        app.press("E")
        assert app.wait_written("rank 3 alpha"), "\n".join(app.screen())
        app.send(b"\x11")
