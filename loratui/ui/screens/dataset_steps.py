"""What the room of pictures does to pictures: marks, stars, trash, undo; and which ones an edit is about."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from loratui.dataset.rows import PictureRow
from loratui.errors import LoratuiError
from loratui.ui import figures, text
from loratui.ui.batching import Scope, report
from loratui.ui.messages import Said
from loratui.ui.screens.choose import Choice, ChooseDialog, Option
from loratui.ui.screens.confirm import ConfirmDialog
from loratui.ui.screens.room import Room
from loratui.ui.widgets.caption_editor import CaptionEditor
from loratui.ui.widgets.caption_pane import CaptionPane
from loratui.ui.widgets.shelf_line import ShelfLine

if TYPE_CHECKING:
    from loratui.ui.watching import Gone, Post
    from loratui.ui.widgets.picture_grid import PictureGrid
    from loratui.ui.widgets.picture_list import PictureList


class DatasetSteps(Room):
    """The part of the room that moves, marks and takes back."""

    def __init__(self) -> None:
        super().__init__()
        self.here = Path()
        """The picture under the cursor."""

    @property
    def view(self) -> PictureList | PictureGrid:
        """List or grid, whichever is in sight."""
        raise NotImplementedError

    @property
    def current(self) -> PictureRow | None:
        """The row under the cursor."""
        raise NotImplementedError

    def follow_cursor(self) -> None:
        """Picture and caption of the row under the cursor, if they are not shown yet."""
        raise NotImplementedError

    @property
    def trigger(self) -> str:
        """The project's trigger."""
        return self.studio.project.trigger if self.studio.project is not None else ""

    def scope(self, prefix: str = "") -> Scope:
        """What an edit works on: the marked, else what is shown; `%` all, `.` this picture."""
        library, row = self.studio.library, self.current
        if prefix == ".":
            rows = [row] if row is not None else []
            return Scope(text.plain(row.name) if row is not None else "no picture", rows)
        if library.marked and prefix != "%":
            rows = _usable(library.marked_rows())
            return Scope(f"the {figures.count(len(rows))} marked", rows)
        if library.filter and prefix != "%":
            rows = _usable(library.shown)
            return Scope(f"the {figures.count(len(rows))} shown by the filter", rows)
        rows = _usable(library.rows)
        return Scope(f"all {figures.plural(len(rows), 'picture')}", rows)

    def these(self) -> list[PictureRow]:
        """The marked pictures, else the one under the cursor."""
        row = self.current
        return self.studio.library.marked_rows() or ([row] if row is not None else [])

    def say_busy(self, words: str) -> None:
        """Say at the top what is going on; from any thread."""

        def say() -> None:
            line = self.query_one(ShelfLine)
            line.busy = words
            line.redraw()

        self.app.call_later(say)

    # --- marks and stars --------------------------------------------------------------------------------

    def action_mark(self) -> None:
        """Mark this one, on to the next."""
        row = self.current
        if row is not None:
            self.studio.library.mark([row], None)
            if self.view.cursor < len(self.studio.library.shown) - 1:
                self.view.cursor += 1

    def action_mark_all(self, how: str) -> None:
        """Mark all that is shown, turn the marks over, or take all away."""
        library = self.studio.library
        rows = library.rows if how == "off" else library.shown
        library.mark(rows, {"on": True, "off": False}.get(how))

    def action_star(self, by: int) -> None:
        """A star more or less."""
        self.give_stars(lambda old: max(0, min(5, old + by)))

    def give_stars(self, new: Callable[[int], int]) -> None:
        """Stars for the marked pictures, or for this one."""
        rows = self.these()
        words = rows[0].name if len(rows) == 1 else figures.plural(len(rows), "picture")
        self._note(rows, "stars", lambda old: new(int(old or 0)), f"stars for {words}")

    def give_weight(self, weight: float) -> None:
        """Weigh the loss of the marked pictures, or of this one."""
        from loratui.project.weighing import WEIGHT  # here: the first frame does not wait for the history

        rows = self.these()
        words = rows[0].name if len(rows) == 1 else figures.plural(len(rows), "picture")
        self._note(
            rows, WEIGHT, lambda _old: weight if weight != 1 else None, f"weight {weight:g} for {words}"
        )

    def _note(self, rows: list[PictureRow], name: str, new: Callable[[Any], Any], label: str) -> None:
        collection = self.studio.library.collection
        if collection is None or not rows:
            return
        values: dict[Path, Any] = {}
        for row in rows:
            old = row.stars if name == "stars" else row.kind
            values[row.known.path] = new(old)
            if name == "stars":
                row.stars = values[row.known.path]
        self.view.refresh()

        def work(post: Post, _gone: Gone) -> None:
            try:
                collection.note(values, name, label)
            except LoratuiError as error:
                post(Said(error.message, error.advice, "error"))
            self.app.call_later(self.studio.library.reload, list(values))

        self.studio.in_thread(work, "commit", exclusive=False)

    # --- trash and undo ---------------------------------------------------------------------------------

    def action_trash(self) -> None:
        """To the trash; many only after a question."""
        rows = self.these()
        if len(rows) > 1:
            question = (
                f"{len(rows):,} pictures move to the trash with their captions and masks. u brings them back."
            )
            ask = ConfirmDialog("trash", question, "move them")
            self.app.push_screen(ask, lambda yes: self.throw_away(rows) if yes else None)
        elif rows:
            self.throw_away(rows)

    def throw_away(self, rows: list[PictureRow]) -> None:
        """To the trash, as one step."""
        collection = self.studio.library.collection
        if collection is None:
            return
        self.query_one(CaptionPane).show(None)
        pictures = [row.known.path for row in rows]

        def work(post: Post, _gone: Gone) -> None:
            try:
                done = collection.throw_away(pictures)
                name = done[0].picture.name if len(done) == 1 else figures.plural(len(done), "picture")
                post(Said(f"{name} moved to the trash.", "u brings it back, D looks into the trash."))
            except LoratuiError as error:
                post(Said(error.message, error.advice, "error"))
            self.app.call_later(self.studio.library.refresh)

        self.studio.library.forget(pictures)
        self.studio.in_thread(work, "commit", exclusive=False)

    def action_restore(self) -> None:
        """What lies in the trash, to bring back."""
        collection = self.studio.library.collection
        if collection is None:
            return
        items = collection.trash.items()
        if not items:
            self.notify("The trash is empty.")
            return
        now = self.studio.now()
        options = [Option(i.id, i.picture.name, figures.ago(i.time, now)) for i in items]

        def chosen(choice: Choice | None) -> None:
            if choice is not None:
                self._bring_back([choice.value])

        self.app.push_screen(ChooseDialog("trash", options, "enter brings back    esc leaves"), chosen)

    def _bring_back(self, ids: list[str]) -> None:
        collection = self.studio.library.collection
        assert collection is not None

        def work(post: Post, _gone: Gone) -> None:
            try:
                done = collection.bring_back(ids)
                post(Said(f"{figures.plural(len(done), 'picture')} came back from the trash."))
            except LoratuiError as error:
                post(Said(error.message, error.advice, "error"))
            self.app.call_later(self.studio.library.refresh)

        self.studio.in_thread(work, "commit", exclusive=False)

    def action_undo(self) -> None:
        """Take the last step back."""
        self.step_back(undo=True)

    def action_redo(self) -> None:
        """Do it again."""
        self.step_back(undo=False)

    def step_back(self, undo: bool) -> None:
        """One step back or forth in the history, in a thread."""
        collection = self.studio.library.collection
        self.query_one(CaptionEditor).save()
        if collection is None:
            return

        def work(post: Post, _gone: Gone) -> None:
            try:
                moved = collection.undo() if undo else collection.redo()
            except LoratuiError as error:
                post(Said(error.message, error.advice, "error"))
                return
            outcome = moved.outcome
            if not outcome.entry and not outcome.conflicts:
                post(Said(f"There is nothing to {'undo' if undo else 'do again'}."))
                return
            post(report(outcome, "Took back" if undo else "Did again", len(moved.pictures)))
            for problem in moved.problems:
                post(Said(problem, "", "error"))
            library = self.studio.library
            if moved.regrouped:
                self.app.call_later(library.take_groups, collection.alike)
            if moved.pictures:  # some came from the trash or went there
                self.app.call_later(library.refresh)
            else:
                self.app.call_later(library.reload, moved.touched, True)

        self.studio.in_thread(work, "commit", exclusive=False)


def _usable(rows: Sequence[PictureRow]) -> list[PictureRow]:
    """Those that can be read: a damaged file is not trained on, so its caption is nobody's."""
    return [row for row in rows if not row.known.code]
