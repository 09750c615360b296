"""`clean` lets nothing through that a terminal obeys, and hides nothing."""

from __future__ import annotations

import os
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loratui.runs.plain import clean, clean_log

PAYLOADS = {
    "\x1b]52;c;YWJj\x07": "␛]52;c;YWJj␇",
    "\x1b[2J": "␛[2J",
    "\x1bP1;2q\x1b\\": "␛P1;2q␛\\",
    "\x9b2J": "\\x9b2J",
    "\x9d0;title\x9c": "\\x9d0;title\\x9c",
    "a\u202eb": "a\\u202eb",
    "a\u200bb": "a\\u200bb",
    "\u2066x\u2069": "\\u2066x\\u2069",
    "a\nb\rc": "a␊b␍c",
    "a\tb": "a b",
    "\x7f": "␡",
    "\U000e0041": "\\U000e0041",
    "[b]no markup[/b]": "[b]no markup[/b]",
    "größe 漢字 ❤️ 🤖": "größe 漢字 ❤️ 🤖",
    "": "",
}


@pytest.mark.parametrize("raw", PAYLOADS, ids=ascii)
def test_payloads(raw: str) -> None:
    assert clean(raw) == PAYLOADS[raw]


def test_undecodable_bytes_of_file_names() -> None:
    assert clean(os.fsdecode(b"a\xff\x9bb.png")) == "a\\xff\\x9bb.png"
    assert clean(b"a\xff\x1b[m") == "a\\xff␛[m"


def test_log_text_keeps_lines_and_drops_colours() -> None:
    assert clean_log("\x1b[31mred\x1b[0m\r\n\tnext\x1b[2J") == "red\n    next␛[2J"
    assert clean("a\r\nb", keep_newlines=True) == "a\nb"


anything = st.one_of(st.text(st.characters()), st.binary(), st.binary().map(os.fsdecode))


@given(anything, st.booleans())
def test_nothing_dangerous_is_left(raw: str | bytes, lines: bool) -> None:
    out = clean(raw, keep_newlines=lines)
    out.encode("utf-8")  # no lone surrogates
    for char in out.replace("\n", "") if lines else out:
        assert unicodedata.category(char) not in {"Cc", "Cs", "Zl", "Zp"}
        assert unicodedata.bidirectional(char) not in {
            "LRE",
            "RLE",
            "PDF",
            "LRO",
            "RLO",
            "LRI",
            "RLI",
            "FSI",
            "PDI",
        }
    assert clean(out, keep_newlines=lines) == out


def test_every_format_character_is_visible() -> None:
    """All of category Cf, except the Arabic number signs and the like that have a shape."""
    shaped = set(range(0x600, 0x606)) | {0x6DD, 0x70F, 0x890, 0x891, 0x8E2}
    loose = [
        hex(code)
        for code in range(0x110000)
        if unicodedata.category(chr(code)) == "Cf" and code not in shaped and chr(code) in clean(chr(code))
    ]
    assert loose == []
