"""What pictures the terminal can draw, and how they are written to it.

One probe of our own asks for the kitty protocol (TGP), the size of a cell, and the device attributes: every
terminal answers the last, so its answer ends the probe. The answers are picked from the input by
`ui.terminal`, whenever they come: a slow link delays sharper pictures, never the first frame.
"""

from __future__ import annotations

import base64
import io
import os
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from rich.segment import ControlType, Segment
from rich.style import Style
from textual.strip import Strip

if TYPE_CHECKING:
    from PIL.Image import Image

Kind = Literal["halfblock", "tgp", "sixel"]

KINDS: dict[Kind, str] = {"halfblock": "half blocks", "tgp": "kitty graphics", "sixel": "sixel"}
PROBE = "\x1b_Gi=31,s=1,v=1,a=q,t=d,f=24;AAAA\x1b\\" + "\x1b[16t" + "\x1b[c"
_ANSWERS = re.compile(r"\x1b_G([^\x1b]*)\x1b\\|\x1b\[6;(\d+);(\d+)t|\x1b\[\?([\d;]*)c")
_PARTIAL = re.compile(r"\x1b(?:_[^\x1b]*\x1b?|\[\??[\d;]*)?\Z")
_BEHIND = re.compile(_ANSWERS.pattern.rpartition("|")[0])
_LATE = re.compile(r"\x1b\[6;[\d;]*\Z")
"""Answers, and the start of one, that come behind the last."""
_PATIENCE = 10

# the diacritics that number rows and columns in kitty's Unicode placeholders, in the protocol's order
_MARKS = (
    "0305 030D 030E 0310 0312 033D 033E 033F 0346 034A 034B 034C 0350 0351 0352 0357 035B 0363 0364 0365 "
    "0366 0367 0368 0369 036A 036B 036C 036D 036E 036F 0483 0484 0485 0486 0487 0592 0593 0594 0595 0597 "
    "0598 0599 059C 059D 059E 059F 05A0 05A1 05A8 05A9 05AB 05AC 05AF 05C4 0610 0611 0612 0613 0614 0615 "
    "0616 0617 0657 0658 0659 065A 065B 065D 065E 06D6 06D7 06D8 06D9 06DA 06DB 06DC 06DF 06E0 06E1 06E2 "
    "06E4 06E7 06E8 06EB 06EC 0730 0732 0733 0735 0736 073A 073D 073F 0740 0741 0743 0745 0747 0749 074A "
    "07EB 07EC 07ED 07EE 07EF 07F0 07F1 07F3 0816 0817 0818 0819 081B 081C 081D 081E 081F 0820 0821 0822 "
    "0823 0825 0826 0827 0829 082A 082B 082C 082D 0951 0953 0954 0F82 0F83 0F86 0F87 135D 135E 135F 17DD "
    "193A 1A17 1A75 1A76 1A77 1A78 1A79 1A7A 1A7B 1A7C 1B6B 1B6D 1B6E 1B6F 1B70 1B71 1B72 1B73 1CD0 1CD1 "
    "1CD2 1CDA 1CDB 1CE0 1DC0 1DC1 1DC3 1DC4"
)
_DIACRITICS = tuple(chr(int(mark, 16)) for mark in _MARKS.split())
_PLACEHOLDER = "\U0010eeee"
MAX_CELLS = len(_DIACRITICS)


@dataclass(frozen=True)
class Graphics:
    """What the terminal can draw.

    Attributes:
        kind: half blocks, kitty's protocol, or sixel.
        cell_width: of one character cell, px.
        cell_height: of one character cell, px.
    """

    kind: Kind = "halfblock"
    cell_width: int = 10
    cell_height: int = 20

    @property
    def aspect(self) -> float:
        """Width of a cell over its height; half blocks make square pixels of 1:2 cells."""
        return self.cell_width / self.cell_height


def worth_asking(environ: Mapping[str, str] = os.environ) -> bool:
    """Whether the terminal may draw more than half blocks: tmux and screen pass nothing on."""
    term = environ.get("TERM", "")
    inside = "TMUX" in environ or "STY" in environ or term.startswith(("screen", "tmux", "dumb", "linux"))
    return not inside and "NO_COLOR" not in environ and environ.get("TERM_PROGRAM") != "Apple_Terminal"


class Answers:
    """Picks the answers to `PROBE` out of what the terminal sends; the rest are keys.

    Over a slow line an answer may come late, out of its order or in pieces: its end must not become a key.
    """

    def __init__(self) -> None:
        self.done = False
        self.kitty = False
        self.sixel = False
        self.cell = (0, 0)
        self._held = ""
        self._patience = 0

    def feed(self, data: str) -> str:
        """`data` without the answers. The start of an answer that is cut off is held back."""
        if not self._held and "\x1b" not in data:
            return data
        data = self._held + data
        self._held, self._patience = "", _PATIENCE
        rest = (_BEHIND if self.done else _ANSWERS).sub(self._take, data)
        partial = _LATE if self.done else _PARTIAL
        if (cut := partial.search(rest)) and len(cut[0]) < 256:
            self._held, rest = cut[0], rest[: cut.start()]
        return rest

    def release(self) -> str:
        """Nothing more came for a tenth of a second: what was held back may be a key after all."""
        self._patience -= 1
        if len(self._held) > 2 and self._patience > 0:  # no key is that long: the rest is on its way
            return ""
        held, self._held = self._held, ""
        return held

    def _take(self, match: re.Match[str]) -> str:
        if match[1] is not None:
            self.kitty = match[1].endswith(";OK")
        elif match[2] is not None:
            self.cell = (int(match[3]), int(match[2]))
        else:
            self.sixel = "4" in match[4].split(";")[1:]
            self.done = True
        return ""

    def graphics(self) -> Graphics:
        """What the answers say. Terminals that speak both draw sixel more reliably than placeholders."""
        kind: Kind = "sixel" if self.sixel else "tgp" if self.kitty else "halfblock"
        width, height = self.cell
        sane = 2 <= width <= 200 and 4 <= height <= 400
        return Graphics(kind, width, height) if sane else Graphics(kind)


def encode_png(image: Image, colours: int = 256) -> bytes:
    """A small PNG: a palette costs a tenth of the bytes and is not seen at these sizes."""
    from PIL import Image as Pillow

    out = io.BytesIO()
    image.convert("RGB").quantize(colours, method=Pillow.Quantize.FASTOCTREE).save(
        out, "PNG", compress_level=6
    )
    return out.getvalue()


def ask_terminal(reads: int, writes: int, seconds: float = 0.5) -> Graphics:
    """Probe a terminal that no app is using; half blocks when it does not answer in time.

    Args:
        reads: file descriptor that its answers come from.
        writes: file descriptor that leads to it.
        seconds: how long to wait.
    """
    import select
    import termios
    import tty

    if not worth_asking():
        return Graphics()
    answers, before = Answers(), termios.tcgetattr(reads)
    end = time.monotonic() + seconds
    try:
        tty.setcbreak(reads, termios.TCSANOW)
        os.write(writes, PROBE.encode())
        while not answers.done and (left := end - time.monotonic()) > 0:
            if select.select([reads], [], [], left)[0]:
                answers.feed(os.read(reads, 4096).decode("utf-8", "replace"))
    finally:
        termios.tcsetattr(reads, termios.TCSAFLUSH, before)
    return answers.graphics() if answers.done else Graphics()


def tgp_upload(ident: int, png: bytes, columns: int, rows: int) -> str:
    """The kitty messages that store a picture under `ident` and give it `columns` x `rows` cells."""
    data = base64.b64encode(png).decode()
    parts = [data[start : start + 4096] for start in range(0, len(data), 4096)]
    out = []
    for index, part in enumerate(parts):
        more = 1 if index < len(parts) - 1 else 0
        head = f"i={ident},f=100,q=2,m={more}" if index == 0 else f"m={more},q=2"
        out.append(f"\x1b_G{head};{part}\x1b\\")
    out.append(f"\x1b_Ga=p,U=1,i={ident},c={columns},r={rows},q=2\x1b\\")
    return "".join(out)


def tgp_delete(ident: int) -> str:
    """The kitty message that frees a stored picture."""
    return f"\x1b_Ga=d,d=I,i={ident},q=2\x1b\\"


def tgp_strips(ident: int, columns: int, rows: int) -> list[Strip]:
    """The placeholder cells the terminal paints the picture over; `ident` below 2^24 is their colour."""
    style = Style(color=f"#{ident & 0xFFFFFF:06x}")
    out = []
    for y in range(min(rows, MAX_CELLS)):
        line = "".join(_PLACEHOLDER + _DIACRITICS[y] + _DIACRITICS[x] for x in range(min(columns, MAX_CELLS)))
        out.append(Strip([Segment(line, style)], min(columns, MAX_CELLS)))
    return out


def sixel(image: Image, width_px: int, height_px: int) -> str:
    """`image` scaled to px as a sixel sequence."""
    from PIL import Image as Pillow
    from textual_image._sixel import image_to_sixels

    made: str = image_to_sixels(image.convert("RGB").resize((width_px, height_px), Pillow.Resampling.LANCZOS))
    return made


def sixel_strips(data: str, x: int, y: int, columns: int, rows: int) -> list[Strip]:
    """Strips that draw a sixel picture with its corner at cell (x, y) of the terminal.

    The picture rides in control segments on the last line, so it is painted after the cells under it.
    """
    control = ((ControlType.CURSOR_FORWARD, 0),)
    lines = [Strip([Segment(" " * columns)], columns) for _ in range(rows - 1)]
    last = [
        Segment(" " * columns),
        Segment(f"\x1b7\x1b[{y + 1};{x + 1}H{data}\x1b8", None, control),
    ]
    return [*lines, Strip(last, columns)]
