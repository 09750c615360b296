"""What a model says made fit for a caption: one line, no escape codes, no invisible characters, no markup."""

from __future__ import annotations

import html
import re
import unicodedata

_SEQUENCES = re.compile(
    r"(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]"  # CSI
    r"|(?:\x1b[\]PX^_]|[\x9d\x90\x98\x9e\x9f])[^\x07\x1b\x9c\n]*(?:\x07|\x1b\\|\x9c|$)"  # OSC, DCS and kin
    r"|\x1b[ -/]*[0-~]"
)
_TAG = re.compile(r"<[/!?]?[A-Za-z][^<>]{0,200}>|<\|[^<>|]{1,60}\|>|\[/?(?:INST|SYS|IMG|[a-z][a-z ]{0,30})\]")
_CONSOLE = re.compile(r"\[/\]|\[[@#][^\[\]]{0,120}\]|\[[a-z]+=[^\[\]]{0,200}\]|\[/[a-z][^\[\]]{0,60}\]")
_LINK = re.compile(r"!?\[([^\[\]]{0,200})\]\([^()\s]{0,500}\)")
_FENCE = re.compile(r"```[A-Za-z]*")
_LINE_START = re.compile(r"^\s*(?:#{1,6}\s+|[-*•]\s+|>\s+|\d{1,2}[.)]\s+)", re.MULTILINE)
_STRONG = re.compile(r"(\*{1,3}|_{2,3}|~~|`)(?=\S)(.+?)(?<=\S)\1")
_SPACES = re.compile(r"\s+")
LONGEST = 4000
"""Characters of one caption; what is beyond was a model that repeats itself."""


def clean_prose(text: str) -> str:
    """A model's answer as one plain line."""
    text = _plain(text[: LONGEST * 4])
    for _ in range(3):  # what one pass uncovers, the next takes
        before = text
        text = html.unescape(text)
        text = _plain(text)
        text = _LINK.sub(r"\1", text)
        text = _TAG.sub(" ", text)
        text = _CONSOLE.sub(" ", text)
        text = _FENCE.sub(" ", text)
        text = _LINE_START.sub("", text)
        text = _STRONG.sub(r"\2", text)
        if text == before:
            break
    text = _SPACES.sub(" ", text).strip()
    if len(text) > 1 and text[0] == text[-1] and text[0] in "\"'":
        text = text[1:-1].strip()
    text = re.sub(r"\s+([,.;:!?])", r"\1", text)
    return text[:LONGEST].strip()


def clean_tag(text: str) -> str:
    """A tag as it may stand between commas; brackets and faces stay."""
    text = _plain(text[:400]).replace(",", " ")
    return _SPACES.sub(" ", text).strip()


def _plain(text: str) -> str:
    """Without escape sequences and control, format, private and unassigned characters."""
    text = _SEQUENCES.sub(" ", text)
    if text.isascii() and text.isprintable():
        return text
    text = "".join(c if c in "\n\t" or _allowed(c) else " " if c < " " else "" for c in text)
    return text.replace("\t", " ")


def _allowed(char: str) -> bool:
    kind = unicodedata.category(char)
    return (
        kind[0] != "C"
        and kind not in {"Zl", "Zp"}
        and char not in "\u034f\u115f\u1160\u17b4\u17b5\u3164\uffa0"
    )
