"""Room 5: the samples of the watched run, step by prompt; compared, marked, exported, and more of them."""

from __future__ import annotations

from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.containers import Horizontal, Vertical
from textual.content import Content

from loratui.project.favourites import Mark
from loratui.runs.sheet import Column, long_title, title
from loratui.runs.state import Sample
from loratui.ui import text
from loratui.ui.actions import Action, bindings
from loratui.ui.drawing import Row, whole
from loratui.ui.screens import samples_keys
from loratui.ui.screens.samples_deeds import SamplesDeeds
from loratui.ui.theme import Palette
from loratui.ui.titles import set_title
from loratui.ui.widgets.facts import Facts
from loratui.ui.widgets.image_view import ImageView
from loratui.ui.widgets.sample_grid import SampleGrid


class SamplesRoom(SamplesDeeds):
    """The grid on the left, the picture under the cursor large on the right.

    A and B are two columns; while they are compared, the large picture is that of A or B in the cursor's row.
    """

    ACTIONS: ClassVar[tuple[Action, ...]] = samples_keys.ACTIONS
    BINDINGS = bindings(ACTIONS)
    DEFAULT_CSS = """
    SamplesRoom #split { height: 1fr; }
    SamplesRoom #grid-panel { width: 13fr; }
    SamplesRoom #large-panel { width: 11fr; }
    SamplesRoom #words { height: 5; }
    SamplesRoom.-low #words { height: 3; }
    SamplesRoom.-narrow #large-panel { display: none; }
    SamplesRoom.-zoom #grid-panel { display: none; }
    SamplesRoom.-zoom #large-panel { display: block; width: 1fr; }
    """

    def __init__(self) -> None:
        super().__init__()
        self._a: Column | None = None
        self._b: Column | None = None
        self._side = ""
        """`a` or `b` while the two are compared, else empty."""
        self._of = ""
        """The run that A and B belong to."""

    def body(self) -> ComposeResult:
        """Grid and large picture."""
        with Horizontal(id="split"):
            with Vertical(id="grid-panel", classes="panel"):
                yield SampleGrid(id="grid")
            with Vertical(id="large-panel", classes="panel"):
                yield ImageView(id="large")
                yield Facts(self._words, id="words")

    def on_mount(self) -> None:
        """Start in the grid."""
        super().on_mount()
        self.grid.focus()

    @property
    def grid(self) -> SampleGrid:
        """The grid."""
        return self.query_one(SampleGrid)

    def follow(self, what: str) -> None:
        """New samples, or new marks."""
        if what == "graphics":
            self.query_one(ImageView).again()
        if what == "runs" and self.is_current:
            self.read_marks()
        if what != "run" or not self.is_current:
            return
        grid, watched = self.grid, self.studio.watched
        if watched is None:
            grid.empty = (
                "No run yet. 3 chooses a preset; a training draws samples at its start and as it goes."
            )
            grid.show(self.studio.root, ())
            return
        if watched.run.id != self._of:
            self._of, self._a, self._b, self._side = watched.run.id, None, None, ""
            self.read_marks(anew=True)
        grid.empty = "No samples yet: the first are drawn before the first step. i asks for some now."
        if watched.state.job == "sample":
            grid.empty = "They are being drawn; loading the base comes first."
        if not watched.live:
            grid.empty = "This run drew no samples. m draws some from one of its checkpoints."
        grid.show(watched.run.path, watched.state.samples)
        self._letter()
        name = text.shorten(text.plain(watched.state.name or watched.run.id), 40)
        panel = self.query_one("#grid-panel")
        set_title(panel, f"samples of {name}")
        set_title(panel, self.progress_words(), below=True)
        self.refresh_bindings()

    # what is shown

    @property
    def shown(self) -> Sample | None:
        """The sample of the large picture."""
        grid = self.grid
        column = {"a": self._a, "b": self._b}.get(self._side)
        if column is None or column not in grid.sheet.columns:
            return grid.current
        return grid.sheet.at(grid.sheet.columns.index(column), grid.row)

    @on(SampleGrid.Moved)
    def show_large(self) -> None:
        """The picture that is wanted now."""
        self._show()

    def _show(self, at_once: bool = False) -> None:
        sample, watched = self.shown, self.studio.watched
        view, panel = self.query_one(ImageView), self.query_one("#large-panel")
        if sample is None or watched is None:
            view.empty = "No picture of this prompt there." if self.grid.sheet.columns else ""
            view.show(None)
            set_title(panel, "picture")
        else:
            view.show(watched.run.path / sample.path, at_once=at_once, keep_zoom=True)
            set_title(panel, self._title(sample))
            self.read_settings(watched.run.path / sample.path)
        self.redraw_words()
        self.refresh_bindings()

    def _title(self, sample: Sample) -> Content:
        words = text.plain(long_title((sample.step, sample.label)))
        if not self._side or self._a is None or self._b is None:
            return Content(words)
        names = [text.plain(title(column)) for column in (self._a, self._b)]
        lit, pale = "$warning bold", "$muted"
        return Content.assemble(
            (f"A {names[0]}", lit if self._side == "a" else pale), (" ⇄ ", pale),
            (f"B {names[1]}", lit if self._side == "b" else pale),
        )  # fmt: skip

    def redraw_words(self) -> None:
        """The lines below the picture."""
        self.query_one("#words", Facts).redraw()

    def _words(self, width: int, height: int, colours: Palette) -> list[Row]:
        sample = self.shown
        if sample is None:
            return []
        mark = self.mark_of(sample)
        lines = text.wrap(
            text.plain(sample.prompt), width, most=max(1, height - (3 if mark != Mark() else 2))
        )
        rows: list[Row] = [[(part, colours.text)] for part in lines]
        facts: list[Row] = [[("seed ", colours.muted), (str(sample.seed), colours.text)]]
        if sample.label and sample.step:
            facts.insert(0, [(f"step {sample.step:,}", colours.text)])
        facts += [[(part, colours.muted)] for part in self.settings_of(sample)]
        if sample.seconds:
            facts.append([(f"drawn in {sample.seconds:.1f} s", colours.muted)])
        rows.append(whole(facts, width))
        if mark != Mark():
            star = "★ " if mark.favourite else ""
            note = text.crop(text.plain(mark.note.replace("\n", "  ")), max(0, width - 2))
            rows.append([(star, colours.amber), (note, colours.text)])
        return rows

    # actions

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """What fits the run and what is in sight."""
        watched = self.studio.watched
        if action == "sample_now":
            live = watched is not None and watched.live and not self.studio.replaying
            return True if live and watched is not None and watched.state.job == "train" else None
        if action == "source":
            return True if watched is not None and watched.state.job == "sample" else None
        if action == "more":
            trained = watched is not None and watched.state.job in {"train", "sample"}
            return True if trained and not self.studio.replaying else None
        if action in {"choose", "flip", "favourite", "note", "export"} and self.is_mounted:
            return True if self.grid.sheet.columns else None
        if action == "unflip" and self.is_mounted:
            return True if self._side or self.has_class("-zoom") else None
        return super().check_action(action, parameters)

    def action_zoom(self) -> None:
        """The large picture alone, or the grid again."""
        self.toggle_class("-zoom")
        self.query_one(ImageView).fit()
        if not self.has_class("-zoom"):
            self.grid.focus()

    def action_move(self, across: int, down: int) -> None:
        """Move the cursor; to the side ends a comparison."""
        if across:
            self._side = ""
        self.grid.move(across, down)

    def action_edge(self, last: int) -> None:
        """To the first or the newest step."""
        self._side = ""
        self.grid.edge(bool(last))

    def action_size(self, by: int) -> None:
        """Thumbnails, or the picture when it has the page."""
        if self.has_class("-zoom"):
            self.query_one(ImageView).zoom_by(by)
        else:
            self.grid.size_by(by)

    def action_fit(self) -> None:
        """The whole picture again; in the grid, all pictures in sight."""
        if self.has_class("-zoom"):
            self.query_one(ImageView).fit()
        else:
            self.grid.fit()

    def action_pan(self, right: int, down: int) -> None:
        """Move what is in sight of the zoomed picture."""
        self.query_one(ImageView).pan(right, down)

    def action_choose(self, which: str) -> None:
        """Take the cursor's column as A or B, or the base as A."""
        sheet, here = self.grid.sheet, self.grid.column
        if which == "base":
            if sheet.base is None:
                self.notify("No picture of the base was drawn here; m with strength 0 draws some.")
                return
            self._a = sheet.columns[sheet.base]
            if self._b is None:
                self._b = sheet.columns[here]
            self._side = "a"
        else:
            setattr(self, f"_{which}", sheet.columns[here])
            self._side = which if self._a is not None and self._b is not None else ""
        self._letter()
        self._show(at_once=True)

    def action_flip(self) -> None:
        """The other one of A and B; unset, A is the base and B the column of the cursor."""
        sheet = self.grid.sheet
        if len(sheet.columns) < 2:
            self.notify("There is only one column to look at so far.")
            return
        here = sheet.columns[self.grid.column]
        if self._a is None or self._a not in sheet.columns:
            self._a = sheet.columns[sheet.base or 0]
        if self._b is None or self._b not in sheet.columns:
            self._b = here if here != self._a else sheet.columns[-1]
        if not self._side:
            self._side = "a" if here == self._b else "b"
        else:
            self._side = "b" if self._side == "a" else "a"
        if self.has_class("-narrow"):
            self.add_class("-zoom")
        self._letter()
        self._show(at_once=True)

    def action_unflip(self) -> None:
        """Back to the picture under the cursor, then to the grid."""
        if self._side:
            self._side = ""
        elif self.has_class("-zoom"):
            self.action_zoom()
        self._show(at_once=True)

    def _letter(self) -> None:
        letters: dict[Column, str] = {}
        for column, letter in ((self._a, "A"), (self._b, "B")):
            if column is not None:
                letters[column] = letters.get(column, "") + letter
        self.grid.decorate(letters, self.starred)
