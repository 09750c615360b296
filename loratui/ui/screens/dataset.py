"""Room 1: the pictures, what is known of each, and its caption."""

from __future__ import annotations

import time
from pathlib import Path
from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.containers import Horizontal, Vertical
from textual.content import Content
from textual.timer import Timer
from textual.widget import Widget

from loratui.dataset.query import FIELDS, parse_sort, sort_to_text
from loratui.dataset.query.sort import SortKey
from loratui.dataset.rows import PictureRow
from loratui.ui import figures, text
from loratui.ui.actions import Action, bindings
from loratui.ui.screens import dataset_keys
from loratui.ui.screens.choose import Choice, ChooseDialog, Option
from loratui.ui.screens.dataset_deeds import DatasetDeeds
from loratui.ui.titles import set_title
from loratui.ui.widgets.caption_editor import CaptionEditor
from loratui.ui.widgets.caption_pane import CaptionPane
from loratui.ui.widgets.command_line import CommandLine
from loratui.ui.widgets.filter_line import FilterLine
from loratui.ui.widgets.line_list import LineList
from loratui.ui.widgets.picture_grid import PictureGrid
from loratui.ui.widgets.picture_list import PictureList
from loratui.ui.widgets.picture_pane import PicturePane
from loratui.ui.widgets.shelf_line import ShelfLine
from loratui.ui.widgets.tag_panel import VIEWS, TagPanel

_HELD_S, _REST_S = 0.12, 0.06
"""Moves that come faster are those of a held-down key, which rests after so long."""


class DatasetRoom(DatasetDeeds):
    """List or thumbnails and tags on the left; picture, facts and caption of the one under the cursor."""

    ACTIONS: ClassVar[tuple[Action, ...]] = dataset_keys.ACTIONS
    BINDINGS = bindings(ACTIONS)
    DEFAULT_CSS = """
    DatasetRoom #split { height: 1fr; }
    DatasetRoom #left { width: 11fr; }
    DatasetRoom #right { width: 9fr; }
    DatasetRoom #list-panel { height: 1fr; padding: 0; }
    DatasetRoom #pictures, DatasetRoom #grid { height: 1fr; }
    DatasetRoom #grid { display: none; padding: 0 1; }
    DatasetRoom.-grid #grid { display: block; }
    DatasetRoom.-grid #pictures { display: none; }
    DatasetRoom #tag-panel { height: 9; padding: 0; }
    DatasetRoom.-wide #tag-panel { height: 14; }
    DatasetRoom #caption-panel { height: 9; }
    DatasetRoom.-wide #caption-panel { height: 14; }
    DatasetRoom.-low #caption-panel { height: 6; }
    DatasetRoom.-low #tag-panel { display: none; height: 1fr; }
    DatasetRoom.-low.-tags #tag-panel { display: block; }
    DatasetRoom.-low.-tags #list-panel { display: none; }
    DatasetRoom.-low #facts { height: 2; }
    DatasetRoom.-narrow #left { width: 1fr; }
    DatasetRoom.-narrow #right { width: 1fr; }
    """

    def __init__(self) -> None:
        super().__init__()
        self._behind = False
        """Whether picture and caption are still those of where the cursor was."""
        self._moved_at = 0.0
        self._resting: Timer | None = None

    def body(self) -> ComposeResult:
        """Counts; filter, list, grid, tags; picture, caption; the line for commands."""
        yield ShelfLine(id="summary")
        yield FilterLine(id="filter")
        with Horizontal(id="split"):
            with Vertical(id="left"):
                with Vertical(id="list-panel", classes="panel"):
                    yield PictureList(id="pictures")
                    yield PictureGrid(id="grid")
                with Vertical(id="tag-panel", classes="panel"):
                    yield TagPanel(id="tags")
            with Vertical(id="right"):
                yield PicturePane(id="picture-panel", classes="panel")
                yield CaptionPane(id="caption-panel", classes="panel")
        yield CommandLine(id="command-line")

    def on_mount(self) -> None:
        """Start with the list."""
        super().on_mount()
        self.query_one("#list-panel").border_title = "pictures"
        self._title_tags()
        self.follow("pictures")
        self.follow("shown")
        self.follow("tags")
        self.studio.library.in_sight = self._in_sight
        self.view.focus()

    # --- what is shown ----------------------------------------------------------------------------------

    @property
    def view(self) -> PictureList | PictureGrid:
        """List or grid, whichever is in sight."""
        return self.query_one(PictureGrid) if self.has_class("-grid") else self.query_one(PictureList)

    @property
    def current(self) -> PictureRow | None:
        """The row under the cursor."""
        cursor, shown = self.view.cursor, self.studio.library.shown
        return shown[cursor] if cursor < len(shown) else None

    def _in_sight(self) -> list[PictureRow]:
        return self.studio.library.shown[self.view.in_sight]

    def follow(self, what: str) -> None:
        """New pictures, another filter, marks, tags."""
        if what in {"pictures", "measured", "shown", "marks", "progress"}:
            self.query_one(ShelfLine).redraw()
        if what == "shown":
            self._fill()
        elif what == "measured":
            self.view.refresh_pictures(self.studio.library.measured)
            self.query_one(PicturePane).redraw()
        elif what in {"pictures", "marks"}:
            self.view.refresh()
            self._say_empty()
            if what == "pictures":
                self.query_one(PictureGrid).thumbnails.forget(self.studio.library.changed)
                self._refresh_current()
        elif what == "tags":
            self.query_one(TagPanel).follow(self.current)
            self.complete_from_tags()
            self._title_tags()
        elif what == "graphics":
            self.query_one(PicturePane).again()

    def _fill(self) -> None:
        """List and grid show what the library shows, the cursor stays on its picture."""
        shown = self.studio.library.shown
        self.query_one(PictureList).prefix = self.studio.library.prefix
        target = self.studio.library.row(self.here)
        at = next((i for i, row in enumerate(shown) if row is target), None)
        for view in (self.query_one(PictureList), self.query_one(PictureGrid)):
            with view.prevent(LineList.Moved):
                view.show_rows(len(shown), at)
        self._say_empty()
        self._title_list()
        self._show_current()

    def _say_empty(self) -> None:
        words = "Reading the pictures…"
        library, project = self.studio.library, self.studio.project
        if library.filter and library.rows:
            words = "No picture is like this.\nesc shows all, / changes the filter."
        elif library.read:
            folder = (
                text.plain(project.sources[0].path) if project is not None and project.sources else "dataset"
            )
            words = (
                "No pictures yet.\n:import PATH copies a folder, zip or tar in. Or put pictures into the "
                f"folder {folder} of this project, each with its caption in a text file of the same name."
            )
        self.query_one(PictureList).say(words)
        self.query_one(PictureGrid).say(words)

    def _title_list(self) -> None:
        library = self.studio.library
        panel = self.query_one("#list-panel")
        keys = parse_sort(library.sort)
        order = ", ".join(f"{k.field} {'↓' if k.descending else '↑'}" for k in keys)
        parts = [f"{text.plain(library.filter)}"] if library.filter else []
        if library.filter:
            parts.append(f"{figures.count(len(library.shown))} of {figures.count(len(library.rows))}")
        said = text.shorten(" · ".join([*parts, order]), max(10, panel.size.width - 6))
        set_title(panel, said, below=True)

    def _title_tags(self) -> None:
        library, panel = self.studio.library, self.query_one("#tag-panel")
        view = self.query_one(TagPanel).view
        counts = (len(library.tags_shown), len(library.tags_all), None)
        names = [f"{n} ({c:,})" if c is not None else n for n, c in zip(VIEWS, counts, strict=True)]
        pieces = [(name, "bold" if at == view else "$muted") for at, name in enumerate(names)]
        set_title(panel, Content.assemble("tags ", *(p for pair in pieces for p in (("  ", ""), pair))))

    def _show_current(self) -> None:
        row = self.current
        self._behind = False
        self.here = row.known.path if row is not None else Path()
        self.query_one(PicturePane).show(row)
        self.query_one(CaptionPane).show(row.known.path if row is not None and not row.known.code else None)
        if self.query_one(TagPanel).view == len(VIEWS) - 1:
            self.query_one(TagPanel).follow(row)

    def _refresh_current(self) -> None:
        """The file under the cursor may be another now."""
        self.query_one(PicturePane).show(self.current)
        self.query_one(CaptionEditor).look_again()
        pane_of_caption = self.query_one(CaptionPane)
        pane_of_caption.name_author()
        pane_of_caption.count()

    @on(LineList.Moved, "#pictures,#grid")
    def _moved(self, event: LineList.Moved) -> None:
        """The cursor is painted first; picture and caption follow, under a held-down key when it rests."""
        if event.source is not self.view:
            return
        row, now = self.current, time.monotonic()
        self.here = row.known.path if row is not None else Path()
        held, self._moved_at = now - self._moved_at < _HELD_S, now
        self._behind = True
        if self._resting is not None:
            self._resting.stop()
        if held:
            self._resting = self.set_timer(_REST_S, self.follow_cursor)
        else:
            self.call_after_refresh(self.follow_cursor)

    def follow_cursor(self) -> None:
        """Picture and caption of the row under the cursor, if they are not shown yet."""
        if self._behind:
            self._show_current()

    def set_focus(
        self, widget: Widget | None, scroll_visible: bool = True, from_app_focus: bool = False
    ) -> None:
        """Whatever gets the next key, it gets it for the picture under the cursor."""
        if self.is_mounted:
            self.follow_cursor()
        super().set_focus(widget, scroll_visible, from_app_focus)

    @on(LineList.Chosen, "#pictures,#grid")
    def _chosen(self) -> None:
        self.action_edit()

    @on(TagPanel.Turned)
    def _turned(self) -> None:
        self.query_one(TagPanel).follow(self.current)
        self._title_tags()

    @on(TagPanel.Left)
    @on(FilterLine.Left)
    @on(CommandLine.Left)
    @on(CaptionEditor.Left)
    def back_to_list(self) -> None:
        """The focus goes where the pictures are."""
        self.remove_class("-tags")
        self.view.focus()
        self._title_list()

    # --- going about ------------------------------------------------------------------------------------

    def action_grid(self) -> None:
        """List or thumbnails."""
        old = self.view
        self.toggle_class("-grid")
        with self.view.prevent(LineList.Moved):
            self.view.show_rows(len(self.studio.library.shown), old.cursor)
        self.view.focus()

    def action_size(self, by: int) -> None:
        """Larger or smaller thumbnails."""
        if not self.has_class("-grid"):
            self.action_grid()
        self.query_one(PictureGrid).action_size(by)

    def action_tag(self, verb: str) -> None:
        """Do something with the tag under the cursor of the tags."""
        self.query_one(TagPanel).action_act(verb)

    def action_tags(self) -> None:
        """To the tags."""
        self.add_class("-tags")
        self.query_one(TagPanel).focus()

    def action_amiss(self, by: int) -> None:
        """To the next picture with a finding, around the ends."""
        if not self._jump(by, self.studio.library.amiss):
            self.notify("No picture needs a look.")

    def action_match(self, by: int) -> None:
        """To the next picture of the filter that was used last."""
        library = self.studio.library
        wanted = library.filter or library.last_filter
        if not wanted:
            self.notify("Nothing was looked for yet: / is the filter.")
            return
        found = library.matches(wanted)
        if not self._jump(by, lambda row: id(row) in found):
            self.notify("No picture here is like the last filter.")

    def _jump(self, by: int, wanted: object) -> bool:
        assert callable(wanted)
        shown, cursor = self.studio.library.shown, self.view.cursor
        for step in range(1, len(shown) + 1):
            at = (cursor + by * step) % len(shown)
            if wanted(shown[at]):
                self.view.cursor = at
                return True
        return False

    def action_filter(self) -> None:
        """Open the filter line."""
        self.query_one(FilterLine).open()

    def use_filter(self, words: str) -> None:
        """Filter as if it had been typed."""
        line = self.query_one(FilterLine)
        if not line.use(words):
            line.open(words)

    def action_filters(self) -> None:
        """Filters that were kept, and those most people need."""
        from loratui.project.filters import READY, forget_filter, kept_filters

        project, library = self.studio.project, self.studio.library
        if project is None:
            return
        kept = kept_filters(project.root)
        options = [Option("", "keep this filter…", library.filter)] if library.filter else []
        options += [Option(words, name, words) for name, words in (READY | kept).items()]

        def chosen(choice: Choice | None) -> None:
            if choice is None:
                return
            if choice.key == "delete":
                for name in [n for n, words in kept.items() if words == choice.value]:
                    forget_filter(project.root, name)
                self.action_filters()
            elif choice.value:
                self.use_filter(choice.value)
                self.view.focus()
            else:
                self.action_command("keep ")

        say = "enter uses it    delete forgets one of yours    esc leaves"
        self.app.push_screen(ChooseDialog("filters", options, say, forgets=True), chosen)

    def action_clear_filter(self) -> None:
        """Show all pictures."""
        self.query_one(FilterLine).use("")
        self.back_to_list()

    def action_only_marked(self) -> None:
        """Only the marked pictures, or all again."""
        self.use_filter("" if self.studio.library.filter == "marked:yes" else "marked:yes")

    def action_command(self, words: str = "") -> None:
        """Open the line for commands."""
        self.query_one(CommandLine).open(f"on {self.scope('').words}", words)

    @on(CommandLine.Given)
    def _given(self, event: CommandLine.Given) -> None:
        from loratui.ui import commands

        line = self.query_one(CommandLine)
        problem = commands.run(self, event.line)
        if problem:
            line.wrong(problem)
            return
        line.close()
        self.back_to_list()

    def action_turn(self) -> None:
        """The other way round."""
        first, *rest = parse_sort(self.studio.library.sort)
        self.studio.library.order(sort_to_text([SortKey(first.field, not first.descending), *rest]))

    def action_sort(self) -> None:
        """Choose the order."""
        fields = [f for f in FIELDS.values() if f.name not in {"tag", "caption", "path"}]
        options = [Option(f.name, f.name, f.help) for f in fields]

        def chosen(choice: Choice | None) -> None:
            if choice is not None:
                down = FIELDS[choice.value].kind in {"number", "flag"}
                self.studio.library.order(("-" if down else "") + choice.value)

        self.app.push_screen(
            ChooseDialog("order by", options, "enter orders    O turns it around    esc leaves"), chosen
        )
