"""The tags that what is being typed may become: the project's own first, then those of lists."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from loratui.dataset.tags import fold
from loratui.ui import text
from loratui.ui.drawing import Row
from loratui.ui.theme import Palette
from loratui.ui.widgets.canvas import Canvas

if TYPE_CHECKING:
    from loratui.dataset.completion import Completer, Known

_MOST = 6
_WIDE = 44
"""With so many cells there is room for what kind of tag it is."""
_KEYS = frozenset({"tab", "up", "down", "enter", "escape"})


class Completions(Canvas):
    """A few lines under the caption; it never takes the focus, the editor hands it the keys."""

    DEFAULT_CSS = """
    Completions { height: auto; max-height: 6; display: none; background: $panel; padding: 0 1; }
    Completions.-open { display: block; }
    """

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self.completer: Completer | None = None
        self.found: list[Known] = []
        self._at = 0
        self._moved = False

    @property
    def is_open(self) -> bool:
        """Whether tags are offered."""
        return bool(self.found)

    def offer(self, begun: str, there: Iterable[str] = ()) -> None:
        """Offer what begins like this and is not there yet; nothing when there is nothing to finish."""
        found = (
            self.completer.complete(begun, _MOST * 4) if self.completer is not None and len(begun) > 1 else []
        )
        have = {fold(tag) for tag in there} | {fold(begun)}
        self.found = [known for known in found if fold(known.tag) not in have][:_MOST]
        self._at, self._moved = 0, False
        self.set_class(bool(self.found), "-open")
        self.styles.height = len(self.found)
        self.redraw()

    def close(self) -> None:
        """Offer nothing."""
        self.offer("")

    def takes(self, key: str) -> bool:
        """Whether this key is ours now: enter only after a choice was made with the arrows."""
        return self.is_open and key in _KEYS and (key != "enter" or self._moved)

    def press(self, key: str) -> str:
        """Use a key; the tag that was chosen, or nothing."""
        if key in {"tab", "enter"}:
            return self.found[self._at].tag
        if key == "escape":
            self.close()
        else:
            self._at = (self._at + (1 if key == "down" else -1)) % len(self.found)
            self._moved = True
            self.redraw()
        return ""

    def draw(self, width: int, height: int, colours: Palette) -> list[Row]:
        """One line a tag; what tab takes is marked."""
        rows: list[Row] = []
        wide = width >= _WIDE
        room = max(6, width - (24 if wide else 12))
        for at, known in enumerate(self.found):
            here = at == self._at
            tag = text.plain(known.tag)
            alias = text.plain(known.alias)
            note = f"for {alias}" if alias else known.category
            row: Row = [
                ("▌" if here else " ", colours.accent),
                (text.fit(tag, room), colours.accent if here else colours.text),
                (_short(known.count).rjust(6), colours.muted),
            ]
            if wide:
                row.append((f"  {text.crop(note, 10).ljust(10)}", colours.muted))
            row.append((" tab " if here else "", colours.accent))
            rows.append(row)
        return rows


def _short(count: int) -> str:
    """A count in five cells: 812, 90k, 4.2M."""
    if count < 10_000:
        return f"{count:,}"
    return f"{count / 1000:.0f}k" if count < 999_500 else f"{count / 1e6:.1f}M"
