"""The full-screen app. Importing this package imports nothing else; `run` starts the app."""

from __future__ import annotations

from pathlib import Path

_FRAMES = "120"
"""Paints a second at most: at Textual's 60 a key that comes right after a paint waits 16 ms for the next."""
_SWITCH_S = 0.0005
"""A thread that computes hands over after so long: the default lets a key wait 5 ms at every turn."""


def run(
    project_root: Path,
    open_run: str | None = None,
    replay: Path | None = None,
    replay_share: float | None = None,
) -> int:
    """Run the app until the user leaves it.

    Args:
        project_root: the project's folder; without a loratui.toml the first-minute wizard opens.
        open_run: a run to watch at once: path, id, name or `last`.
        replay: a run directory to play as a recording.
        replay_share: freeze the recording at this share of its time, 0 to 1.

    Returns:
        The exit code: 0, or 1 when the app itself broke.
    """
    import os
    import sys

    from loratui.ui import still

    still.begin()
    os.environ.setdefault("TEXTUAL_FPS", _FRAMES)  # read when Textual is imported
    from loratui.ui.app import LoratuiApp
    from loratui.ui.memory import give_back_freed
    from loratui.ui.terminal import TerminalDriver, end_on_signals

    # in a browser Textual's own driver speaks to the server (`loratui serve`)
    driver = None if os.environ.get("TEXTUAL_DRIVER", "").endswith(":WebDriver") else TerminalDriver
    give_back_freed()
    sys.setswitchinterval(_SWITCH_S)
    app = LoratuiApp(project_root, open_run, replay, replay_share, driver)
    while True:
        end_on_signals(app.save_all, lambda: app._driver)  # noqa: B023 - the app of this round
        app.run()
        if app.onward is None:
            break
        folder, came_from = app.onward
        app = LoratuiApp(folder, driver_class=driver, came_from=came_from)
    job = app.job_state
    if (
        job is not None
        and app.watched is not None
        and job.state in {"starting", "caching", "running", "paused"}
    ):
        from loratui.ui.text import plain

        sys.stderr.write(f"{plain(job.name)} goes on without the app; `loratui` shows it again.\n")
    return app.return_code or 0
