"""Painted lines: what reaches the terminal shows what their segments say, however they are cut."""

from __future__ import annotations

import io
import re

from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console
from rich.segment import Segment
from rich.style import Style
from textual.color import Color
from textual.filter import Monochrome
from textual.strip import Strip

from loratui.ui.painted import Blocks, Joined
from loratui.ui.text import TerminalGuard

TRUE = Console(file=io.StringIO(), color_system="truecolor", force_terminal=True)
FEW = Console(file=io.StringIO(), color_system="256", force_terminal=True)
Cells = list[tuple[str, str, str]]


def told(strip: Strip) -> Cells:
    """(character, colour, background) a cell, by segments."""
    out: Cells = []
    for words, style, _ in strip:
        front = style.color.name if style and style.color else ""
        back = style.bgcolor.name if style and style.bgcolor else ""
        out += [(char, front, back) for char in words]
    return out


def seen(written: str) -> Cells:
    """The same, read off what the terminal gets."""
    out: Cells = []
    front = back = ""
    for codes, char in re.findall(r"\x1b\[([\d;]*)m|([^\x1b])", written):
        if char:
            out.append((char, front, back))
            continue
        numbers = [int(n) for n in codes.split(";") if n]
        if numbers in ([], [0]):
            front = back = ""
        while len(numbers) >= 5:
            colour = "#{:02x}{:02x}{:02x}".format(*numbers[2:5])
            front, back = (colour, back) if numbers[0] == 38 else (front, colour)
            numbers = numbers[5:]
    return out


colours = st.sampled_from([b"\0\0\0", b"\xff\0\x08", b"\x10\x20\x30"])
blocks = st.lists(st.tuples(colours, colours), min_size=1, max_size=8).map(
    lambda pairs: Blocks(b"".join(p[0] for p in pairs), b"".join(p[1] for p in pairs))
)
lines = st.lists(st.one_of(blocks, st.just(Strip([Segment("ab")], 2))), min_size=1, max_size=4).map(Joined)


@settings(max_examples=200, deadline=None)
@given(lines, st.data())
def test_painted_segments_and_pieces_agree(line: Joined, data: st.DataObject) -> None:
    whole = told(line)
    assert seen(line.render(TRUE)) == whole and len(whole) == line.cell_length
    cuts = sorted(data.draw(st.sets(st.integers(1, line.cell_length)))) or [line.cell_length]
    pieces = line.divide(cuts)
    assert [p.cell_length for p in pieces] == [b - a for a, b in zip([0, *cuts], cuts, strict=False)]
    assert [cell for piece in pieces for cell in seen(piece.render(TRUE))] == whole[: cuts[-1]]
    assert seen(line.crop(cuts[0]).render(TRUE)) == whole[cuts[0] :]


def test_a_terminal_of_few_colours_gets_its_own() -> None:
    assert "38;5;" in Blocks(b"\xff\0\0", b"\0\xff\0").render(FEW)


def test_filters_reach_the_words_and_the_colours() -> None:
    line = Joined([Blocks(b"\xff\0\0", b"\0\xff\0"), Strip([Segment("a\x1b[2Jb", Style())])])
    guarded = line.apply_filter(TerminalGuard(), Color(0, 0, 0))
    assert guarded.render(TRUE).count("\x1b[2J") == 0 and guarded.text == "▀a[2Jb"
    grey = line.apply_filter(Monochrome(), Color(0, 0, 0))
    assert all(
        style is None or style.color is None or len(set(style.color.triplet or ())) < 3
        for _, style, _ in grey
    )
