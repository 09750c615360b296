"""Room 3: choose a preset, change what matters, see the plan, start."""

from __future__ import annotations

from typing import TYPE_CHECKING

from textual import on
from textual.app import ComposeResult
from textual.containers import Horizontal, Vertical

from loratui.ui import text
from loratui.ui.actions import bindings
from loratui.ui.drawing import Row
from loratui.ui.panels.plan import PlanPanel
from loratui.ui.planning import PresetsRead, by_fit, of_family, too_large
from loratui.ui.screens.train_deeds import TrainDeeds
from loratui.ui.screens.train_keys import ACTIONS, LAYOUT
from loratui.ui.theme import Palette
from loratui.ui.widgets.facts import Facts
from loratui.ui.widgets.form import Form
from loratui.ui.widgets.line_list import LineList
from loratui.ui.widgets.problem_list import ProblemList

if TYPE_CHECKING:
    from loratui.ui.watching import Gone, Post


_NARROW = 22
"""Cells below which names of presets go without their family, and families without their name."""


class TrainRoom(TrainDeeds):
    """Presets on the left, the form in the middle, the plan on the right."""

    ACTIONS = ACTIONS
    BINDINGS = bindings(ACTIONS)
    DEFAULT_CSS = LAYOUT

    def __init__(self) -> None:
        super().__init__()
        self._reading = False
        self._wanted = ""
        """The preset to choose when they are read; empty for the project's."""

    def body(self) -> ComposeResult:
        """Three columns."""
        with Horizontal(id="split"):
            with Vertical(id="presets-panel", classes="panel"):
                yield LineList(self._preset_row, None, "Reading the presets…", id="presets")
                yield Facts(self._about, id="about")
            with Vertical(id="form-panel", classes="panel"):
                yield Form(heading=True, id="form")
                yield Facts(self._help, id="help")
            with Vertical(id="right"):
                yield PlanPanel()
                yield ProblemList(id="problems")

    def on_mount(self) -> None:
        """Start with the presets."""
        self.query_one("#presets-panel").border_title = "presets"
        self.query_one("#form-panel").border_title = "settings"
        super().on_mount()
        self.query_one("#presets", LineList).focus()

    def follow(self, what: str) -> None:
        """The project and its pictures decide the plan."""
        if what == "project" and self.studio.project is not None and not self._reading:
            self._reading = True
            self.studio.in_thread(self._read_presets, "presets", self)
        elif what == "scan" and self._presets:
            self._plan()
        elif what == "machine":
            self._follow_machine()
        elif what == "clone" and self._presets:
            self._take_clone()

    # presets

    def read_presets(self, chosen: str) -> None:
        """Read all presets anew, and put the cursor on one."""
        self._wanted = chosen
        self.studio.in_thread(self._read_presets, "presets", self)

    def _read_presets(self, post: Post, _gone: Gone) -> None:
        from loratui.config.presets import list_presets

        post(PresetsRead(*list_presets(self.studio.root)))

    def on_presets_read(self, message: PresetsRead) -> None:
        """Show them, the project's own choice under the cursor."""
        project = self.studio.project
        chosen = self._wanted or (project.preset if project is not None else "")
        self._presets = by_fit(message.presets, self._family, self._card.gib)
        if not chosen and project is not None:
            chosen = "demo" if project.base == "demo" else ""
        view = self.query_one("#presets", LineList)
        view.say("No presets were found. Put recipes as TOML files into the folder presets of this project.")
        self._show_presets(chosen)
        self.query_one("#about", Facts).redraw()
        for problem in message.problems:
            self.notify(str(problem), severity="warning")
        if self.studio.cloned is not None:
            self._take_clone()
        else:
            self._plan()

    def _take_clone(self) -> None:
        """Take over preset and settings of a run that is to be changed and started anew."""
        if self.studio.cloned is None:
            return
        preset, edits = self.studio.cloned
        self.draft.replace(edits)
        self.studio.cloned = None
        self._show_presets(preset)
        self._plan()
        self.notify("The settings of that run; change what should differ, then s starts it.")

    def _show_presets(self, chosen: str) -> None:
        at = next((i for i, p in enumerate(self._presets) if p.name == chosen), 0)
        with self.prevent(LineList.Moved):
            self.query_one("#presets", LineList).show_rows(len(self._presets), at)
        self.query_one("#about", Facts).redraw()

    def order_presets(self) -> None:
        """Those that fit first, now that family or card are known; the cursor stays on its preset."""
        chosen, ordered = self._preset, by_fit(self._presets, self._family, self._card.gib)
        if [p.name for p in ordered] != [p.name for p in self._presets]:
            self._presets = ordered
            self._show_presets(chosen.name if chosen is not None else "")
        self.query_one("#presets", LineList).refresh()

    def _preset_row(self, index: int, width: int, colours: Palette) -> Row:
        preset = self._presets[index]
        fits = of_family(preset, self._family)
        large = fits and too_large(preset, self._card.gib)
        narrow = width < _NARROW
        tail = f"{preset.memory_gib:.0f}{'' if narrow else ' '}G" if preset.memory_gib else ""
        tail = tail if fits else "" if narrow else text.plain(preset.family)
        name = text.plain(preset.name)
        if narrow and fits:
            name = name.removeprefix(f"{self._family}-")
        name = text.fit(name, max(6, width - len(tail) - (1 if narrow else 2)))
        sign = ("▲" if large else " ", colours.amber)
        tint = colours.text if fits and not large else colours.faint
        return [(name, tint), sign, (tail, colours.faint if large else colours.muted)]

    def _about(self, width: int, height: int, colours: Palette) -> list[Row]:
        preset = self._preset
        if preset is None:
            return []
        words = text.plain(preset.about or preset.title)
        gib = self._card.gib
        if not of_family(preset, self._family):
            words = f"For {text.plain(preset.family)}, the base is {text.plain(self._family)}. {words}"
        elif too_large(preset, gib):
            words = f"Made for {preset.memory_gib:.0f} G, {gib:.0f} G are here. {words}"
        return [[(part, colours.muted)] for part in text.wrap(words, width, most=height)]

    @on(LineList.Moved, "#presets")
    def _chose(self) -> None:
        self.query_one("#about", Facts).redraw()
        self._plan()

    def action_find_setting(self) -> None:
        """Type words that narrow the form, wherever the focus is."""
        form = self.query_one(Form)
        self.set_focus(form)  # at once: the next key is typed already
        form.action_find()

    @on(LineList.Chosen, "#presets")
    def _to_form(self) -> None:
        self.query_one(Form).focus()
