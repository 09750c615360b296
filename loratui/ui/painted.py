"""Lines of half-block pictures that reach the terminal without a style object for every cell.

A preview has two thousand cells, nearly each of another colour. Taken apart into segments, filtered and put
together again by the compositor it stops the keys for a tenth of a second; written straight from its pixels
it takes a millisecond. Whoever does ask for segments (a tint under a dialog, a screenshot, a terminal of 256
colours) gets them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from rich.cells import cell_len
from rich.color import Color, ColorSystem
from rich.segment import Segment
from rich.style import Style
from textual._styles_cache import StylesCache
from textual.cache import FIFOCache
from textual.filter import ANSIToTruecolor, LineFilter
from textual.strip import Strip

from loratui.ui.text import TerminalGuard

if TYPE_CHECKING:
    from rich.console import Console
    from textual.color import Color as CssColor
    from textual.css.styles import StylesBase
    from textual.geometry import Size, Spacing

_HARMLESS = (ANSIToTruecolor, TerminalGuard)
"""Filters that change nothing in cells of true colours."""
_NUMBER = [str(value) for value in range(256)]


@lru_cache(16384)
def _style(red: int, green: int, blue: int, red2: int, green2: int, blue2: int) -> Style:
    return Style(color=Color.from_rgb(red, green, blue), bgcolor=Color.from_rgb(red2, green2, blue2))


_CACHES = frozenset(name for name in Strip.__slots__ if name.endswith("_cache") and name != "_render_cache")


class _Lazy(Strip):
    """A strip that makes its segments, and the caches of its base class, when somebody wants them."""

    __slots__ = ("_made_segments",)

    def __init__(self, columns: int) -> None:
        self._made_segments: list[Segment] | None = None
        self._cell_length = self._cell_count = columns
        self._render_cache = None
        self._link_ids = None

    def __getattr__(self, name: str) -> Any:
        if name not in _CACHES:
            raise AttributeError(name)
        made: FIFOCache[Any, Any] = FIFOCache(4)
        setattr(self, name, made)
        return made

    def _make_segments(self) -> list[Segment]:
        raise NotImplementedError

    @property
    def _segments(self) -> list[Segment]:
        if self._made_segments is None:
            self._made_segments = self._make_segments()
        return self._made_segments

    @_segments.setter
    def _segments(self, value: list[Segment]) -> None:
        """The base class begins with none."""

    def __bool__(self) -> bool:
        return self.cell_length > 0


class Blocks(_Lazy):
    """One line of half blocks.

    Args:
        upper: RGB bytes of the upper pixels.
        lower: RGB bytes of the lower pixels, as many.
    """

    __slots__ = ("lower", "upper")

    def __init__(self, upper: bytes, lower: bytes) -> None:
        self.upper, self.lower = upper, lower
        super().__init__(len(upper) // 3)

    def _runs(self) -> Iterable[tuple[int, tuple[int, ...]]]:
        """(cells, colours) of each run of equal cells; each yields its colours."""
        upper, lower = self.upper, self.lower
        count, before = 0, None
        for at in range(0, len(upper), 3):
            pair = (*upper[at : at + 3], *lower[at : at + 3])
            if pair == before:
                count += 1
                continue
            if before is not None:
                yield count, before
            count, before = 1, pair
        if before is not None:
            yield count, before

    def _make_segments(self) -> list[Segment]:
        return [Segment("▀" * count, _style(*pair)) for count, pair in self._runs()]

    def render(self, console: Console) -> str:
        """The line as the terminal takes it."""
        if console._color_system is not ColorSystem.TRUECOLOR:
            return super().render(console)
        if self._render_cache is None:
            out, number = [], _NUMBER
            front = back = None
            for count, pair in self._runs():
                if pair[:3] != front:
                    front = pair[:3]
                    out.append(f"\x1b[38;2;{number[pair[0]]};{number[pair[1]]};{number[pair[2]]}m")
                if pair[3:] != back:
                    back = pair[3:]
                    out.append(f"\x1b[48;2;{number[pair[3]]};{number[pair[4]]};{number[pair[5]]}m")
                out.append("▀" * count)
            self._render_cache = "".join([*out, "\x1b[0m"])
        return self._render_cache

    def apply_filter(self, filter: LineFilter, background: CssColor) -> Strip:
        """Itself, unless the filter changes colours."""
        return self if isinstance(filter, _HARMLESS) else super().apply_filter(filter, background)

    def crop(self, start: int, end: int | None = None) -> Strip:
        """The cells between two places."""
        stop = self.cell_length if end is None else min(self.cell_length, end)
        start = max(0, start)
        if start == 0 and stop == self.cell_length:
            return self
        return Blocks(self.upper[start * 3 : stop * 3], self.lower[start * 3 : stop * 3])


class Joined(_Lazy):
    """Strips side by side; each stays as it is.

    Args:
        parts: from left to right.
    """

    __slots__ = ("parts",)

    def __init__(self, parts: Iterable[Strip]) -> None:
        self.parts: list[Strip] = []
        columns = 0
        for part in parts:
            if part.cell_length:
                columns += part.cell_length
                if isinstance(part, Joined):
                    self.parts += part.parts
                else:
                    self.parts.append(part)
        super().__init__(columns)

    def _make_segments(self) -> list[Segment]:
        return [segment for part in self.parts for segment in part]

    def render(self, console: Console) -> str:
        """The line as the terminal takes it."""
        if self._render_cache is None:
            self._render_cache = "".join([part.render(console) for part in self.parts])
        return self._render_cache

    def apply_filter(self, filter: LineFilter, background: CssColor) -> Strip:
        """Each part filtered; itself where that changes none."""
        found = self._filter_cache.get((filter, background))
        if found is None:
            parts = [part.apply_filter(filter, background) for part in self.parts]
            same = all(new is old for new, old in zip(parts, self.parts, strict=True))
            found = self if same else Joined(parts)
            self._filter_cache[filter, background] = found
        return found

    def crop(self, start: int, end: int | None = None) -> Strip:
        """The cells between two places."""
        stop = self.cell_length if end is None else min(self.cell_length, end)
        start = max(0, start)
        if start == 0 and stop == self.cell_length:
            return self
        out, at = [], 0
        for part in self.parts:
            after = at + part.cell_length
            if after > start and at < stop:
                out.append(part.crop(max(0, start - at), min(after, stop) - at))
            at = after
        return Joined(out)

    def divide(self, cuts: Iterable[int]) -> Sequence[Strip]:
        """The pieces between the cuts."""
        out, at = [], 0
        for cut in cuts:
            if cut <= self.cell_length:
                out.append(self.crop(at, cut))
                at = cut
        return out


def croppable(strip: Strip) -> bool:
    """Whether a piece may be cut off at its left: no sixel picture gets lost, no wide character is halved."""
    if isinstance(strip, Blocks):
        return True
    if isinstance(strip, Joined):
        return all(map(croppable, strip.parts))
    return all(part.control is None and cell_len(part.text) == len(part.text) for part in strip)


class AsDrawn(StylesCache):
    """Keeps a widget's lines as they were drawn, its padding beside them.

    The usual cache takes each line apart to lay borders and tints over it; pictures have none.
    """

    def render_line(
        self,
        styles: StylesBase,
        y: int,
        size: Size,
        content_size: Size,
        padding: Spacing,
        base_background: CssColor,
        background: CssColor,
        render_content_line: Callable[[int], Strip],
        *_unused: Any,
    ) -> Strip:
        """One line of the widget, `size.width` cells wide."""
        inner, _ = self.get_inner_outer(base_background, background)
        blank = inner.rich_style
        row = y - padding.top
        if not 0 <= row < content_size.height:
            return Strip.blank(size.width, blank)
        body = render_content_line(row)
        right = max(0, size.width - padding.left - body.cell_length)
        if not padding.left and not right:
            return body
        return Joined([Strip.blank(padding.left, blank), body, Strip.blank(right, blank)])
