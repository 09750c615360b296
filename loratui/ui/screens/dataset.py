"""Room 1: the pictures, what is known of each, and its caption."""

from __future__ import annotations

from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.containers import Horizontal, Vertical
from textual.content import Content
from textual.widgets import Input

from loratui.errors import Problem
from loratui.ui import figures, text
from loratui.ui.actions import Action, bindings
from loratui.ui.drawing import Row
from loratui.ui.pictures import Seen, crop_box, see
from loratui.ui.screens.room import Room
from loratui.ui.theme import Palette
from loratui.ui.widgets.caption_editor import CaptionEditor, tokens
from loratui.ui.widgets.facts import Facts
from loratui.ui.widgets.image_view import ImageView
from loratui.ui.widgets.line_list import LineList

_MOST_TOKENS = 75


class DatasetRoom(Room):
    """List on the left; picture, facts and caption of the one under the cursor on the right."""

    ACTIONS: ClassVar[tuple[Action, ...]] = (
        Action(
            "dataset.edit", "e", "edit", "edit caption", "Edit the caption of this picture", display="enter"
        ),
        Action(
            "dataset.filter",
            "slash",
            "filter",
            "filter",
            "Show pictures whose name or caption contains words",
        ),
        Action(
            "dataset.next",
            "right_square_bracket",
            "amiss(1)",
            "next to look at",
            "Next picture with a finding",
        ),
        Action(
            "dataset.previous",
            "left_square_bracket",
            "amiss(-1)",
            "previous",
            "Previous picture with a finding",
            show=False,
        ),
        Action("dataset.all", "escape", "clear_filter", "show all", "Clear the filter", show=False),
        Action("dataset.train", "T", "app.room('train')", "train", "Go on to Train", show=False),
    )
    BINDINGS = bindings(ACTIONS)
    DEFAULT_CSS = """
    DatasetRoom #split { height: 1fr; }
    DatasetRoom #left { width: 11fr; }
    DatasetRoom #right { width: 9fr; }
    DatasetRoom #summary { height: 1; padding: 0 2; }
    DatasetRoom #list-panel { height: 1fr; padding: 0; }
    DatasetRoom #picture-panel { height: 1fr; }
    DatasetRoom #facts { height: 3; }
    DatasetRoom #caption-panel { height: 7; }
    DatasetRoom.-low #caption-panel { height: 5; }
    DatasetRoom.-low #facts { height: 2; }
    DatasetRoom #query { display: none; height: 1; border: none; padding: 0 1; background: $panel; }
    DatasetRoom #query.-open { display: block; }
    DatasetRoom.-narrow #left { width: 1fr; }
    DatasetRoom.-narrow #right { width: 1fr; }
    """

    def __init__(self) -> None:
        super().__init__()
        self._rows: list[Seen | Problem] = []
        self._shown: list[int] = []
        self._prefix = ""
        self._words = ""

    def body(self) -> ComposeResult:
        """List, preview, facts, caption."""
        yield Facts(self._summary, id="summary")
        with Horizontal(id="split"):
            with Vertical(id="left"):
                yield Input(
                    placeholder="words in the name or the caption; enter shows them, esc all",
                    id="query",
                    compact=True,
                )
                with Vertical(id="list-panel", classes="panel"):
                    yield LineList(self._row, self._heading, "Reading the pictures…", id="pictures")
            with Vertical(id="right"):
                with Vertical(id="picture-panel", classes="panel"):
                    yield ImageView(id="preview")
                    yield Facts(self._facts, id="facts")
                with Vertical(id="caption-panel", classes="panel"):
                    yield CaptionEditor(id="caption")

    def on_mount(self) -> None:
        """Start with the list."""
        super().on_mount()
        self.query_one("#list-panel").border_title = "pictures"
        self.query_one("#caption-panel").border_title = "caption"
        self.query_one(LineList).focus()

    def follow(self, what: str) -> None:
        """New pictures, or a new project."""
        if what == "scan" and self.studio.scan is not None:
            self._take()
        elif what == "progress" and not self._rows:
            self.query_one(LineList).say(f"Reading the pictures… {figures.count(self.studio.scanned)}")
        elif what == "graphics":
            self.query_one(ImageView).again()

    # what is shown

    def _take(self) -> None:
        scan = self.studio.scan
        assert scan is not None
        data = self.studio.data_settings
        before = self._current()
        # what cannot be used stands first: it wants an answer before anything else
        self._rows = [*scan.errors, *(see(picture, data) for picture in scan.pictures)]
        self._prefix = _shared_prefix([seen.picture.rel for seen in self._rows if isinstance(seen, Seen)])
        self.query_one(LineList).say(self._empty())
        self._show(_rel(before))

    def _show(self, keep: str = "") -> None:
        """Fill the list with what the filter lets through, the cursor on `keep` where it is there."""
        words = self._words.casefold().split()
        self._shown = [
            i for i, entry in enumerate(self._rows) if all(word in _searched(entry) for word in words)
        ]
        names = {_rel(self._rows[i]): at for at, i in enumerate(self._shown)}
        view = self.query_one(LineList)
        view.say(self._empty())
        view.show_rows(len(self._shown), names.get(keep, view.cursor))
        self.query_one("#list-panel").border_subtitle = (
            text.foreign(f"filter: {self._words}") if words else Content("")
        )
        self.query_one("#summary", Facts).redraw()
        self._show_current()

    def _empty(self) -> str:
        if self._words:
            return "No picture has these words in its name or caption.\nesc shows all."
        project = self.studio.project
        folder = "dataset"
        if project is not None and project.sources:
            folder = text.plain(project.sources[0].path)
        return (
            f"No pictures yet.\nPut pictures into the folder {folder} of this project, each with its caption "
            "in a text file of the same name, then choose “rescan” in the palette (ctrl+p)."
        )

    def _current(self) -> Seen | Problem | None:
        cursor = self.query_one(LineList).cursor
        return self._rows[self._shown[cursor]] if cursor < len(self._shown) else None

    @on(LineList.Moved)
    def _moved(self) -> None:
        self._show_current()

    @on(LineList.Chosen)
    def _chosen(self) -> None:
        self.action_edit()

    def _show_current(self) -> None:
        seen = self._current()
        view, editor = self.query_one(ImageView), self.query_one(CaptionEditor)
        panel = self.query_one("#picture-panel")
        if not isinstance(seen, Seen):
            view.empty = "" if seen is None else f"{seen.message} {seen.advice}"
            view.show(None)
            editor.open(None)
            panel.border_title = Content(text.shorten(text.plain(_rel(seen)), 40) or "picture")
        else:
            view.show(seen.picture.path, crop_box(seen.bucket))
            editor.open(seen.picture.path)
            panel.border_title = Content(text.shorten(text.plain(seen.picture.path.name), 40))
        self.query_one("#facts", Facts).redraw()

    # drawing

    def _summary(self, width: int, height: int, colours: Palette) -> list[Row]:
        if self.studio.scan is None:
            return [[("reading…", colours.muted)]]
        pictures = [entry for entry in self._rows if isinstance(entry, Seen)]
        captioned = sum(1 for seen in pictures if seen.picture.caption)
        amiss = sum(1 for seen in pictures if seen.amiss)
        broken = len(self.studio.scan.errors)
        row: Row = [(figures.plural(len(pictures), "picture"), colours.text)]
        row += [("  ·  ", colours.faint), (f"{figures.count(captioned)} captioned", colours.text)]
        if amiss:
            row += [("  ·  ", colours.faint), (f"{figures.count(amiss)} to look at", colours.amber)]
        if broken:
            row += [("  ·  ", colours.faint), (f"{figures.plural(broken, 'file')} unusable", colours.red)]
        if self._words:
            row += [("  ·  ", colours.faint), (f"{len(self._shown)} shown", colours.accent)]
        return [row]

    def _columns(self, width: int) -> tuple[int, bool]:
        """Cells for the name, and whether bucket and crop have room."""
        wide = width >= 56
        return max(8, width - (46 if wide else 22)), wide

    def _heading(self, _index: int, width: int, colours: Palette) -> Row:
        name, wide = self._columns(width)
        middle = "       size      bucket  crop" if wide else "       size"
        return [("  " + text.fit("name", name) + middle + "  tok  ", colours.muted), ("flags", colours.muted)]

    def _row(self, index: int, width: int, colours: Palette) -> Row:
        seen = self._rows[self._shown[index]]
        if isinstance(seen, Problem):
            label = text.fit(text.plain(seen.path.removeprefix(self._prefix)), self._columns(width)[0])
            return [
                (" " + label, colours.red),
                ("  " + text.crop(text.plain(seen.message), width - len(label) - 3), colours.red),
            ]
        picture, bucket = seen.picture, seen.bucket
        name, wide = self._columns(width)
        row: Row = [(" " + text.fit(text.plain(picture.rel.removeprefix(self._prefix)), name), colours.text)]
        row.append((f"{picture.width}×{picture.height}".rjust(11), colours.muted))
        if wide:
            row.append((f"{bucket.width}×{bucket.height}".rjust(12), colours.muted))
            crop = bucket.crop_share
            row.append((figures.percent(crop).rjust(6), colours.amber if crop > 0.2 else colours.muted))
        count = seen.tokens
        tint = colours.amber if count > _MOST_TOKENS or not count else colours.text
        row += [(str(count).rjust(5), tint), ("  ", None)]
        room = width - sum(len(piece) for piece, _ in row[1:]) - name - 1
        for flag in sorted(seen.flags, key=lambda f: f.severity == "info"):
            tint = colours.muted if flag.severity == "info" else colours.amber
            words = flag.words if wide and len(flag.words) <= room else flag.sign
            row += [(text.plain(words), tint), (" ", None)]
            room -= len(words) + 1
        return row

    def _facts(self, width: int, height: int, colours: Palette) -> list[Row]:
        seen = self._current()
        if not isinstance(seen, Seen):
            return []
        bucket = seen.bucket
        row: Row = [(f"{seen.picture.width}×{seen.picture.height}", colours.text)]
        row += [("  bucket ", colours.muted), (f"{bucket.width}×{bucket.height}", colours.text)]
        row += [("  crop ", colours.muted), (figures.percent(bucket.crop_share), colours.text)]
        if bucket.upscale > 1.005:
            row += [("  enlarged ", colours.muted), (f"{bucket.upscale:.1f}×", colours.amber)]
        if seen.picture.repeats != 1:
            row += [("  repeats ", colours.muted), (str(seen.picture.repeats), colours.text)]
        rows = [row]
        for flag in sorted(seen.flags, key=lambda f: f.severity == "info"):
            tint = colours.muted if flag.severity == "info" else colours.amber
            rows.append([(flag.sign + " ", tint), (text.crop(text.plain(flag.sentence), width - 2), tint)])
        return rows

    # captions

    @on(CaptionEditor.Typed)
    def _typed(self) -> None:
        editor = self.query_one(CaptionEditor)
        panel = self.query_one("#caption-panel")
        count = tokens(editor.text)
        state = "not saved" if editor.unsaved else ("saved" if editor.has_focus else "")
        over = count > _MOST_TOKENS
        panel.border_subtitle = Content.assemble(
            (f"{state}  " if state else "", "$warning" if editor.unsaved else "$success"),
            (f"about {count}/{_MOST_TOKENS} tokens", "$warning" if over else "$muted"),
        )

    @on(CaptionEditor.Saved)
    def _saved(self, message: CaptionEditor.Saved) -> None:
        if message.problem:
            self.notify(f"{message.problem}\n{message.advice}", severity="error")
            return
        self.studio.caption_saved(message.picture, message.caption)

    @on(CaptionEditor.Left)
    def _left(self) -> None:
        self.query_one(LineList).focus()

    def leave(self) -> None:
        """Save the caption."""
        self.query_one(CaptionEditor).save()

    # actions

    def action_edit(self) -> None:
        """Put the cursor into the caption."""
        editor = self.query_one(CaptionEditor)
        if editor.picture is not None:
            editor.focus()
            self._typed()

    def action_amiss(self, by: int) -> None:
        """To the next picture with a finding, around the ends."""
        view = self.query_one(LineList)
        count = len(self._shown)
        for step in range(1, count + 1):
            at = (view.cursor + by * step) % count
            entry = self._rows[self._shown[at]]
            if isinstance(entry, Problem) or entry.amiss:
                view.cursor = at
                return
        self.notify("No picture needs a look.")

    def action_filter(self) -> None:
        """Open the filter line."""
        line = self.query_one("#query", Input)
        line.add_class("-open")
        line.focus()

    def action_clear_filter(self) -> None:
        """Show all pictures."""
        line = self.query_one("#query", Input)
        line.value = ""
        line.remove_class("-open")
        self.query_one(LineList).focus()
        if self._words:
            current = self._current()
            self._words = ""
            self._show(_rel(current))

    @on(Input.Changed, "#query")
    def _narrow(self, event: Input.Changed) -> None:
        current = self._current()
        self._words = event.value
        self._show(_rel(current))

    @on(Input.Submitted, "#query")
    def _filtered(self, event: Input.Submitted) -> None:
        if not event.value.strip():
            self.action_clear_filter()
        self.query_one(LineList).focus()


def _rel(entry: Seen | Problem | None) -> str:
    """What names a row, whatever the order: the path within the project."""
    if entry is None:
        return ""
    return entry.picture.rel if isinstance(entry, Seen) else entry.path


def _searched(entry: Seen | Problem) -> str:
    """The text a filter looks into."""
    if isinstance(entry, Problem):
        return f"{entry.path} {entry.message}".casefold()
    return f"{entry.picture.rel} {entry.picture.caption}".casefold()


def _shared_prefix(paths: list[str]) -> str:
    """The folder that all pictures lie in: it tells nothing and takes room."""
    folders = {path.rpartition("/")[0] for path in paths}
    return f"{folders.pop()}/" if len(folders) == 1 and "" not in folders else ""
