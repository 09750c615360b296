"""The two lines on top: project, base, the running job, memory; and the rooms."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from rich.cells import cell_len
from rich.style import Style
from textual import events

from loratui.ui import figures, text
from loratui.ui.drawing import Row
from loratui.ui.theme import Palette
from loratui.ui.widgets.canvas import Canvas

if TYPE_CHECKING:
    from loratui.runs.state import RunState
    from loratui.ui.app import LoratuiApp

STATE_MARKS = {
    "running": "●",
    "finished": "✔",
    "failed": "✖",
    "crashed": "✖",
    "paused": "⏸",
    "stopped": "■",
    "queued": "○",
    "held": "○",
}


def state_mark(state: str) -> str:
    """A sign for a run's state, so that colour is never the only carrier."""
    return STATE_MARKS.get(state, "◐")


class Header(Canvas):
    """Says in one look what is going on; a click on a room goes there."""

    DEFAULT_CSS = "Header { dock: top; height: 2; background: $panel; padding: 0 1; }"

    def __init__(self) -> None:
        super().__init__(id="header")
        self._spots: list[tuple[int, int, str]] = []

    @property
    def _studio(self) -> LoratuiApp:
        return cast("LoratuiApp", self.app)

    def on_mount(self) -> None:
        """Follow the app's state."""
        self._studio.state_changed.subscribe(self, lambda _what: self.redraw())

    def draw(self, width: int, height: int, colours: Palette) -> list[Row]:
        """Status, then rooms."""
        return [self._status(width, colours), self._rooms(width, colours)]

    def _status(self, width: int, colours: Palette) -> Row:
        right = self._job(colours, width) + self._machine(colours, width)
        room = width - _cells(right) - 2
        name, base = text.plain(self._studio.project_name), text.plain(self._studio.base_name)
        left: Row = [(text.shorten(name, max(6, room)), colours.bold)]
        left_over = room - cell_len(left[0][0]) - 3
        if base and left_over >= min(cell_len(base), 8):
            left += [(" · ", colours.faint), (text.shorten(base, left_over), colours.muted)]
        return [*left, (" " * max(1, width - _cells(left) - _cells(right)), None), *right]

    def _job(self, colours: Palette, width: int) -> Row:
        state = self._studio.job_state
        if state is None:
            return []
        tint = colours.state(state.state)
        row: Row = [(f"{state_mark(state.state)} {state.state.upper()}", tint + Style(bold=True))]
        if state.steps and state.state not in {"starting", "caching"}:
            row += [("  ", None), (_steps(state), colours.text)]
            if width >= 70 and state.state == "running":
                row += [("  ETA ", colours.muted), (figures.duration(state.eta_s).rjust(5), colours.text)]
        elif state.progress is not None and state.progress.total:
            share = state.progress.done / state.progress.total
            row += [("  ", None), (text.crop(text.plain(state.progress.what), 18), colours.text)]
            row += [(f" {figures.percent(share)}", colours.muted)]
        return row

    def _machine(self, colours: Palette, width: int) -> Row:
        reading = self._studio.reading
        if reading is None:
            return []
        row: Row = [("   ", None)]
        if reading.gpus:
            shown = reading.gpus[: max(1, (width - 60) // 20)]
            for gpu in shown:
                used = f"{figures.gib(gpu.used_gib)}/{gpu.total_gib:.0f} G"
                row += [(f"GPU{gpu.index} ", colours.muted), (used, colours.text), ("  ", None)]
            return row[:-1]
        if width < 70:
            return []
        return [
            *row,
            ("RAM ", colours.muted),
            (f"{figures.gib(reading.ram_used_gib)}/{reading.ram_total_gib:.0f} G", colours.text),
        ]

    def _rooms(self, width: int, colours: Palette) -> Row:
        row: Row = []
        self._spots = []
        at = 0
        for key, room, label in self._studio.ROOMS:
            here = room == self._studio.current_mode
            gap = "   " if width >= 72 else "  "
            piece = f"{key} {label}"
            self._spots.append((at, at + len(piece), room))
            if here:
                row += [
                    (key, colours.accent),
                    (f" {label}", colours.accent + Style(bold=True, underline=True)),
                ]
            else:
                row += [(key, colours.muted), (f" {label}", colours.muted)]
            row.append((gap, None))
            at += len(piece) + len(gap)
        if self._studio.replaying:
            row.append(("▶ recording" if width >= 90 else "▶ rec", colours.amber))
        return row

    async def on_click(self, event: events.Click) -> None:
        """Go to the room that was clicked."""
        offset = event.get_content_offset(self)
        if offset is not None and offset.y == 1:
            for start, end, room in self._spots:
                if start <= offset.x < end:
                    await self._studio.action_room(room)


def _steps(state: RunState) -> str:
    total = figures.count(state.steps)
    return f"{figures.count(state.step).rjust(len(total))} / {total}"


def _cells(row: Row) -> int:
    return sum(cell_len(piece) for piece, _ in row)
