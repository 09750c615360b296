"""The door for foreign text, and what is drawn with it."""

from __future__ import annotations

import random

import pytest
from app_kit import HOSTILE, PAYLOADS
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.segment import ControlType, Segment
from rich.style import Style
from textual.color import Color
from textual.strip import Strip

from loratui.ui import figures, text
from loratui.ui.drawing import bar, changed_cells, meter, spark, strip, whole

ANY_TEXT = st.text(st.characters(codec=None), max_size=60)


@given(ANY_TEXT)
def test_plain_is_one_safe_line(words: str) -> None:
    """No control, bidi or surrogate character, and no line break, survives."""
    made = text.plain(words)
    assert all(c.isprintable() or c == " " for c in made if c not in "\u3000\xa0") or not made.isascii()
    assert not any(c < " " or "\x7f" <= c <= "\x9f" or c in "\u202e\u2066\u2028\ufeff" for c in made)
    made.encode()


@pytest.mark.parametrize("payload", [*PAYLOADS, HOSTILE])
def test_foreign_text_has_no_markup_and_no_control(payload: str) -> None:
    """Content is what it looks like: `[/b]` is four characters."""
    content = text.foreign(payload)
    assert "\x1b" not in content.plain and "\u202e" not in content.plain
    assert not content.spans
    if payload.startswith("[/b]"):
        assert content.plain == payload


@given(st.text(st.characters(exclude_categories=["C", "M", "Z"]), max_size=60), st.integers(0, 40))
def test_shorten_fits_and_keeps_both_ends(words: str, width: int) -> None:
    """Never wider than asked for; whole when there is room; both ends stay."""
    made = text.shorten(words, width)
    assert cell_len(made) <= width
    if cell_len(words) <= width:
        assert made == words
    elif width >= 9 and all(cell_len(c) == 1 for c in words):
        assert made[:3] == words[:3] and made[-3:] == words[-3:] and text.ELLIPSIS in made


@given(st.text(st.characters(exclude_categories=["C", "M"]), max_size=40), st.integers(2, 40), st.booleans())
def test_fit_is_exact(words: str, width: int, right: bool) -> None:
    """A column is as wide as it says, wide characters and all."""
    assert cell_len(text.fit(words, width, right)) == width


@given(st.text("ab cde漢字", max_size=120), st.integers(4, 30))
def test_wrap_loses_nothing(words: str, width: int) -> None:
    """Every line fits, and the words are all there."""
    lines = text.wrap(words, width)
    assert all(cell_len(line) <= width for line in lines)
    assert "".join(lines).replace(" ", "") == words.replace(" ", "")


def test_guard_cleans_text_and_spares_pictures() -> None:
    """Control characters go, widths stay, a picture's own sequence passes, clean lines are not copied."""
    guard = text.TerminalGuard()
    back = Color(0, 0, 0)
    picture = Segment("\x1bPq#0\x1b\\", None, ((ControlType.CURSOR_FORWARD, 0),))
    dirty = [Segment("a\x1b]52;c;x\x07b", Style(bold=True)), picture, Segment("\udcff\u202ec")]
    made = guard.apply(dirty, back)
    assert [s.text for s in made] == ["a]52;c;xb", picture.text, "\ufffdc"]
    assert made[0].style == Style(bold=True)
    assert Strip(made).cell_length == Strip(dirty).cell_length
    clean = [Segment("plain ● text")]
    assert guard.apply(clean, back) is clean


def test_changed_cells_finds_the_span() -> None:
    """Only what differs is repainted; wide characters make it the whole line."""
    base = Style()
    old = strip([("loss 0.1000   ", base)], 20, base)
    assert changed_cells(old, strip([("loss 0.1000   ", base)], 20, base)) is None
    assert changed_cells(old, strip([("loss 0.1234   ", base)], 20, base)) == (8, 11)
    assert changed_cells(old, strip([("loss ", base), ("0.1000", Style(bold=True))], 20, base)) == (5, 11)
    assert changed_cells(old, strip([("漢字", base)], 20, base)) == (0, 20)


def test_bars_and_meters_are_as_wide_as_asked() -> None:
    """Every share from nothing to all, and beyond."""
    for share in [-1.0, 0.0, 0.001, 0.5, 0.999, 1.0, 7.0, *[random.Random(1).random() for _ in range(50)]]:
        for draw in (bar, meter):
            assert sum(len(piece) for piece, _ in draw(share, 13, Style(), Style())) == 13
    assert spark([0, 0.5, 1.0, 3.0], 6) == "  ▁▄██"


def test_whole_drops_groups_and_never_cuts() -> None:
    """A group is there or not; a later one may still fit."""
    groups = [[("abcdef", None)], [("ghijklmnop", None)], [("qr", None)]]
    assert whole(groups, 12) == [("abcdef", None), ("   ", None), ("qr", None)]
    assert whole(groups, 5) == [("qr", None)]


def test_figures() -> None:
    """Numbers as people read them."""
    assert figures.duration(75) == "1:15"
    assert figures.duration(3700) == "1:01:40"
    assert figures.duration(200_000) == "2 d 07 h"
    assert figures.duration(None) == figures.duration(float("inf")) == "–"
    assert (
        figures.size(999) == "999 B"
        and figures.size(3_412_992) == "3.4 MB"
        and figures.size(2.5e11) == "250 GB"
    )
    assert (
        figures.loss(float("nan")) == "NaN"
        and figures.loss(0.09117) == "0.0912"
        and figures.loss(None) == "–"
    )
    assert (
        figures.speed(0.735) == "1.36 it/s" and figures.speed(2.1) == "2.10 s/it" and figures.speed(0) == "–"
    )
    assert figures.ago(0, 40) == "just now" and figures.ago(0, 240) == "4 min ago"
    assert figures.plural(1, "picture") == "1 picture" and figures.plural(1200, "picture") == "1,200 pictures"
