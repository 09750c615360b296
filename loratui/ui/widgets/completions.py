"""The tags that what is being typed may become: the project's own first, then those of lists."""

from __future__ import annotations

from collections.abc import Iterable

from loratui.dataset.completion import Completer, Known
from loratui.dataset.tags import fold
from loratui.ui import text
from loratui.ui.drawing import Row
from loratui.ui.theme import Palette
from loratui.ui.widgets.canvas import Canvas

_MOST = 6
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
        for at, known in enumerate(self.found):
            here = at == self._at
            note = known.category if not known.alias else f"for {text.plain(known.alias)}"
            count = f"{known.count:,}".rjust(9)
            room = max(6, width - 27)
            rows.append(
                [
                    ("▌" if here else " ", colours.accent),
                    (text.fit(text.plain(known.tag), room), colours.accent if here else colours.text),
                    (count + "  ", colours.muted),
                    (text.crop(note, 11).ljust(11), colours.muted),
                    (" tab" if here else "", colours.accent),
                ]
            )
        return rows
