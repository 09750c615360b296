"""What the room of pictures does to captions."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from textual import on

from loratui.dataset.query.nodes import escape_glob
from loratui.dataset.rows import PictureRow
from loratui.dataset.tags import join
from loratui.errors import DatasetError, LoratuiError
from loratui.paths import config_dir
from loratui.ui import figures, text
from loratui.ui.batching import Batching, Scope
from loratui.ui.clipboard import copy
from loratui.ui.external_editor import edit_text
from loratui.ui.messages import Said
from loratui.ui.screens.choose import Choice, ChooseDialog, Option
from loratui.ui.screens.dataset_frames import DatasetFrames
from loratui.ui.widgets.caption_editor import CaptionEditor
from loratui.ui.widgets.command_line import CommandLine
from loratui.ui.widgets.completions import Completions
from loratui.ui.widgets.filter_line import tag_filter
from loratui.ui.widgets.tag_panel import TagPanel

if TYPE_CHECKING:  # what edits need is imported at the first one: the app's first frame does not wait for it
    from loratui.dataset.batch import Batch
    from loratui.project.remedies import Trouble
    from loratui.ui.watching import Gone, Post


class DatasetDeeds(DatasetFrames):
    """What the room does to captions: by hand, in batches, by tags, in an editor of the user's own."""

    def __init__(self) -> None:
        super().__init__()
        self.batching = Batching(lambda: self.studio)
        self._copied: tuple[str, ...] = ()
        self._lists: list[tuple[object, tuple[str, ...]]] | None = None

    def leave(self) -> None:
        """Save the caption."""
        self.query_one(CaptionEditor).save()

    # --- captions ---------------------------------------------------------------------------------------

    def action_edit(self) -> None:
        """Put the cursor into the caption."""
        self.follow_cursor()
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
        """Both texts, and which one is to stay; nothing is written before that is said."""
        editor = self.query_one(CaptionEditor)
        options = [
            Option("mine", "keep what was typed here", message.mine),
            Option("theirs", "take what is on disk now", message.theirs or "(the file is gone)"),
            Option("both", "edit both together", f"{message.theirs}, {message.mine}"),
        ]

        def chosen(choice: Choice | None) -> None:
            if choice is None:
                return
            if editor.picture != message.picture:  # the cursor went on meanwhile: back to it
                self.go_to(message.picture)
                editor.open(message.picture)
            editor.take_theirs()
            if choice.value != "theirs":
                editor.take(message.mine if choice.value == "mine" else f"{message.theirs}, {message.mine}")
                editor.focus()
            if choice.value == "mine":
                editor.save()

        name = text.plain(message.picture.name)
        title = f"{name} was changed by another program"
        self.app.push_screen(ChooseDialog(title, options, "enter chooses    esc decides later"), chosen)

    def complete_from_tags(self) -> None:
        """The project's tags and those of lists finish what is typed."""
        from loratui.dataset.completion import Completer

        known = dict(self.studio.library.tags_all)
        self.query_one(Completions).completer = Completer(known, self._lists or ())  # type: ignore[arg-type]

    def _read_lists(self) -> None:
        """Lists in the project's and the user's folder `tags`, read once, when a caption is edited."""
        if self._lists is not None or self.studio.project is None:
            return
        self._lists = []
        folders = (self.studio.project.root / "tags", config_dir() / "tags")

        def work(post: Post, gone: Gone) -> None:
            from loratui.dataset.completion import read_tag_list

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
        from loratui.dataset.edit_parse import OPERATIONS, parse_operation

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

    def action_audit(self) -> None:
        """What is wrong, by kind; from there to the pictures, or to the edit that mends it."""
        from loratui.ui.screens.audit import AuditDialog, Wish

        library, dialog = self.studio.library, AuditDialog()
        collection, tokens = library.collection, library.tokens
        if collection is None:
            return
        self.leave()

        def progress(done: int, of: int) -> None:
            if done % 25 == 0:
                self.app.call_later(dialog.progress, done, of)

        def work(post: Post, gone: Gone) -> None:
            from loratui.project.findings import is_of_faces, measure, project_findings
            from loratui.project.remedies import by_code

            try:
                measure(collection, progress, is_of_faces(collection))
                count = tokens.count if tokens is not None else None
                found = tuple(by_code(project_findings(collection, collection.rows(), count)))
            except LoratuiError as error:
                post(Said(error.message, error.advice, "error"))
                self.app.call_later(dialog.dismiss, None)
                return
            if not gone():
                self.app.call_later(self._audited, found)
                self.app.call_later(dialog.show, found)

        def chosen(wish: Wish | None) -> None:
            if wish is None:
                return
            trouble, wanted = wish.trouble, set(wish.trouble.paths)
            if wish.compare:
                self.action_doubles(trouble.paths[0])
            elif wish.mend:
                rows = [row for row in library.rows if row.rel in wanted]
                words = f"{figures.plural(len(rows), 'picture')}: {trouble.title}"
                self.batching.edit(trouble.operation(self.trigger), Scope(words, rows))
            else:
                self.use_filter(f"problem:{trouble.code}")
                first = next((r for r in library.rows if r.rel == trouble.paths[0]), None)
                if first is not None:
                    self.go_to(first.known.path)
                self.view.focus()

        self.app.push_screen(dialog, chosen)
        self.studio.in_thread(work, "audit")

    def action_doubles(self, first: str = "") -> None:
        """Near-duplicates side by side, beginning with the group of a picture: the one under the cursor."""
        from loratui.ui.screens.doubles import DoublesRoom

        library, row = self.studio.library, self.current
        if library.collection is None:
            self.notify("The pictures are still being read.")
            return
        self.leave()
        named = next((r for r in library.rows if r.rel == first), None) if first else row
        self.app.push_screen(DoublesRoom(self, named.known.path if named is not None else None))

    def _audited(self, found: Sequence[Trouble]) -> None:
        """The filter knows of it from now on; captions that are edited are audited again by themselves."""
        self.studio.library.audited = True
        codes: dict[str, list[str]] = {}
        for trouble in found:
            for path in trouble.paths:
                codes.setdefault(path, []).append(trouble.code)
        for row in self.studio.library.rows:
            row.audited = tuple(codes.get(row.rel, ()))

    @on(TagPanel.Acted)
    def _acted(self, event: TagPanel.Acted) -> None:
        from loratui.dataset.edit_parse import parse_operation

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

    def go_to(self, picture: Path) -> None:
        """Put the cursor on a picture, where it is shown."""
        shown, wanted = self.studio.library.shown, self.studio.library.row(picture)
        at = next((i for i, row in enumerate(shown) if row is wanted), None)
        if at is not None:
            self.view.cursor = at

    def action_copy(self) -> None:
        """Copy the tags, here and to the terminal's clipboard."""
        row = self.current
        if row is None:
            return
        self._copied = row.tag_list
        self._to_clipboard(join(row.tag_list))
        what = figures.plural(len(row.tag_list), "tag")
        self.notify(
            f"Copied {what}. p adds them to other pictures." if row.tag_list else "There are no tags here."
        )

    def action_copy_caption(self) -> None:
        """Copy the whole caption to the terminal's clipboard."""
        row = self.current
        if row is not None:
            self._to_clipboard(row.caption)
            self.notify("Copied the caption to the terminal's clipboard.")

    def _to_clipboard(self, words: str) -> None:
        """In a thread: tmux may take its time."""
        self.studio.in_thread(lambda post, gone: copy(self.app, words), "clipboard")

    def action_paste(self) -> None:
        """Add the copied tags."""
        if self._copied:
            self._add_tags(self._copied)
        else:
            self.notify("No tags were copied yet: y copies those of a picture.")

    def _add_tags(self, tags: tuple[str, ...]) -> None:
        from loratui.dataset.edits import Add
        from loratui.project.history import Actor

        rows, operation = self.these(), Add(tags)
        collection = self.studio.library.collection
        if len(rows) > 1:
            self.batching.edit(operation, self.scope())
        elif rows and collection is not None:
            self.query_one(CaptionEditor).save()
            actor = Actor("hand", join(tags))
            self.batching.commit_now(lambda pinned: collection.plan(operation, rows, pinned), actor)

    def action_editor(self) -> None:
        """Captions of the marked pictures, or of this one, in the user's editor."""
        from loratui.dataset.textblocks import Block, write_blocks

        self.query_one(CaptionEditor).save()
        rows = [row for row in self.these() if not row.known.code]
        if rows:
            before = {row.rel: row.caption for row in rows}
            self._edit_blocks(rows, write_blocks(Block(name, words) for name, words in before.items()))

    def _edit_blocks(self, rows: list[PictureRow], words: str) -> None:
        from loratui.dataset import batch as batches
        from loratui.dataset.textblocks import changed, read_blocks
        from loratui.project.history import Actor
        from loratui.ui.screens.confirm import ConfirmDialog

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

        def plan(_pinned: bool) -> Batch:
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


def _quoted(words: str) -> str:
    """A word of a command, in quotes where it needs them."""
    import shlex

    return shlex.quote(words)
