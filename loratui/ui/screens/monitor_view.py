"""How the Monitor is looked at: panels, zoom, axes, smoothing, the search in the log."""

from __future__ import annotations

import copy
from itertools import pairwise
from typing import ClassVar

from textual.containers import Horizontal, Vertical
from textual.widget import Widget

from loratui.ui.actions import Action
from loratui.ui.charts import ROWS, ChartView, load_view
from loratui.ui.panels.curve import CurvePanel
from loratui.ui.panels.log import LogPanel
from loratui.ui.screens.monitor_controls import Controls

PANELS: tuple[tuple[str, str], ...] = (
    ("loss", "loss"),
    ("numbers", "figures of the run"),
    ("quarters", "loss by timestep"),
    ("rates", "learning rate"),
    ("gradients", "gradient norm"),
    ("speed", "seconds a step"),
    ("memory", "memory over the run"),
    ("machine", "machine"),
    ("newest", "newest samples"),
    ("log", "log"),
)
"""All panels of a training, in the order tab goes through them."""
_CAPTION_ZOOMS = {"live-captions": "live-list-panel", "log": "log"}
"""What has the focus -> the pane that grows, in a caption run."""

VIEWS: tuple[Action, ...] = (
    Action(
        "monitor.zoom",
        "z",
        "zoom",
        "zoom",
        "Give a panel the whole page (tab: the next one), or take it back",
    ),
    Action(
        "monitor.panels",
        "v",
        "panels",
        "panels",
        "Show and hide panels; remembered for this size of terminal",
    ),
    Action("monitor.left", "left_square_bracket", "move_panel(-1)", "", "Move the panel left", show=False),
    Action("monitor.right", "right_square_bracket", "move_panel(1)", "", "Move the panel right", show=False),
    Action("monitor.up", "left_curly_bracket", "move_row(-1)", "", "Move the panel's row up", show=False),
    Action("monitor.down", "right_curly_bracket", "move_row(1)", "", "Move the panel's row down", show=False),
    Action(
        "monitor.log_scale",
        "L",
        "log_scale",
        "log scale",
        "Logarithmic scale of the plot in focus, on or off",
    ),
    Action("monitor.axis", "t", "axis", "x axis", "Plots over steps, epochs or time", show=False),
    Action("monitor.window", "w", "window", "window", "Plots of the last 10 minutes, or of all", show=False),
    Action(
        "monitor.smoother", "plus,equals_sign", "smooth(1)", "smoother", "Smooth the curves more", show=False
    ),
    Action("monitor.rougher", "minus", "smooth(-1)", "rougher", "Smooth the curves less", show=False),
    Action("monitor.search", "slash", "search", "search", "Search the log", show=False),
    Action("monitor.hit", "n", "hit(-1)", "next hit", "The hit before in the log", show=False),
    Action("monitor.hit_back", "N", "hit(1)", "hit back", "The hit after in the log", show=False),
    Action("monitor.level", "f", "level", "log level", "Log: all, warnings and errors, errors", show=False),
    Action("monitor.next", "tab", "next_panel(1)", "next", "The next panel", show=False),
    Action("monitor.previous", "shift+tab", "next_panel(-1)", "previous", "The panel before", show=False),
)
CURVES = frozenset({"log_scale", "axis", "window", "smooth", "move_panel", "move_row"})
"""Actions that only a training has."""


def _arrange(parent: Widget, wanted: list[Widget]) -> None:
    """Let these children of `parent` stand in this order, where the first of them stands now."""
    now = [child for child in parent.children if child in wanted]
    if not wanted or now == wanted:
        return
    if now[0] is not wanted[0]:
        parent.move_child(wanted[0], before=now[0])
    for before, child in pairwise(wanted):
        parent.move_child(child, after=before)


def _is_pane(child: Widget) -> bool:
    """Whether this child of the room makes room for a zoomed panel."""
    return isinstance(child, Horizontal | Vertical) or child.has_class("panel")


class Views(Controls):
    """Panels and how they are shown; remembered in the state folder."""

    ROWS: ClassVar[tuple[str, ...]] = ("top", "charts", "middle")

    def __init__(self) -> None:
        super().__init__()
        self.view: ChartView = load_view()

    @property
    def size_name(self) -> str:
        """Which of the three arrangements this terminal gets."""
        if self.has_class("-low") or self.has_class("-narrow"):
            return "low"
        return "wide" if self.has_class("-wide") else "normal"

    @property
    def captioning(self) -> bool:
        """Whether the watched run writes captions."""
        watched = self.studio.watched
        return watched is not None and watched.state.job == "caption"

    def on_resize(self) -> None:
        """Another size may have another arrangement."""
        self.call_after_refresh(self.place_panels)

    def place_panels(self) -> None:
        """Show and hide panels as chosen for this size; a row without panels goes, too."""
        hidden = self.view.hides(self.size_name)
        self._put_in_order()
        for ident, _ in PANELS:
            self.query_one(f"#{ident}").set_class(ident in hidden, "-hidden")
        for name in self.ROWS:
            row = self.query_one(f"#{name}")
            row.set_class(all(child.has_class("-hidden") for child in row.children), "-hidden")
        self.set_class(not self.query_one("#charts").has_class("-hidden") and not self.captioning, "-charts")

    def _put_in_order(self) -> None:
        """Rows from above and panels from the left as chosen for this size."""
        rows = [self.query_one(f"#{name}") for name in self.view.placed(self.size_name)]
        _arrange(self, rows)
        for row in rows:
            names = self.view.placed(self.size_name, str(row.id))
            _arrange(row, [row.query_one(f"#{name}") for name in names])

    def action_move_panel(self, by: int) -> None:
        """Move the panel in focus within its row; remembered for this size of terminal."""
        self._move(by, row=False)

    def action_move_row(self, by: int) -> None:
        """Move the row of the panel in focus; remembered for this size of terminal."""
        self._move(by, row=True)

    def _move(self, by: int, row: bool) -> None:
        name = str(self.focused.id) if self.focused is not None else ""
        home = next((r for r, panels in ROWS.items() if name in (*panels, r)), "")
        if not home or self.has_class("-zoom"):
            self.notify("tab to the panel that is to be moved.", severity="warning")
            return
        if row or name == home:
            moved = row and self.view.move(self.size_name, home, by)
        else:
            moved = self.view.move(self.size_name, name, by, home)
        if moved:
            self.place_panels()
            self.call_after_refresh(self.changed)

    def update_curves(self) -> None:
        """Draw the plots that are seen."""
        for panel in self.query(CurvePanel):
            if panel.display and panel.region:
                panel.update(self.studio.watched, self.view)

    def changed(self) -> None:
        """Draw and remember after a choice."""
        self.update_curves()
        kept = copy.deepcopy(self.view)
        self.studio.in_thread(lambda _post, _gone: kept.save(), "view")

    def action_panels(self) -> None:
        """Choose what is shown at this size."""
        from loratui.ui.screens.panels import PanelsDialog

        size = self.size_name

        def keep(hidden: list[str] | None) -> None:
            if hidden is not None:
                self.view.hidden[size] = hidden
                self.place_panels()
                self.call_after_refresh(self.changed)

        names = {"low": "small", "normal": "middle", "wide": "large"}
        dialog = PanelsDialog(f"panels of a {names[size]} terminal", PANELS, self.view.hides(size))
        self.app.push_screen(dialog, keep)

    def action_axis(self) -> None:
        """Steps, epochs, time."""
        self.view.next_axis()
        self.changed()

    def action_window(self) -> None:
        """The last minutes, or all."""
        self.view.window = not self.view.window
        self.changed()

    def action_smooth(self, by: int) -> None:
        """Smooth more or less."""
        self.view.smoother(by)
        self.changed()

    def action_log_scale(self) -> None:
        """Switch the scale of the plot in focus, of the loss when none is."""
        focused = self._zoomed() or (str(self.focused.id) if isinstance(self.focused, CurvePanel) else "")
        name = (
            focused if isinstance(self.query_one(f"#{focused or 'loss'}"), CurvePanel) and focused else "loss"
        )
        log = self.view.log
        self.view.log = [other for other in log if other != name] if name in log else [*log, name]
        self.changed()

    # zoom

    def _zoomed(self) -> str:
        found = list(self.query(".-zoomed"))
        return str(found[0].id) if found else ""

    def action_zoom(self) -> None:
        """Give one pane the page, or take it back."""
        if self.has_class("-zoom"):
            self.unzoom()
            return
        name = str(self.focused.id) if self.focused is not None else ""
        if self.captioning:
            name = _CAPTION_ZOOMS.get(name, "live-picture-panel")
        elif name not in dict(PANELS):
            name = "loss"
        self._zoom(name)

    def _zoom(self, name: str) -> None:
        pane = self.query_one(f"#{name}")
        marked: list[Widget] = [pane]
        pane.add_class("-zoomed", update=False)
        inner = pane
        while inner is not self and isinstance(inner.parent, Widget):
            holder = inner.parent
            others = [c for c in holder.children if c is not inner and (holder is not self or _is_pane(c))]
            for other in others:
                other.add_class("-beside", update=False)
            marked += others
            if holder is not self:
                holder.add_class("-holds", update=False)
                marked.append(holder)
            inner = holder
        self.add_class("-zoom", update=False)
        self._restyle(marked)
        if pane.can_focus:
            pane.focus(scroll_visible=False)
        self.call_after_refresh(self.follow, "run")
        self.call_after_refresh(self.follow, "machine")

    def unzoom(self) -> None:
        """All panels again."""
        self.remove_class("-zoom", update=False)
        marked = list(self.query(".-zoomed, .-holds, .-beside").results(Widget))
        for node in marked:
            node.remove_class("-zoomed", "-holds", "-beside", update=False)
        self._restyle(marked)
        self.call_after_refresh(self.follow, "run")

    def _restyle(self, marked: list[Widget]) -> None:
        """Style these alone: none of the rules concerns what is in them, and a key is not to wait for it."""
        self.app.stylesheet.update_nodes(marked)

    def action_next_panel(self, by: int) -> None:
        """The next panel: zoomed, any; else the next in sight."""
        zoomed = self._zoomed()
        if not zoomed or self.captioning:
            (self.focus_next if by > 0 else self.focus_previous)()
            return
        rows = self.view.placed(self.size_name)
        names = [n for row in rows for n in self.view.placed(self.size_name, row) or [row]]
        self.unzoom()
        self._zoom(names[(names.index(zoomed) + by) % len(names)])

    # the log

    def action_search(self) -> None:
        """Search the log."""
        from loratui.ui.screens.search_log import SearchDialog

        log = self.query_one(LogPanel)

        def look(needle: str | None) -> None:
            if needle is not None and not log.search(needle) and needle.strip():
                self.notify(f"The log does not hold {needle.strip()!r}.", severity="warning")

        self.app.push_screen(SearchDialog(log.needle), look)

    def action_hit(self, by: int) -> None:
        """From hit to hit."""
        self.query_one(LogPanel).go_to_hit(by)

    def action_level(self) -> None:
        """Which lines the log shows."""
        self.query_one(LogPanel).next_level()
