"""Named colours of the drawn scenes and the drawing pen.

Everything is drawn with Pillow at `SUPERSAMPLE` times the final size and shrunk, so that edges are
smooth. Coordinates are local to a figure: x to the right, y down, both in [-1, 1].
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterable, Sequence

from PIL import Image, ImageDraw

RGB = tuple[int, int, int]
Point = tuple[float, float]

SUPERSAMPLE = 3

COLOURS: dict[str, RGB] = {
    "red": (216, 38, 40),
    "orange": (246, 132, 28),
    "yellow": (250, 214, 48),
    "green": (48, 158, 66),
    "teal": (38, 182, 178),
    "blue": (40, 88, 212),
    "purple": (124, 56, 168),
    "pink": (246, 142, 188),
    "brown": (118, 70, 38),
    "black": (26, 26, 30),
    "white": (246, 246, 244),
    "grey": (140, 142, 148),
}


def jitter(colour: RGB, rng: random.Random, amount: int = 12) -> RGB:
    """Return `colour` with each channel moved by at most `amount`."""
    r, g, b = (max(0, min(255, c + rng.randint(-amount, amount))) for c in colour)
    return (r, g, b)


def shade(colour: RGB, factor: float) -> RGB:
    """Return `colour` darkened (factor < 1) or moved towards white (factor > 1)."""
    if factor <= 1:
        r, g, b = (int(c * factor) for c in colour)
    else:
        r, g, b = (int(c + (255 - c) * min(1.0, factor - 1)) for c in colour)
    return (r, g, b)


def random_rgb(rng: random.Random) -> RGB:
    """Return any colour at all."""
    return (rng.randint(0, 255), rng.randint(0, 255), rng.randint(0, 255))


class Pen:
    """Draws polygons in local coordinates on a supersampled canvas.

    Args:
        width_px, height_px: size of the finished picture.
        background: the canvas colour.
    """

    def __init__(self, width_px: int, height_px: int, background: RGB) -> None:
        self.size = (width_px, height_px)
        self.big = (width_px * SUPERSAMPLE, height_px * SUPERSAMPLE)
        self.image = Image.new("RGB", self.big, background)
        self.draw = ImageDraw.Draw(self.image)
        self.at(0.5, 0.5, 0.5)

    def at(self, cx: float, cy: float, scale: float, angle: float = 0.0, mirror: bool = False) -> Pen:
        """Place the local frame: centre as fractions of the canvas, scale of its shorter side."""
        unit = scale * min(self.big)
        cos, sin = math.cos(angle) * unit, math.sin(angle) * unit
        flip = -1.0 if mirror else 1.0
        self._m = (cos * flip, -sin, cx * self.big[0], sin * flip, cos, cy * self.big[1])
        self._unit = unit
        return self

    def map(self, points: Iterable[Point]) -> list[Point]:
        """Return local `points` in canvas pixels."""
        a, b, c, d, e, f = self._m
        return [(a * x + b * y + c, d * x + e * y + f) for x, y in points]

    def poly(self, points: Iterable[Point], fill: RGB) -> None:
        """Fill a polygon."""
        self.draw.polygon(self.map(points), fill=fill)

    def oval(self, cx: float, cy: float, rx: float, ry: float, fill: RGB, tilt: float = 0.0) -> None:
        """Fill an ellipse."""
        self.poly(arc(cx, cy, rx, ry, 0, 360, tilt=tilt), fill)

    def disc(self, cx: float, cy: float, r: float, fill: RGB) -> None:
        """Fill a circle."""
        self.oval(cx, cy, r, r, fill)

    def sector(self, cx: float, cy: float, rx: float, ry: float, start: float, end: float, fill: RGB) -> None:
        """Fill the part of an ellipse cut off by the chord from `start` to `end` degrees."""
        self.poly(arc(cx, cy, rx, ry, start, end), fill)

    def box(self, x0: float, y0: float, x1: float, y1: float, fill: RGB, radius: float = 0.0) -> None:
        """Fill a rectangle with corners rounded by `radius`."""
        if radius <= 0:
            self.poly([(x0, y0), (x1, y0), (x1, y1), (x0, y1)], fill)
            return
        r = min(radius, abs(x1 - x0) / 2, abs(y1 - y0) / 2)
        points = arc(x1 - r, y0 + r, r, r, -90, 0) + arc(x1 - r, y1 - r, r, r, 0, 90)
        points += arc(x0 + r, y1 - r, r, r, 90, 180) + arc(x0 + r, y0 + r, r, r, 180, 270)
        self.poly(points, fill)

    def line(self, points: Sequence[Point], width: float, fill: RGB) -> None:
        """Draw a line with round ends, `width` in local units."""
        mapped = self.map(points)
        px = max(1, round(width * self._unit))
        self.draw.line(mapped, fill=fill, width=px, joint="curve")
        if px > 2:
            for x, y in mapped:
                self.draw.ellipse((x - px / 2, y - px / 2, x + px / 2, y + px / 2), fill=fill)

    def finish(self) -> Image.Image:
        """Return the picture at its final size."""
        return self.image.resize(self.size, Image.Resampling.BOX)


def arc(
    cx: float, cy: float, rx: float, ry: float, start: float, end: float, steps: int = 0, tilt: float = 0.0
) -> list[Point]:
    """Return points along an ellipse from `start` to `end` degrees (0 is right, 90 is down)."""
    n = steps or max(6, int(abs(end - start) / 12))
    ct, st = math.cos(tilt), math.sin(tilt)
    points = []
    for i in range(n + 1):
        t = math.radians(start + (end - start) * i / n)
        x, y = rx * math.cos(t), ry * math.sin(t)
        points.append((cx + x * ct - y * st, cy + x * st + y * ct))
    return points
