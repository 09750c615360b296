"""A compositor that asks widgets for the lines that changed, and for no others.

Textual draws, for a title above and a row below, all that lies between them: every widget there hands out all
its lines, though two of them are painted. A key that moves a cursor then costs twenty milliseconds of work
nobody sees.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from rich.console import Console
from textual._compositor import ChopsUpdate, Compositor
from textual.geometry import Region
from textual.strip import Strip

from loratui.ui.painted import croppable

Span = tuple[int, int, int]
"""Line, first column, one past the last."""


class _Changes(ChopsUpdate):
    """Writes the cells that changed; its base class begins each piece at its left end."""

    def render_segments(self, console: Console) -> str:
        """What the terminal gets."""
        out = []
        for y, left, right in self.spans:
            for end, (x, strip) in zip(self.chop_ends[y], self.chops[y].items(), strict=False):
                if strip is None or x >= right or end <= left:
                    continue
                first = left if x < left and croppable(strip) else x
                if (first, min(end, right)) != (x, end):
                    strip = strip.crop(first - x, min(end, right) - x)
                out.append(f"\x1b[{y + 1};{first + 1}H{strip.render(console)}")
        return "".join(out)


class SparseCompositor(Compositor):
    """Renders updates from the changed lines alone; the result is that of its base class."""

    def render_partial_update(self) -> ChopsUpdate | None:
        """What changed since the last time; None when nothing did."""
        regions = self._dirty_regions.copy()
        self._dirty_regions.clear()
        spans = [span for span in self._regions_to_spans(regions) if 0 <= span[0] < self.size.height]
        if not spans:
            return None
        return _Changes(self._changed(spans), spans, [cut[1:] for cut in self.cuts])

    def _changed(self, spans: Sequence[Span]) -> list[dict[int, Strip | None]]:
        """The pieces of each changed line, by the column they begin at; other lines stay empty."""
        cuts = self.cuts
        chops: list[dict[int, Strip | None]] = [{} for _ in cuts]
        wanted: dict[int, set[int]] = {}
        for y, left, right in spans:
            chops[y] = dict.fromkeys(cuts[y][:-1])
            pieces = zip(cuts[y], cuts[y][1:], strict=False)
            wanted.setdefault(y, set()).update(x for x, end in pieces if x < right and end > left)
        for widget, (region, clip) in self.visible_widgets.items():  # from front to back
            seen = region.intersection(clip)
            lines = [y for y in seen.line_range if (need := wanted.get(y)) and _meets(need, seen)]
            for first, after in _runs(lines):
                part = Region(seen.x - region.x, first - region.y, seen.width, after - first)
                for y, strip in zip(range(first, after), widget.render_lines(part), strict=False):
                    ends = [cut for cut in cuts[y] if seen.x <= cut <= seen.right]
                    line, need = chops[y], wanted[y]
                    for x, piece in zip(ends, strip.divide([cut - seen.x for cut in ends[1:]]), strict=False):
                        if line[x] is None:  # what lies in front wins
                            line[x] = piece
                        need.discard(x)
                    if not need:
                        del wanted[y]
            if not wanted:
                break
        return chops


def _meets(columns: Iterable[int], region: Region) -> bool:
    left, right = region.x, region.right
    return any(left <= x < right for x in columns)


def _runs(lines: Sequence[int]) -> Iterator[tuple[int, int]]:
    """(first, one past the last) of the lines that follow each other."""
    first = None
    for before, y in zip((None, *lines), lines, strict=False):
        if first is None:
            first = y
        elif before is not None and y != before + 1:
            yield first, before + 1
            first = y
    if first is not None:
        yield first, lines[-1] + 1
