"""The part of room 2 that looks over what caption runs wrote."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from textual import on

from loratui.ui import captioning, figures
from loratui.ui.panels.caption_review import CaptionReview
from loratui.ui.screens.captions_run import RunPart
from loratui.ui.widgets.facts import Facts
from loratui.ui.widgets.line_editor import LineEditor
from loratui.ui.widgets.line_list import LineList

if TYPE_CHECKING:
    from loratui.caption.review import Waiting
    from loratui.project.history import History, Outcome


class ReviewPart(RunPart):
    """Verdicts: each is one step of the history."""

    def __init__(self) -> None:
        super().__init__()
        self._waiting = 0
        self._editing: Waiting | None = None

    def leave(self) -> None:
        """Keep what is being written."""
        editor = self.query_one(LineEditor)
        project, item = self.studio.project, self._editing
        if editor.changed and project is not None and item is not None:
            from loratui.caption.review import edit

            edit(captioning.open_history(project), item, editor.text.strip())

    def _read_review(self) -> None:
        project = self.studio.project
        if project is not None and self._editing is None:
            self._thread(partial(captioning.read_review, project), "review")

    def on_review_read(self, message: captioning.ReviewRead) -> None:
        """The queue as it is now."""
        self._waiting = len(message.items)
        self.query_one(CaptionReview).show_items(message.items)
        self.query_one("#summary", Facts).redraw()
        self.refresh_bindings()

    def on_judged(self, message: captioning.Judged) -> None:
        """Say what came of it, and look what waits now."""
        self._read_review()
        if message.said:
            severity: Any = message.severity
            self.notify(message.said, severity=severity, timeout=3 if severity == "information" else None)

    @on(CaptionReview.Wanted)
    def _before_wanted(self, message: CaptionReview.Wanted) -> None:
        if self.studio.project is not None:
            self._thread(partial(captioning.read_before, self.studio.project, message.item), "before")

    def on_before_read(self, message: captioning.BeforeRead) -> None:
        """What was there before."""
        self.query_one(CaptionReview).show_before(message.item, message.text)

    def _judge(self, act: Callable[[History], Outcome], done: str = "") -> None:
        self.query_one(CaptionReview).expects_back = done in captioning.STEPS
        if self.studio.project is not None:
            self._thread(partial(captioning.judge, self.studio.project, act, done), "judge")

    def action_accept(self) -> None:
        """Good as it is."""
        from loratui.caption.review import accept

        item = self.query_one(CaptionReview).current
        if item is not None:
            self._judge(lambda history: accept(history, [item]))

    def action_accept_all(self) -> None:
        """Ask, then accept all."""
        from loratui.caption.review import accept
        from loratui.ui.screens.confirm import ConfirmDialog

        items = self.query_one(CaptionReview).items
        question = f"{figures.plural(len(items), 'caption')} will wait no longer. u takes that back."

        def answered(yes: bool | None) -> None:
            if yes:
                self._judge(lambda history: accept(history, items), f"{len(items)} accepted.")

        self.app.push_screen(ConfirmDialog("accept all", question, "accept them"), answered)

    def action_reject(self) -> None:
        """Back to what was there."""
        from loratui.caption.review import reject, text_before

        item = self.query_one(CaptionReview).current
        if item is None:
            return

        def act(history: History) -> Outcome:
            before = text_before(history, item) or ""
            outcome = reject(history, [item])
            if outcome.written:
                self.app.call_from_thread(self.studio.caption_saved, item.picture, before)
            return outcome

        self._judge(act)

    def action_edit(self) -> None:
        """Put the cursor into the caption."""
        self._editing = self.query_one(CaptionReview).current
        if self._editing is not None:
            self.query_one(LineEditor).begin()

    @on(LineEditor.Kept)
    def _kept(self, message: LineEditor.Kept) -> None:
        from loratui.caption.review import edit

        item, self._editing = self._editing, None
        self.query_one("#queue", LineList).focus()
        if item is None:
            return

        def act(history: History) -> Outcome:
            outcome = edit(history, item, message.written)
            if outcome.written:
                line = " ".join(message.written.split("\n"))
                self.app.call_from_thread(self.studio.caption_saved, item.picture, line)
            return outcome

        self._judge(act, "Kept as edited by hand: later runs leave it alone.")

    @on(LineEditor.Left)
    def _left(self) -> None:
        self._editing = None
        self.query_one("#queue", LineList).focus()

    def action_skip(self, by: int) -> None:
        """Another caption."""
        self.query_one(CaptionReview).go(by)

    def action_order(self) -> None:
        """The next order."""
        self.query_one(CaptionReview).next_order()

    def action_undo(self) -> None:
        """Take the newest step back."""
        self._judge(self._stepped(lambda history: history.undo()), "Taken back")

    def action_redo(self) -> None:
        """Do it again."""
        self._judge(self._stepped(lambda history: history.redo()), "Done again")

    def _stepped(self, step: Callable[[History], Outcome]) -> Callable[[History], Outcome]:
        def act(history: History) -> Outcome:
            outcome = step(history)
            if outcome.written:
                self.app.call_from_thread(self.studio.action_rescan)
            return outcome

        return act
