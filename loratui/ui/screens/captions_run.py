"""The part of room 2 that follows a caption run and controls it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from loratui.runs.state import ENDED, RunState
from loratui.ui import captioning
from loratui.ui.panels.caption_run import CaptionRun
from loratui.ui.screens.room import Room
from loratui.ui.widgets.facts import Facts

if TYPE_CHECKING:
    from loratui.runs.directory import RunDir


class RunPart(Room):
    """Follows one caption run, whoever started it."""

    def __init__(self) -> None:
        super().__init__()
        self._page = "setup"
        self._run: RunDir | None = None
        self._state: RunState | None = None

    def _thread(self, work: Callable[..., None], group: str) -> None:
        self.studio.in_thread(work, f"caption-{group}", self)

    def _show_page(self, page: str) -> None:
        """Bring a page into sight."""
        raise NotImplementedError

    def _find_run(self) -> None:
        """A caption run that works already is followed; one that was started elsewhere, too."""
        alive = [
            run for run, state in self.studio.runs if state.job == "caption" and state.state not in ENDED
        ]
        if alive and (self._run is None or self._run not in alive):
            first = self._run is None and self._page == "setup"
            self._follow_run(alive[0])
            if first:
                self._show_page("live")

    def _follow_run(self, run: RunDir) -> None:
        self._run, self._state = run, None
        self._thread(partial(captioning.follow, run), "follow")

    def on_caption_run_seen(self, message: captioning.CaptionRunSeen) -> None:
        """A new state of the run."""
        if message.run != self._run:
            return
        before, self._state = self._state, message.state
        if before is not None and before.state not in ENDED and message.state.state in ENDED:
            self.studio.action_rescan()
            watched = self.studio.watched
            good = message.state.state == "finished"
            words = f"{message.state.reason or message.state.state}. {message.state.advice}".strip()
            if watched is None or watched.run != message.run:  # else the app says it
                self.notify(words, title="captions", severity="information" if good else "warning")
        if self.is_current:
            self.query_one(CaptionRun).update(self._state)
            self.query_one("#summary", Facts).redraw()
            self.refresh_bindings()

    def on_screen_resume(self) -> None:
        """The run may have gone on meanwhile."""
        if self._state is not None:
            self.query_one(CaptionRun).update(self._state)

    def _request(self, kind: str) -> None:
        from loratui.runs.control import request

        run = self._run
        if run is None:
            return
        try:
            request(run, kind)
        except (ValueError, OSError) as error:
            self.notify(str(error), severity="error")

    def action_pause(self) -> None:
        """Pause, or go on."""
        paused = self._state is not None and self._state.state == "paused"
        self._request("resume" if paused else "pause")

    def action_stop(self) -> None:
        """Ask, then stop."""
        from loratui.ui.screens.confirm import ConfirmDialog

        question = "It ends after this batch; what is captioned stays. R goes on from there."
        dialog = ConfirmDialog("stop captioning", question, "stop it")
        self.app.push_screen(dialog, lambda yes: self._request("stop") if yes else None)

    def action_resume_run(self) -> None:
        """Start the ended run again; what it has described is not asked again."""
        run = self._run
        if run is None:
            return

        def work(post: captioning.Post, gone: captioning.Gone) -> None:
            from loratui.errors import LoratuiError
            from loratui.runs.launch import resume
            from loratui.ui.messages import Said

            try:
                resume(run)
            except LoratuiError as error:
                self.studio.post_message(Said(error.message, error.advice, "error"))
                return
            post(captioning.CaptionsStarted(run))

        self._thread(work, "start")
