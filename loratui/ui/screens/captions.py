"""Room 2: the captions as texts: what is missing, what is long, what they have in common."""

from __future__ import annotations

from collections import Counter
from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.containers import Horizontal, Vertical
from textual.content import Content

from loratui.ui import figures, text
from loratui.ui.actions import Action, bindings
from loratui.ui.drawing import Row, meter
from loratui.ui.pictures import Seen, see
from loratui.ui.screens.room import Room
from loratui.ui.theme import Palette
from loratui.ui.widgets.caption_editor import CaptionEditor, tokens
from loratui.ui.widgets.facts import Facts
from loratui.ui.widgets.image_view import ImageView
from loratui.ui.widgets.line_list import LineList

_MOST_TOKENS = 75


class CaptionsRoom(Room):
    """All captions in one list, those that are missing first; written and mended beside it."""

    ACTIONS: ClassVar[tuple[Action, ...]] = (
        Action("captions.edit", "e", "edit", "edit", "Edit this caption", display="enter"),
        Action(
            "captions.next",
            "right_square_bracket",
            "next(1)",
            "next without",
            "Next picture without a caption",
        ),
        Action("captions.order", "o", "order", "order", "Order by what is missing, by length, or by name"),
    )
    BINDINGS = bindings(ACTIONS)
    ORDERS: ClassVar[tuple[str, ...]] = ("missing first", "longest first", "by name")
    DEFAULT_CSS = """
    CaptionsRoom #summary { height: 1; padding: 0 2; }
    CaptionsRoom #split { height: 1fr; }
    CaptionsRoom #list-panel { width: 14fr; padding: 0; }
    CaptionsRoom #right { width: 9fr; }
    CaptionsRoom #preview-panel { height: 1fr; }
    CaptionsRoom #caption-panel { height: 8; }
    CaptionsRoom #often { height: 10; }
    CaptionsRoom.-low #often { display: none; }
    CaptionsRoom.-low #caption-panel { height: 7; }
    """

    def __init__(self) -> None:
        super().__init__()
        self._rows: list[Seen] = []
        self._order = 0
        self._often: list[tuple[str, int]] = []

    def body(self) -> ComposeResult:
        """List, preview, editor, frequencies."""
        yield Facts(self._summary, id="summary")
        with Horizontal(id="split"):
            with Vertical(id="list-panel", classes="panel") as panel:
                panel.border_title = "captions"
                yield LineList(self._row, self._heading, "Reading the captions…", id="captions")
            with Vertical(id="right"):
                with Vertical(id="preview-panel", classes="panel"):
                    yield ImageView(id="preview")
                with Vertical(id="caption-panel", classes="panel") as editor:
                    editor.border_title = "caption"
                    yield CaptionEditor(id="caption")
                often = Facts(self._frequencies, id="often", classes="panel")
                often.border_title = "often"
                yield often

    def on_mount(self) -> None:
        """Start in the list."""
        super().on_mount()
        self.query_one(LineList).focus()

    def follow(self, what: str) -> None:
        """New pictures or captions."""
        if what == "graphics":
            self.query_one(ImageView).again()
        if what != "scan" or self.studio.scan is None:
            return
        before = self._current()
        data = self.studio.data_settings
        self._rows = [see(picture, data) for picture in self.studio.scan.pictures]
        counter: Counter[str] = Counter()
        for seen in self._rows:
            counter.update({part.strip() for part in seen.picture.caption.split(",") if part.strip()})
        self._often = counter.most_common(40)
        self._arrange(before)

    def _arrange(self, keep: Seen | None) -> None:
        if self._order == 0:
            self._rows.sort(key=lambda s: (bool(s.picture.caption), s.tokens <= _MOST_TOKENS))
        elif self._order == 1:
            self._rows.sort(key=lambda s: -s.tokens)
        view = self.query_one(LineList)
        at = next(
            (i for i, s in enumerate(self._rows) if keep is not None and s.picture.path == keep.picture.path),
            None,
        )
        view.say("No pictures yet: 1 says where they belong.")
        view.show_rows(len(self._rows), at)
        self.query_one("#list-panel").border_subtitle = self.ORDERS[self._order]
        self.query_one("#summary", Facts).redraw()
        self.query_one("#often", Facts).redraw()
        self._show_current()

    def _current(self) -> Seen | None:
        cursor = self.query_one(LineList).cursor
        return self._rows[cursor] if cursor < len(self._rows) else None

    @on(LineList.Moved)
    def _show_current(self) -> None:
        seen = self._current()
        panel = self.query_one("#preview-panel")
        self.query_one(ImageView).show(seen.picture.path if seen is not None else None)
        self.query_one(CaptionEditor).open(seen.picture.path if seen is not None else None)
        name = text.shorten(text.plain(seen.picture.path.name), 36) if seen is not None else "picture"
        panel.border_title = Content(name)

    # drawing

    def _summary(self, width: int, height: int, colours: Palette) -> list[Row]:
        if self.studio.scan is None:
            return [[("reading…", colours.muted)]]
        missing = sum(1 for s in self._rows if not s.picture.caption)
        long = sum(1 for s in self._rows if s.tokens > _MOST_TOKENS)
        project = self.studio.project
        trigger = project.trigger.casefold() if project is not None else ""
        row: Row = [(figures.plural(len(self._rows) - missing, "caption"), colours.text)]
        gap = ("  ·  ", colours.faint)
        row += [gap, (f"{figures.count(missing)} missing", colours.amber if missing else colours.muted)]
        if long:
            row += [gap, (f"{figures.count(long)} over {_MOST_TOKENS} tokens", colours.amber)]
        if trigger:
            holding = sum(1 for s in self._rows if trigger in s.picture.caption.casefold())
            words = (
                f"trigger “{text.shorten(text.plain(project.trigger if project else ''), 24)}” in {holding}"
            )
            row += [gap, (words, colours.text)]
        return [row]

    def _heading(self, _index: int, width: int, colours: Palette) -> Row:
        name = max(10, width // 4)
        return [("  " + text.fit("name", name) + "  tok  caption", colours.muted)]

    def _row(self, index: int, width: int, colours: Palette) -> Row:
        seen = self._rows[index]
        name = max(10, width // 4)
        caption = text.plain(seen.picture.caption)
        over = seen.tokens > _MOST_TOKENS
        room = width - name - 9
        return [
            (" " + text.fit(text.plain(seen.picture.path.name), name), colours.text),
            (str(seen.tokens).rjust(5), colours.amber if over or not caption else colours.muted),
            ("  ", None),
            (
                text.crop(caption, room) if caption else "no caption",
                colours.text if caption else colours.amber,
            ),
        ]

    def _frequencies(self, width: int, height: int, colours: Palette) -> list[Row]:
        if not self._often:
            return [[("Parts between commas are counted here.", colours.muted)]]
        total = max(1, len(self._rows))
        rows: list[Row] = []
        for words, count in self._often[:height]:
            label = text.fit(text.plain(words), max(8, width - 16))
            drawn = meter(count / total, 8, colours.accent, colours.track)
            rows.append([(label, colours.text), (str(count).rjust(6) + "  ", colours.muted), *drawn])
        return rows

    # captions

    @on(CaptionEditor.Typed)
    def _typed(self) -> None:
        editor = self.query_one(CaptionEditor)
        count = tokens(editor.text)
        state = "not saved  " if editor.unsaved else "saved  " if editor.has_focus else ""
        self.query_one("#caption-panel").border_subtitle = Content.assemble(
            (state, "$warning" if editor.unsaved else "$success"),
            (f"about {count}/{_MOST_TOKENS} tokens", "$warning" if count > _MOST_TOKENS else "$muted"),
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

    @on(LineList.Chosen)
    def _chosen(self) -> None:
        self.action_edit()

    def leave(self) -> None:
        """Save the caption."""
        self.query_one(CaptionEditor).save()

    def action_edit(self) -> None:
        """Put the cursor into the caption."""
        editor = self.query_one(CaptionEditor)
        if editor.picture is not None:
            editor.focus()

    def action_next(self, by: int) -> None:
        """To the next picture without a caption, around the end."""
        view = self.query_one(LineList)
        count = len(self._rows)
        for step in range(1, count + 1):
            at = (view.cursor + by * step) % count
            if not self._rows[at].picture.caption:
                view.cursor = at
                return
        self.notify("Every picture has a caption.")

    def action_order(self) -> None:
        """The next order."""
        self._order = (self._order + 1) % len(self.ORDERS)
        if self._order == 2 and self.studio.scan is not None:
            data = self.studio.data_settings
            self._rows = [see(picture, data) for picture in self.studio.scan.pictures]
        self._arrange(self._current())
