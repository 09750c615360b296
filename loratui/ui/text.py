"""The only door through which foreign text reaches the terminal.

File names, captions, prompts, logs, metadata and model names are written by others. A widget that takes a
plain `str` would read markup in it, and Textual passes escape sequences on. So foreign text becomes
`Content` here, cleaned and without markup, and `TerminalGuard` removes what is left from every line that is
painted, whoever made it.
"""

from __future__ import annotations

import re
from functools import lru_cache

from rich.cells import cell_len, set_cell_size
from rich.segment import Segment
from textual.color import Color
from textual.content import Content
from textual.filter import LineFilter

from loratui.runs.plain import clean

ELLIPSIS = "…"

# C0, DEL, C1, line and paragraph separators, bidi marks, embeddings and isolates, the BOM, lone surrogates
_UNSAFE = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff]")


def plain(text: object) -> str:
    """`text` cleaned and on one line, for drawing cell by cell."""
    return clean(str(text))


def lines(text: object) -> list[str]:
    """`text` cleaned, as lines; tabs become spaces."""
    return clean(str(text), keep_newlines=True).split("\n")


def foreign(text: object, style: str = "") -> Content:
    """`text` as one line of `Content`: cleaned, no markup."""
    return Content.styled(plain(text), style) if style else Content(plain(text))


def foreign_lines(text: object) -> Content:
    """`text` as `Content` with its line breaks: cleaned, no markup."""
    return Content("\n".join(lines(text)))


@lru_cache(4096)
def shorten(text: str, width: int) -> str:
    """`text` in at most `width` cells, with an ellipsis in its middle.

    Both ends of a name tell pictures apart, so the middle goes.
    """
    if cell_len(text) <= width:
        return text
    if width <= 1:
        return ELLIPSIS[:width]
    left = (width - 1) // 2
    head = set_cell_size(text, left).rstrip(" ") if left else ""
    # a wide character may straddle the cut: drop characters from the front until the tail fits
    room = width - 1 - cell_len(head)
    start = max(0, len(text) - room)
    while cell_len(text[start:]) > room:
        start += 1
    return head + ELLIPSIS + text[start:]


def crop(text: str, width: int) -> str:
    """`text` in at most `width` cells, with an ellipsis at its end."""
    if cell_len(text) <= width:
        return text
    return set_cell_size(text, max(0, width - 1)).rstrip(" ") + ELLIPSIS if width > 0 else ""


def pad(text: str, width: int, right: bool = False) -> str:
    """`text` filled with spaces to `width` cells; longer text is returned as it is."""
    fill = " " * max(0, width - cell_len(text))
    return fill + text if right else text + fill


def fit(text: str, width: int, right: bool = False) -> str:
    """`text` in exactly `width` cells: shortened in the middle, or padded."""
    return pad(shorten(text, width), width, right)


def wrap(text: str, width: int, most: int = 1000) -> list[str]:
    """`text` broken at spaces into lines of at most `width` cells, at most `most` of them."""
    out: list[str] = []
    line = ""
    for word in text.split(" "):
        while cell_len(word) > width > 0:  # a word wider than the line is cut
            if line:
                out.append(line)
                line = ""
            cut = max(1, len(set_cell_size(word, width).rstrip(" ")))
            out.append(word[:cut])
            word = word[cut:]
        if line and cell_len(line) + 1 + cell_len(word) > width:
            out.append(line)
            line = word
        else:
            line = f"{line} {word}" if line else word
    out.append(line)
    if len(out) > most:
        out = [*out[: most - 1], crop(out[most - 1] + " " + ELLIPSIS, width)]
    return out


class TerminalGuard(LineFilter):
    """Removes control, escape and bidi characters from every segment that is painted.

    Segments that carry control codes are ours (pictures in the terminal's own protocol) and pass.
    """

    def apply(self, segments: list[Segment], background: Color) -> list[Segment]:
        """The segments without unsafe characters; the same list when there are none."""
        search = _UNSAFE.search
        if not any(control is None and search(text) for text, _style, control in segments):
            return segments
        cleaned: list[Segment] = []
        for text, style, control in segments:
            # a lone surrogate takes one cell, all the others none: the width of the line stays
            safe = text if control is not None else _UNSAFE.sub(_harmless, text)
            cleaned.append(Segment(safe, style, control))
        return cleaned


def _harmless(match: re.Match[str]) -> str:
    return "\ufffd" if "\ud800" <= match[0] <= "\udfff" else ""
