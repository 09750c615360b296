"""A batch edit from wish to report: plan it in a thread, show the diff, do it, say what came of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from loratui.errors import LoratuiError
from loratui.ui import figures
from loratui.ui.messages import Said

if TYPE_CHECKING:  # the rest is imported at the first edit: the app's first frame does not wait for it
    from loratui.dataset.batch import Batch
    from loratui.dataset.edits import Operation
    from loratui.dataset.rows import PictureRow
    from loratui.project.history import Actor, Outcome
    from loratui.ui.app import LoratuiApp
    from loratui.ui.screens.diff import DiffDialog
    from loratui.ui.watching import Gone, Post

Plan = Callable[[bool], "Batch"]
"""(pinned ones too) -> what would happen; called in a thread."""


@dataclass(frozen=True, slots=True)
class Scope:
    """Which pictures an edit works on.

    Attributes:
        words: for people, as in `on the 3 marked`.
        rows: the pictures.
    """

    words: str
    rows: Sequence[PictureRow]


class Batching:
    """Does batch edits for a room.

    Args:
        studio: gives the app.
    """

    def __init__(self, studio: Callable[[], LoratuiApp]) -> None:
        self._app = studio

    @property
    def _studio(self) -> LoratuiApp:
        return self._app()

    def edit(self, operation: Operation, scope: Scope) -> None:
        """Show what an operation would do, and let it be done."""
        from loratui.project.history import Actor

        collection = self._studio.library.collection
        if collection is not None:
            self.show(
                scope.words,
                lambda pinned: collection.plan(operation, scope.rows, pinned),
                Actor("batch", operation.describe()),
                may_pin=True,
            )

    def show(self, words: str, plan: Plan, actor: Actor, may_pin: bool = False) -> None:
        """Show a plan, and let it be done.

        Args:
            words: which pictures.
            plan: makes it.
            actor: who is said to have done it.
            may_pin: whether captions that are pinned can be taken in.
        """
        from loratui.ui.screens.diff import DiffDialog

        dialog = DiffDialog(
            words,
            replan=(lambda pinned: self._plan(dialog, plan, pinned)) if may_pin else None,
            do=lambda: self._do(dialog, actor),
        )
        self._studio.clear_notifications()  # they would lie over the keys of the dialog
        self._studio.push_screen(dialog)
        self._plan(dialog, plan, False)

    def _plan(self, dialog: DiffDialog, plan: Plan, pinned: bool) -> None:
        def work(post: Post, gone: Gone) -> None:
            try:
                batch = plan(pinned)
            except LoratuiError as error:
                post(Said(error.message, error.advice, "error"))
                self._studio.call_later(dialog.action_leave)
                return
            if not gone():
                self._studio.call_later(dialog.show, batch)

        self._studio.in_thread(work, "batch")

    def _do(self, dialog: DiffDialog, actor: Actor) -> None:
        collection, batch, pinned = self._studio.library.collection, dialog.plan, dialog.include_pinned
        assert collection is not None and batch is not None

        def progress(done: int, of: int) -> None:
            self._studio.call_later(dialog.progress, done, of)

        def work(post: Post, _gone: Gone) -> None:
            collection.history.on_progress = progress
            try:
                outcome = collection.commit(batch, actor, pinned)
            except LoratuiError as error:
                post(Said(error.message, error.advice, "error"))
                self._studio.call_later(dialog.finish)
                return
            finally:
                collection.history.on_progress = None
            post(report(outcome))
            written = set(outcome.written)
            pictures = [change.picture for change in batch.changes if change.path in written]
            self._studio.call_later(self._done, dialog, pictures)

        # never cancelled: what was begun is finished
        self._studio.in_thread(work, "commit", exclusive=False)

    def _done(self, dialog: DiffDialog, pictures: list[Path]) -> None:
        dialog.finish()
        self._studio.library.reload(pictures)

    def commit_now(self, plan: Plan, actor: Actor) -> None:
        """Do a plan without asking: an edit of one caption that undo takes back."""
        collection = self._studio.library.collection
        assert collection is not None

        def work(post: Post, _gone: Gone) -> None:
            try:
                batch = plan(True)
                outcome = collection.commit(batch, actor, include_pinned=True)
            except LoratuiError as error:
                post(Said(error.message, error.advice, "error"))
                return
            if not outcome.entry:
                post(Said(f"{batch.label}: {', '.join(batch.reasons) or 'nothing to change'}."))
            self._studio.call_later(self._studio.library.reload, [c.picture for c in batch.changes])

        self._studio.in_thread(work, "commit", exclusive=False)


def report(outcome: Outcome, verb: str = "", pictures: int = 0) -> Said:
    """What came of a step, in a sentence or three."""
    what = [figures.plural(len(outcome.written), "caption")] if outcome.written else []
    what += [figures.plural(pictures, "picture")] if pictures else []
    counted = f" ({', '.join(what)})" if what else ""
    parts = [f"{verb or 'Done'}: {outcome.label}{counted}."]
    if outcome.left:
        reasons = {why for _, why in outcome.left}
        parts.append(f"{len(outcome.left):,} left alone: {', '.join(sorted(reasons))}.")
    if outcome.conflicts:
        parts.append(
            f"{figures.plural(len(outcome.conflicts), 'caption')} changed by another program and left alone."
        )
    return Said(
        " ".join(parts), "" if verb else "u takes it back.", "warning" if outcome.conflicts else "information"
    )
