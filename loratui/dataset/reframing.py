"""One wish for the frames of many pictures: reset, turn, mirror, crop, in this order; read from words."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from loratui.dataset.framing import PLAIN, SMALLEST, Box, Frame, with_box
from loratui.errors import DatasetError

Length = tuple[float, bool]
"""(value, whether it is a share of the side, 0 to 1; else px)."""
_LENGTH = re.compile(r"(\d+(?:\.\d*)?|\.\d+)(%?)")
USAGE = "reset, turn 90|180|270, mirror, crop X,Y,W,H|auto, alpha on|off"


@dataclass(frozen=True, slots=True)
class Area:
    """A part of any picture: left, top, width, height, each in px or as a share."""

    left: Length
    top: Length
    width: Length
    height: Length

    def box(self, width: int, height: int) -> Box:
        """The part of a turned picture of this size, in fractions.

        Raises:
            DatasetError: it reaches beyond the picture, or is too small; the message is one reason.
        """
        x, y, w, h = (
            value if share else value / side
            for (value, share), side in zip(
                (self.left, self.top, self.width, self.height), (width, height) * 2, strict=True
            )
        )
        if x + w > 1 + 1e-9 or y + h > 1 + 1e-9:
            raise DatasetError(f"the crop reaches beyond its {width}x{height} px")
        if min(w, h) < SMALLEST:
            raise DatasetError(f"the crop would be less than {SMALLEST:.0%} of its {width}x{height} px")
        return round(x, 6), round(y, 6), min(1.0, round(x + w, 6)), min(1.0, round(y + h, 6))


@dataclass(frozen=True, slots=True)
class Reframe:
    """What to do to frames.

    Attributes:
        reset: begin from the picture as it lies in its file.
        turn: degrees clockwise to turn what is seen by: 0, 90, 180, 270.
        mirror: exchange left and right of what is seen.
        area: what to keep of it; None leaves the crop alone.
        automatic: let the bucket choose the crop.
        alpha: whether alpha channels are masks; None leaves that alone.
    """

    reset: bool = False
    turn: int = 0
    mirror: bool = False
    area: Area | None = None
    automatic: bool = False
    alpha: bool | None = None

    @property
    def empty(self) -> bool:
        """Whether there is nothing to do."""
        return self == Reframe()

    def frame(self, width: int, height: int, before: Frame) -> Frame:
        """The frame of a picture afterwards.

        Args:
            width: of the picture in px, before any turn.
            height: of the picture in px.
            before: its frame.

        Raises:
            DatasetError: the crop does not fit into it; the message is one reason.
        """
        frame = PLAIN if self.reset else before
        for _ in range(self.turn // 90):
            frame = frame.turned()
        if self.mirror:
            frame = frame.mirrored()
        if self.automatic:
            frame = with_box(frame, None)
        if self.area is not None:
            frame = with_box(frame, self.area.box(*frame.size(width, height)))
        return frame

    def describe(self) -> str:
        """In few words, for the history."""
        parts = ["reset"] if self.reset else []
        parts += [f"turn {self.turn}"] if self.turn else []
        parts += ["mirror"] if self.mirror else []
        parts += ["crop auto"] if self.automatic else []
        parts += [f"crop {area_text(self.area)}"] if self.area is not None else []
        parts += [f"alpha {'on' if self.alpha else 'off'}"] if self.alpha is not None else []
        return "frame " + " ".join(parts)


def parse_area(text: str) -> Area:
    """`X,Y,W,H`: px, or per cent with a `%` behind.

    Raises:
        DatasetError: it cannot be read.
    """
    parts = [_LENGTH.fullmatch(part.strip()) for part in text.split(",")]
    if len(parts) != 4 or None in parts:
        raise DatasetError(
            f"The crop {text} cannot be read.",
            "Give left,top,width,height of the turned picture in px or per cent, as 0,10%,512,80%, or auto.",
        )
    lengths = [(float(m[1]) / 100, True) if m[2] else (float(m[1]), False) for m in parts if m is not None]
    return Area(*lengths)


def area_text(area: Area) -> str:
    """The part as text; parsing it gives the same one."""
    lengths = (area.left, area.top, area.width, area.height)
    return ",".join(f"{value * 100:.10g}%" if share else f"{value:.10g}" for value, share in lengths)


def parse_reframe(words: Sequence[str]) -> Reframe:
    """The wish in words, as `turn 90 mirror crop 0,0,50%,50% alpha on`.

    Raises:
        DatasetError: a word is not known, or nothing is asked for.
    """
    given = list(words)
    wish: dict[str, object] = {}
    while given:
        word = given.pop(0)
        if word in {"reset", "mirror"}:
            wish[word] = True
            continue
        argument = given.pop(0) if given else ""
        if word == "turn" and argument in {"90", "180", "270"}:
            wish["turn"] = int(argument)
        elif word == "crop" and argument == "auto":
            wish["automatic"] = True
        elif word == "crop" and argument:
            wish["area"] = parse_area(argument)
        elif word == "alpha" and argument in {"on", "off"}:
            wish["alpha"] = argument == "on"
        else:
            raise DatasetError(f"frame: cannot read {word} {argument}".rstrip() + ".", f"There are: {USAGE}.")
    made = Reframe(**wish)  # type: ignore[arg-type]
    if made.empty:
        raise DatasetError("Nothing is asked for.", f"There are: {USAGE}.")
    if made.automatic and made.area is not None:
        raise DatasetError("A crop is either automatic or given.", "Leave one of them out.")
    return made
