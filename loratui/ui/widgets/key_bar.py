"""The line at the bottom: the keys that matter here."""

from __future__ import annotations

from rich.cells import cell_len
from textual import events
from textual.screen import Screen
from textual.widgets import Input, TextArea

from loratui.ui.actions import key_name
from loratui.ui.drawing import Row
from loratui.ui.theme import Palette
from loratui.ui.widgets.canvas import Canvas


class KeyBar(Canvas):
    """Keys from the bindings that are active now, the nearest first; a click presses one."""

    DEFAULT_CSS = "KeyBar { dock: bottom; height: 1; background: $panel; padding: 0 1; }"

    def __init__(self) -> None:
        super().__init__(id="keys")
        self._spots: list[tuple[int, int, str]] = []

    def on_mount(self) -> None:
        """Follow the focus and the state of actions."""
        screen: Screen[object] = self.screen
        screen.bindings_updated_signal.subscribe(self, lambda _screen: self.redraw())

    def draw(self, width: int, height: int, colours: Palette) -> list[Row]:
        """As many keys as fit, `?` always."""
        always = [("?", "question_mark", "keys")]
        entries, seen = [], {"app.help"}
        typing = isinstance(self.screen.focused, Input | TextArea)
        always = [] if typing else always
        for active in self.screen.active_bindings.values():
            binding = active.binding
            if not binding.show or not active.enabled or (binding.id or binding.action) in seen:
                continue
            if typing and cell_len(key_name(binding.key)) == 1:  # it is a letter there
                continue
            seen.add(binding.id or binding.action)
            entries.append((binding.key_display or key_name(binding.key), binding.key, binding.description))
        room = width - (_cells(always[0]) if always else 0)
        row: Row = []
        self._spots = []
        at = 0
        for entry in [*entries, *always]:
            cost = _cells(entry) + 2
            if entry not in always and at + cost > room:
                continue
            self._spots.append((at, at + cost - 2, entry[1]))
            row += [(entry[0], colours.accent), (f" {entry[2]}", colours.muted), ("  ", None)]
            at += cost
        return [row]

    def on_click(self, event: events.Click) -> None:
        """Press the key that was clicked."""
        offset = event.get_content_offset(self)
        if offset is not None:
            for start, end, key in self._spots:
                if start <= offset.x < end:
                    self.app.simulate_key(key)


def _cells(entry: tuple[str, str, str]) -> int:
    return cell_len(entry[0]) + 1 + cell_len(entry[2])
