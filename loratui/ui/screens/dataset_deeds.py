"""What the room of pictures does to them: marks, stars, edits, copies, trash, undo."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from textual import on

from loratui.dataset import batch as batches
from loratui.dataset.completion import Completer, read_tag_list
from loratui.dataset.edit_parse import OPERATIONS, parse_operation
from loratui.dataset.edits import Add
from loratui.dataset.query.nodes import escape_glob
from loratui.dataset.rows import PictureRow
from loratui.dataset.tags import join
from loratui.dataset.textblocks import Block, changed, read_blocks, write_blocks
from loratui.errors import DatasetError, LoratuiError
from loratui.paths import config_dir
from loratui.project.history import Actor
from loratui.ui import figures, text
from loratui.ui.batching import Batching, Scope, report
from loratui.ui.clipboard import copy
from loratui.ui.external_editor import edit_text
from loratui.ui.messages import Said
from loratui.ui.screens.choose import Choice, ChooseDialog, Option
from loratui.ui.screens.confirm import ConfirmDialog
from loratui.ui.screens.room import Room
from loratui.ui.widgets.caption_editor import CaptionEditor
from loratui.ui.widgets.caption_pane import CaptionPane
from loratui.ui.widgets.command_line import CommandLine
from loratui.ui.widgets.completions import Completions
from loratui.ui.widgets.filter_line import tag_filter
from loratui.ui.widgets.shelf_line import ShelfLine
from loratui.ui.widgets.tag_panel import TagPanel

if TYPE_CHECKING:
    from loratui.ui.watching import Gone, Post
    from loratui.ui.widgets.picture_grid import PictureGrid
    from loratui.ui.widgets.picture_list import PictureList


class DatasetDeeds(Room):
    """The half of the room that changes things."""

    def __init__(self) -> None:
        super().__init__()
        self.here = Path()
        """The picture under the cursor."""
        self.batching = Batching(lambda: self.studio)
        self._copied: tuple[str, ...] = ()
        self._lists: list[tuple[object, tuple[str, ...]]] | None = None

    @property
    def view(self) -> PictureList | PictureGrid:
        """List or grid, whichever is in sight."""
        raise NotImplementedError

    @property
    def current(self) -> PictureRow | None:
        """The row under the cursor."""
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
        if prefix == "%":
            return Scope(f"all {figures.plural(len(library.rows), 'picture')}", library.rows)
        if library.marked:
            rows = library.marked_rows()
            return Scope(f"the {figures.count(len(rows))} marked", rows)
        if library.filter:
            return Scope(f"the {figures.count(len(library.shown))} shown by the filter", library.shown)
        return Scope(f"all {figures.plural(len(library.rows), 'picture')}", library.rows)

    def _these(self) -> list[PictureRow]:
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

    def leave(self) -> None:
        """Save the caption."""
        self.query_one(CaptionEditor).save()

    # --- captions ---------------------------------------------------------------------------------------

    def action_edit(self) -> None:
        """Put the cursor into the caption."""
        editor = self.query_one(CaptionEditor)
        if editor.picture is not None:
            editor.focus()
            self._read_lists()

    @on(CaptionEditor.Saved)
    def _saved(self, message: CaptionEditor.Saved) -> None:
        if message.problem:
            self.notify(f"{message.problem}\n{message.advice}", severity="error")
            return
        self.studio.caption_saved(message.picture, message.caption)

    @on(CaptionEditor.Conflicted)
    def _conflicted(self, message: CaptionEditor.Conflicted) -> None:
        self.notify(
            f"The caption of {message.picture.name} was changed by another program meanwhile; nothing was "
            f"written. It is now: {text.crop(text.plain(message.theirs), 200)}",
            severity="error",
            timeout=15,
        )

    def complete_from_tags(self) -> None:
        """The project's tags and those of lists finish what is typed."""
        known = dict(self.studio.library.tags_all)
        self.query_one(Completions).completer = Completer(known, self._lists or ())  # type: ignore[arg-type]

    def _read_lists(self) -> None:
        """Lists in the project's and the user's folder `tags`, read once, when a caption is edited."""
        if self._lists is not None or self.studio.project is None:
            return
        self._lists = []
        folders = (self.studio.project.root / "tags", config_dir() / "tags")

        def work(post: Post, gone: Gone) -> None:
            found: list[tuple[object, tuple[str, ...]]] = []
            for folder in folders:
                for path in sorted(folder.glob("*.csv")) + sorted(folder.glob("*.txt")):
                    try:
                        found += read_tag_list(path)
                    except DatasetError as error:
                        post(Said(error.message, error.advice, "warning"))
            if found and not gone():
                self.app.call_later(self._take_lists, found)

        self.studio.in_thread(work, "tag-lists")

    def _take_lists(self, found: list[tuple[object, tuple[str, ...]]]) -> None:
        self._lists = found
        self.complete_from_tags()

    def action_batch(self) -> None:
        """Choose an edit for many captions; its arguments are typed in the line for commands."""
        scope = self.scope()
        options = [Option(s.name, f"{s.name} {s.usage}".strip(), s.help) for s in OPERATIONS.values()]

        def chosen(choice: Choice | None) -> None:
            if choice is None:
                return
            spec = OPERATIONS[choice.value]
            if spec.usage and not spec.usage.startswith("["):
                self.query_one(CommandLine).open(f"on {scope.words}", f"{spec.name} ")
            else:
                try:
                    self.batching.edit(parse_operation(spec.name, [], self.trigger), scope)
                except LoratuiError as error:
                    self.query_one(CommandLine).open(f"on {scope.words}", f"{spec.name} ")
                    self.query_one(CommandLine).wrong(f"{error.message} {error.advice}")

        say = "enter chooses; the diff comes before anything happens    esc leaves"
        self.app.push_screen(ChooseDialog(f"change {scope.words}", options, say), chosen)

    @on(TagPanel.Acted)
    def _acted(self, event: TagPanel.Acted) -> None:
        tag = event.tag
        if event.verb == "filter":
            self.use_filter(tag_filter(tag))
            self.view.focus()
        elif event.verb == "rename":
            quoted = _quoted(escape_glob(tag))
            self.query_one(CommandLine).open(f"on {self.scope().words}", f"rename {quoted} ")
        elif event.verb == "remove":
            self.batching.edit(parse_operation("remove", [escape_glob(tag)], self.trigger), self.scope())
        else:
            self._add_tags((tag,))

    def use_filter(self, words: str) -> None:
        """Filter as if it had been typed."""
        raise NotImplementedError

    def action_copy(self) -> None:
        """Copy the tags, here and to the terminal's clipboard."""
        row = self.current
        if row is None:
            return
        self._copied = row.tag_list
        copy(self.app, row.caption)
        what = figures.plural(len(row.tag_list), "tag") if row.tag_list else "the caption"
        self.notify(f"Copied {what}. p adds tags to other pictures.")

    def action_paste(self) -> None:
        """Add the copied tags."""
        if self._copied:
            self._add_tags(self._copied)
        else:
            self.notify("No tags were copied yet: y copies those of a picture.")

    def _add_tags(self, tags: tuple[str, ...]) -> None:
        rows, operation = self._these(), Add(tags)
        collection = self.studio.library.collection
        if len(rows) > 1:
            self.batching.edit(operation, self.scope())
        elif rows and collection is not None:
            self.query_one(CaptionEditor).save()
            actor = Actor("hand", join(tags))
            self.batching.commit_now(lambda pinned: collection.plan(operation, rows, pinned), actor)

    def action_editor(self) -> None:
        """Captions of the marked pictures, or of this one, in the user's editor."""
        self.query_one(CaptionEditor).save()
        rows = [row for row in self._these() if not row.known.code]
        if rows:
            before = {row.rel: row.caption for row in rows}
            self._edit_blocks(rows, write_blocks(Block(name, words) for name, words in before.items()))

    def _edit_blocks(self, rows: list[PictureRow], words: str) -> None:
        by_name = {row.rel: row for row in rows}
        try:
            after = edit_text(self.app, words)
        except LoratuiError as error:
            self.notify(f"{error.message}\n{error.advice}", severity="error")
            return
        if after is None:
            self.notify("Nothing was changed.")
            return
        try:
            new = changed({n: r.caption for n, r in by_name.items()}, read_blocks(after, by_name))
        except DatasetError as error:
            again = lambda yes: self._edit_blocks(rows, after) if yes else None  # noqa: E731
            self.app.push_screen(
                ConfirmDialog("this text cannot be read back", error.message, "mend it"), again
            )
            return
        label = f"edit {figures.plural(len(new), 'caption')} in an editor"

        def plan(_pinned: bool) -> batches.Batch:
            made = [batches.set_text(by_name[name].known.path, caption) for name, caption in new.items()]
            done = tuple(c for c in made if not c.reason)
            left = tuple(c for c in made if c.reason)
            return batches.Batch(label, done, left, {"already so": len(left)} if left else {})

        self.batching.show(figures.plural(len(rows), "picture"), plan, Actor("hand", "$EDITOR"))

    def action_kind(self) -> None:
        """Tags or prose, where it was guessed wrong."""
        row = self.current
        if row is not None:
            kind = "tags" if row.kind == "prose" else "prose"
            self._note([row], "kind", lambda _old: kind, f"{row.name} is {kind}")

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
        rows = self._these()
        words = rows[0].name if len(rows) == 1 else figures.plural(len(rows), "picture")
        self._note(rows, "stars", lambda old: new(int(old or 0)), f"stars for {words}")

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
        rows = self._these()
        if len(rows) > 1:
            question = (
                f"{len(rows):,} pictures move to the trash with their captions and masks. u brings them back."
            )
            ask = ConfirmDialog("trash", question, "move them")
            self.app.push_screen(ask, lambda yes: self._throw_away(rows) if yes else None)
        elif rows:
            self._throw_away(rows)

    def _throw_away(self, rows: list[PictureRow]) -> None:
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
            self.app.call_later(self.studio.library.refresh)

        self.studio.in_thread(work, "commit", exclusive=False)


def _quoted(words: str) -> str:
    """A word of a command, in quotes where it needs them."""
    import shlex

    return shlex.quote(words)
