"""A caption run while it works: how far it is, how fast, and the newest captions with their pictures."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, cast

from rich.cells import cell_len
from textual import on
from textual.app import ComposeResult
from textual.containers import Horizontal, Vertical

from loratui.dataset.framing import PLAIN
from loratui.runs.state import ENDED, Captioned, RunState
from loratui.ui import figures, text
from loratui.ui.drawing import Row, bar, whole
from loratui.ui.theme import Palette
from loratui.ui.titles import set_title
from loratui.ui.widgets.facts import Facts
from loratui.ui.widgets.header import state_mark
from loratui.ui.widgets.image_view import ImageView
from loratui.ui.widgets.line_list import LineList

if TYPE_CHECKING:
    from loratui.ui.app import LoratuiApp

_LABEL = 10
_ENDS = {"left": "kept"}
"""How an end is worded here."""


class CaptionRun(Vertical):
    """Figures above, newest captions below, the picture of the one under the cursor beside them."""

    DEFAULT_CSS = """
    CaptionRun { height: 1fr; }
    CaptionRun #live-left { width: 13fr; }
    CaptionRun #live-figures { height: 9; }
    CaptionRun #live-list-panel { height: 1fr; padding: 0; }
    CaptionRun #live-picture-panel { width: 9fr; height: 1fr; }
    CaptionRun #live-said { height: 5; }
    """

    def __init__(self, root: Path) -> None:
        super().__init__(id="live")
        self._root = root
        self._state: RunState | None = None
        self._captions: list[Captioned] = []
        self._longest = 0
        """Cells of the longest name."""

    def compose(self) -> ComposeResult:
        """Figures, list, picture."""
        with Horizontal():
            with Vertical(id="live-left"):
                figures_panel = Facts(self._figures, id="live-figures", classes="panel")
                figures_panel.border_title = "run"
                yield figures_panel
                with Vertical(id="live-list-panel", classes="panel") as panel:
                    panel.border_title = "newest captions"
                    yield LineList(self._row, None, "The models are being loaded.", id="live-captions")
            with Vertical(id="live-picture-panel", classes="panel"):
                yield ImageView(id="live-picture")
                yield Facts(self._said, id="live-said")

    def update(self, state: RunState | None) -> None:
        """Show the newest state; the cursor stays on the newest caption unless it was moved away."""
        self._state = state
        view = self.query_one("#live-captions", LineList)
        before = self._current()
        followed = view.cursor == 0
        self._captions = list(reversed(state.captions)) if state is not None else []
        self._longest = max((cell_len(text.plain(Path(c.rel).name)) for c in self._captions), default=0)
        at = 0
        if not followed and before is not None:
            same = (i for i, c in enumerate(self._captions) if c.rel == before.rel)
            at = next(same, min(view.cursor, max(0, len(self._captions) - 1)))
        if state is None:
            view.say("No caption run yet: esc goes back, s starts one.")
        elif state.state in ENDED:
            view.say("It ended before a picture was captioned.")
        else:
            view.say("The models are being loaded.")
        view.show_rows(len(self._captions), at)
        self.query_one("#live-figures", Facts).redraw()
        self._show()

    def _current(self) -> Captioned | None:
        at = self.query_one("#live-captions", LineList).cursor
        return self._captions[at] if at < len(self._captions) else None

    @on(LineList.Moved)
    def _show(self) -> None:
        current = self._current()
        panel = self.query_one("#live-picture-panel")
        view = self.query_one("#live-picture", ImageView)
        path = self._root / current.rel if current is not None else None
        row = cast("LoratuiApp", self.app).library.row(path) if path is not None else None
        view.show_framed(path, row.frame if row is not None else PLAIN)
        name = text.shorten(text.plain(Path(current.rel).name), 34) if current is not None else "picture"
        set_title(panel, name)
        self.query_one("#live-said", Facts).redraw()

    # drawing

    def _figures(self, width: int, height: int, colours: Palette) -> list[Row]:
        state = self._state
        if state is None:
            return [[("no caption run yet", colours.muted)]]
        share = state.step / state.steps if state.steps else 0.0
        total = figures.count(state.steps)
        tint = colours.green if state.state in {"running", "finished"} else colours.state(state.state)
        head = f"{figures.count(state.step).rjust(len(total))} / {total}"
        row: Row = [("pictures".ljust(_LABEL), colours.muted), (head, colours.bold), ("  ", None)]
        room = width - _LABEL - len(head) - 10
        if room >= 6:
            row += bar(share, room, tint, colours.track)
        rows: list[Row] = [
            [
                ("captioner".ljust(_LABEL), colours.muted),
                (
                    text.crop(text.plain(state.family or state.name), max(4, width - _LABEL - 14)),
                    colours.text,
                ),
                (f"  {state_mark(state.state)} {state.state}", colours.state(state.state)),
            ],
            [*row, (figures.percent(share).rjust(6), colours.text)],
        ]
        if state.progress is not None and state.state not in ENDED:
            words = f"{state.progress.what}…"
            rows.append(
                [("now".ljust(_LABEL), colours.muted), (text.crop(text.plain(words), width - _LABEL), None)]
            )
        else:
            speed = f"{state.images_s:.1f} images/s" if state.images_s else "–"
            rows.append([("speed".ljust(_LABEL), colours.muted), (speed.ljust(16), colours.text)])
            if state.state not in ENDED:
                rows[-1] += [("left ", colours.muted), (figures.duration(state.eta_s), colours.text)]
        rows.append(_counts(state, width, colours))
        rows.append([("memory".ljust(_LABEL), colours.muted), (_memory(state), colours.text)])
        if state.reason and state.state in ENDED:
            for part in text.wrap(text.plain(f"{state.reason}. {state.advice}"), width, most=2):
                rows.append([(part, colours.state(state.state))])
        elif state.warnings:
            rows.append([(text.crop(text.plain(state.warnings[-1]), width), colours.amber)])
        return rows

    def _row(self, index: int, width: int, colours: Palette) -> Row:
        seen = self._captions[index]
        name = max(8, min(self._longest, width // 4))
        tint = {"written": colours.text, "failed": colours.red}.get(seen.state, colours.muted)
        words = seen.text if seen.state == "written" else f"{_ENDS.get(seen.state, seen.state)}: {_why(seen)}"
        return [
            (text.fit(text.plain(Path(seen.rel).name), name) + "  ", colours.muted),
            (text.crop(text.plain(words), width - name - 2), tint),
        ]

    def _said(self, width: int, height: int, colours: Palette) -> list[Row]:
        current = self._current()
        if current is None:
            return []
        words = current.text or _why(current)
        tint = colours.red if current.state == "failed" else colours.text
        return [[(part, tint)] for part in text.wrap(text.plain(words), width, most=height)]


def _counts(state: RunState, width: int, colours: Palette) -> Row:
    """What became of the pictures so far."""
    known = state.counts
    groups: list[Row] = [
        [("written".ljust(_LABEL), colours.muted), (figures.count(known.get("written", 0)), colours.text)]
    ]
    for key, words, tint in (
        ("failed", "failed", colours.red),
        ("left", "kept", colours.text),
        ("pinned", "by hand", colours.text),
    ):
        count = known.get(key, 0)
        groups.append(
            [(f"{words} ", colours.muted), (figures.count(count), tint if count else colours.muted)]
        )
    return whole(groups, width, 2)


def _why(seen: Captioned) -> str:
    """The reason of an end, without the path that stands before it: the name is shown already."""
    before, _, rest = seen.reason.partition(f"{Path(seen.rel).name} ")
    return rest if rest and " " not in before.strip() else seen.reason


def _memory(state: RunState) -> str:
    used = state.memory
    parts = []
    for key, words in (("allocated_gib", "on the GPU"), ("rss_gib", "of the machine")):
        value = used.get(key)
        if isinstance(value, int | float):
            parts.append(f"{figures.gib(float(value))} G {words}")
    return ", ".join(parts) or "–"
