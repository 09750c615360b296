"""Painting only what changed shows what painting everything shows, and writes nothing beside it."""

from __future__ import annotations

import asyncio
import io
from random import Random

import pyte
from rich.console import Console
from textual._compositor import ChopsUpdate, Compositor
from textual.app import App, ComposeResult
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.geometry import Region
from textual.screen import Screen
from textual.widgets import Label, Static, TextArea

from loratui.ui.sparse import SparseCompositor

WIDE, HIGH = 60, 20
CONSOLE = Console(file=io.StringIO(), color_system="truecolor", force_terminal=True)


class Busy(Screen[None]):
    CSS = """
    Busy { layers: below above; }
    #left { width: 25; border: round red; padding: 0 1; }
    #right { border: solid green; background: #112233; }
    #over { layer: above; width: 20; height: 4; offset: 15 6; background: #443322; }
    """

    def __init__(self) -> None:
        super().__init__()
        self._compositor = SparseCompositor()

    def compose(self) -> ComposeResult:
        with Horizontal():
            with VerticalScroll(id="left"):
                for number in range(30):
                    yield Label(f"line {number} 漢字 with more than there is room for")
            with Vertical(id="right"):
                yield Static("words\nand more words " * 5)
                yield TextArea("a text\nof some lines\n日本 too")
        yield Static("on top of\nall of it", id="over")


def cells(update: ChopsUpdate) -> list[list[tuple[str, str, str]]]:
    screen = pyte.Screen(WIDE, HIGH)
    pyte.Stream(screen).feed(("~" * WIDE) * HIGH + update.render_segments(CONSOLE))
    return [[(c.data, c.fg, c.bg) for c in (screen.buffer[y][x] for x in range(WIDE))] for y in range(HIGH)]


def test_changed_regions_alone_are_written_and_as_textual_would() -> None:
    random = Random(7)

    def region() -> Region:
        x, y = random.randrange(WIDE), random.randrange(HIGH)
        return Region(x, y, random.randint(1, WIDE - x), random.randint(1, min(3, HIGH - y)))

    async def run() -> None:
        async with App[None]().run_test(size=(WIDE, HIGH)) as pilot:
            await pilot.app.push_screen(Busy())
            await pilot.pause()
            pilot.app.screen.query_one("#left").scroll_to(y=7, animate=False)
            await pilot.pause()
            compositor = pilot.app.screen._compositor
            assert isinstance(compositor, SparseCompositor)
            compositor._dirty_regions = {Region(0, y, WIDE, 1) for y in range(HIGH)}
            every = Compositor.render_partial_update(compositor)
            assert every is not None
            # lines with characters of two cells are written from the start of their piece
            wide = [any(not char for char, _, _ in row) for row in cells(every)]
            assert 5 < sum(wide) < HIGH
            for _ in range(150):
                regions = {region() for _ in range(random.randint(1, 4))}
                compositor._dirty_regions = set(regions)
                ours = compositor.render_partial_update()
                compositor._dirty_regions = set(regions)
                theirs = Compositor.render_partial_update(compositor)
                assert ours is not None and theirs is not None
                mine, expected = cells(ours), cells(theirs)
                for y in range(HIGH):
                    for x in range(WIDE):
                        if any(r.contains(x, y) for r in regions):
                            assert mine[y][x] == expected[y][x], (x, y, regions)
                        elif not wide[y]:
                            assert mine[y][x][0] == "~", (x, y, regions)

    asyncio.run(run())
