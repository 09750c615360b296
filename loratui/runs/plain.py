"""Foreign text made safe for a plain terminal, a log file and the screens.

Nothing is dropped: what could steer a terminal or reorder a line becomes visible (`␛`, `\\x9b`, `\\u202e`),
so a hostile name stays recognisable and two different names stay different.
"""

from __future__ import annotations

import re

_UNSAFE = re.compile(
    "[\x00-\x1f\x7f-\x9f"  # C0, DEL, C1: every escape sequence begins with one of these
    "\xad\u034f\u061c\u115f\u1160\u17b4\u17b5"  # invisible letters and hyphens
    "\u180b-\u180f\u200b-\u200f\u2028-\u202f\u205f-\u206f"  # zero width, bidi, separators
    "\u3164\ufeff\uffa0\ufff0-\ufffb\ufffe\uffff"
    "\ud800-\udfff"  # lone surrogates: undecodable bytes of file names among them
    "\U000110bd\U000110cd\U00013430-\U0001345f\U0001bca0-\U0001bcaf\U0001d173-\U0001d17a"
    "\U000e0000-\U000e0fff]"  # tags and further variation selectors
)
_SGR = re.compile("(?:\x1b\\[|\x9b)[0-9;:]*m")
_BREAKS = re.compile("\r\n?|\n")
_SEPARATORS = {"\u202f": " ", "\u205f": " "}  # these two are plain spaces of another width


def _visible(match: re.Match[str]) -> str:
    char = match.group()
    code = ord(char)
    if code < 0x20:
        return chr(0x2400 + code)
    if code == 0x7F:
        return "␡"
    if code < 0x100:
        return f"\\x{code:02x}"
    if 0xDC80 <= code <= 0xDCFF:  # a byte that os.fsdecode could not decode
        return f"\\x{code - 0xDC00:02x}"
    return _SEPARATORS.get(char) or (f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}")


def clean(text: str | bytes, keep_newlines: bool = False) -> str:
    """`text` without a character that a terminal would obey.

    Args:
        text: anything from outside; bytes are read as UTF-8.
        keep_newlines: keep line breaks (as `\\n`) and widen tabs to 4 spaces; else both become visible or one
            space.
    """
    if isinstance(text, bytes):
        text = text.decode("utf-8", "surrogateescape")
    if not _UNSAFE.search(text):
        return text
    if keep_newlines:
        lines = _BREAKS.split(text)
        return "\n".join(_UNSAFE.sub(_visible, line.replace("\t", "    ")) for line in lines)
    return _UNSAFE.sub(_visible, text.replace("\t", " "))


def clean_log(text: str | bytes) -> str:
    """`clean` for output of libraries: line breaks stay and colour sequences go, for they are noise there."""
    if isinstance(text, bytes):
        text = text.decode("utf-8", "surrogateescape")
    return clean(_SGR.sub("", text), keep_newlines=True)
