"""Plain shapes and multi-part figures, drawn in a local frame of [-1, 1].

Each figure takes the pen, its main colour, two accents and a random source for small variations.
None of them resembles the demo's mascot. `UNSEEN` figures are never shown to the base model: they
test the codec and the generality of LoRA training.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable

from palette import RGB, Pen, arc, random_rgb, shade

Shape = Callable[[Pen, RGB], None]
Figure = Callable[[Pen, RGB, RGB, RGB, random.Random], None]

DARK: RGB = (30, 28, 34)
LIGHT: RGB = (250, 250, 246)
SKIN: tuple[RGB, ...] = ((250, 214, 176), (224, 172, 130), (150, 100, 66), (96, 62, 44))


def star_points(n: int, inner: float) -> list[tuple[float, float]]:
    """Return the outline of an n-pointed star of radius 1."""
    points = []
    for i in range(2 * n):
        r = 1.0 if i % 2 == 0 else inner
        t = math.pi * i / n - math.pi / 2
        points.append((r * math.cos(t), r * math.sin(t)))
    return points


def heart_points() -> list[tuple[float, float]]:
    """Return the outline of a heart in [-1, 1]."""
    points = []
    for i in range(48):
        t = 2 * math.pi * i / 48
        x = math.sin(t) ** 3
        y = -(13 * math.cos(t) - 5 * math.cos(2 * t) - 2 * math.cos(3 * t) - math.cos(4 * t)) / 16
        points.append((x, y - 0.08))
    return points


def ring(p: Pen, c: RGB) -> None:
    """Draw a ring as a thick band, so that the background shows through."""
    outer, inner = arc(0, 0, 0.95, 0.95, 0, 360, 48), arc(0, 0, 0.5, 0.5, 360, 0, 48)
    p.poly(outer + inner, c)


def moon(p: Pen, c: RGB) -> None:
    """Draw a crescent."""
    p.poly(arc(0.1, 0, 0.95, 0.95, 55, 305, 36) + arc(0.42, 0, 0.72, 0.82, 285, 75, 30), c)


SHAPES: dict[str, Shape] = {
    "circle": lambda p, c: p.disc(0, 0, 0.95, c),
    "square": lambda p, c: p.box(-0.84, -0.84, 0.84, 0.84, c),
    "triangle": lambda p, c: p.poly([(0, -0.95), (0.98, 0.8), (-0.98, 0.8)], c),
    "star": lambda p, c: p.poly(star_points(5, 0.42), c),
    "heart": lambda p, c: p.poly(heart_points(), c),
    "diamond": lambda p, c: p.poly([(0, -1.05), (0.72, 0), (0, 1.05), (-0.72, 0)], c),
    "ring": ring,
    "cross": lambda p, c: (
        p.box(-0.95, -0.32, 0.95, 0.32, c),
        p.box(-0.32, -0.95, 0.32, 0.95, c),
        None,
    )[-1],
    "moon": moon,
    "arrow": lambda p, c: p.poly(
        [(-0.95, -0.28), (0.1, -0.28), (0.1, -0.75), (1.0, 0), (0.1, 0.75), (0.1, 0.28), (-0.95, 0.28)], c
    ),
}


def face(p: Pen, c: RGB, a: RGB, b: RGB, r: random.Random) -> None:
    """A round head with hair in the main colour."""
    skin = r.choice(SKIN)
    p.disc(0, -0.08, 0.9, c)
    p.oval(0, 0.1, 0.74, 0.8, skin)
    for x in (-0.3, 0.3):
        p.oval(x, 0, 0.14, 0.17, LIGHT)
        p.disc(x, 0.02, 0.08, DARK)
    p.sector(0, 0.4, 0.32, r.uniform(0.12, 0.3), 0, 180, (190, 50, 60))


def house(p: Pen, c: RGB, a: RGB, b: RGB, r: random.Random) -> None:
    """A house with walls in the main colour."""
    p.box(-0.75, -0.1, 0.75, 0.9, c)
    p.poly([(-0.95, -0.1), (0, -0.95), (0.95, -0.1)], a)
    p.box(-0.18, 0.35, 0.18, 0.9, b)
    for x in (-0.5, 0.5):
        p.box(x - 0.16, 0.1, x + 0.16, 0.42, LIGHT if r.random() < 0.5 else (250, 226, 120))


def tree(p: Pen, c: RGB, a: RGB, b: RGB, r: random.Random) -> None:
    """A tree with a crown in the main colour."""
    p.box(-0.15, 0.2, 0.15, 0.95, (110, 68, 40))
    if r.random() < 0.5:
        for y in (-0.95, -0.55, -0.15):
            p.poly([(0, y), (0.75 + y * 0.15, y + 0.7), (-0.75 - y * 0.15, y + 0.7)], c)
    else:
        for x, y, s in ((-0.4, 0, 0.45), (0.4, 0, 0.45), (0, -0.4, 0.55)):
            p.disc(x, y, s, c)
        for x, y in ((-0.4, 0.05), (0.3, -0.1), (0, -0.55)):
            p.disc(x, y, 0.11, a)


def fish(p: Pen, c: RGB, a: RGB, b: RGB, r: random.Random) -> None:
    """A fish with a body in the main colour."""
    p.poly([(0.4, 0), (0.98, -0.55), (0.98, 0.55)], a)
    p.poly([(-0.2, -0.4), (0.3, -0.8), (0.35, -0.3)], a)
    p.oval(-0.15, 0, 0.75, 0.5, c)
    p.oval(0.1, 0, 0.1, 0.42, b)
    p.disc(-0.52, -0.1, 0.13, LIGHT)
    p.disc(-0.54, -0.1, 0.07, DARK)


def car(p: Pen, c: RGB, a: RGB, b: RGB, r: random.Random) -> None:
    """A car in the main colour."""
    p.poly([(-0.5, -0.05), (-0.3, -0.5), (0.35, -0.5), (0.6, -0.05)], c)
    p.poly([(-0.36, -0.08), (-0.22, -0.4), (0, -0.4), (0, -0.08)], (200, 230, 245))
    p.poly([(0.08, -0.08), (0.08, -0.4), (0.28, -0.4), (0.44, -0.08)], (200, 230, 245))
    p.box(-0.98, -0.08, 0.98, 0.42, c, 0.15)
    p.box(0.82, 0.02, 0.98, 0.16, (250, 230, 120))
    for x in (-0.52, 0.52):
        p.disc(x, 0.42, 0.26, DARK)
        p.disc(x, 0.42, 0.12, (190, 190, 195))


def flower(p: Pen, c: RGB, a: RGB, b: RGB, r: random.Random) -> None:
    """A flower with petals in the main colour."""
    p.line([(0, 0), (0, 0.95)], 0.12, (40, 130, 60))
    p.oval(0.28, 0.65, 0.26, 0.12, (40, 140, 60), -0.5)
    n = r.choice((5, 6, 8))
    for i in range(n):
        t = 2 * math.pi * i / n
        p.disc(0.4 * math.cos(t), -0.35 + 0.4 * math.sin(t), 0.27, c)
    p.disc(0, -0.35, 0.25, a)


def boat(p: Pen, c: RGB, a: RGB, b: RGB, r: random.Random) -> None:
    """A sailing boat with a hull in the main colour."""
    p.box(-0.05, -0.95, 0.05, 0.4, (90, 60, 40))
    p.poly([(0.08, -0.9), (0.8, 0.2), (0.08, 0.2)], a)
    p.poly([(-0.08, -0.7), (-0.65, 0.2), (-0.08, 0.2)], b)
    p.poly([(-0.95, 0.32), (0.95, 0.32), (0.6, 0.85), (-0.6, 0.85)], c)


def cat(p: Pen, c: RGB, a: RGB, b: RGB, r: random.Random) -> None:
    """A cat's head in the main colour."""
    for s in (-1, 1):
        p.poly([(s * 0.85, -0.95), (s * 0.88, 0), (s * 0.15, -0.45)], c)
        p.poly([(s * 0.74, -0.7), (s * 0.76, -0.2), (s * 0.4, -0.42)], shade(c, 1.5))
    p.oval(0, 0.1, 0.88, 0.74, c)
    for s in (-1, 1):
        p.oval(s * 0.36, 0, 0.17, 0.2, a)
        p.oval(s * 0.36, 0, 0.06, 0.18, DARK)
        for y in (0.35, 0.48):
            p.line([(s * 0.35, y), (s * 0.98, y - 0.1)], 0.04, LIGHT)
    p.poly([(-0.12, 0.3), (0.12, 0.3), (0, 0.44)], (240, 130, 150))


def rocket(p: Pen, c: RGB, a: RGB, b: RGB, r: random.Random) -> None:
    """A rocket with a hull in the main colour."""
    p.poly([(-0.22, 0.55), (0.22, 0.55), (0, 1.0)], (250, 170, 40))
    for s in (-1, 1):
        p.poly([(s * 0.3, 0.1), (s * 0.72, 0.65), (s * 0.3, 0.6)], a)
    p.poly(arc(0, 0.1, 0.38, 1.05, 180, 360) + [(0.3, 0.6), (-0.3, 0.6)], c)
    p.disc(0, -0.15, 0.2, LIGHT)
    p.disc(0, -0.15, 0.13, (90, 170, 230))


def mushroom(p: Pen, c: RGB, a: RGB, b: RGB, r: random.Random) -> None:
    """A mushroom with a cap in the main colour."""
    p.box(-0.28, 0, 0.28, 0.9, (244, 232, 208), 0.2)
    p.sector(0, 0.15, 0.92, 0.95, 180, 360, c)
    for x, y, s in ((-0.45, -0.2, 0.16), (0.1, -0.5, 0.18), (0.5, -0.1, 0.14), (-0.1, -0.05, 0.1)):
        p.disc(x, y, s, LIGHT)


def butterfly(p: Pen, c: RGB, a: RGB, b: RGB, r: random.Random) -> None:
    """A butterfly with wings in the main colour."""
    for s in (-1, 1):
        p.oval(s * 0.5, -0.35, 0.45, 0.5, c, s * 0.5)
        p.oval(s * 0.4, 0.4, 0.34, 0.4, a, -s * 0.4)
        p.disc(s * 0.55, -0.4, 0.18, b)
        p.line([(0, -0.5), (s * 0.25, -0.92)], 0.05, DARK)
    p.oval(0, 0, 0.11, 0.62, DARK)


def snowman(p: Pen, c: RGB, a: RGB, b: RGB, r: random.Random) -> None:
    """A snowman with a scarf in the main colour."""
    p.disc(0, 0.45, 0.52, LIGHT)
    p.disc(0, -0.32, 0.38, LIGHT)
    p.box(-0.36, -0.1, 0.36, 0.08, c, 0.05)
    p.box(0.1, 0, 0.3, 0.45, c)
    p.box(-0.28, -0.98, 0.28, -0.62, DARK)
    p.box(-0.42, -0.68, 0.42, -0.58, DARK)
    for x in (-0.13, 0.13):
        p.disc(x, -0.4, 0.06, DARK)
    p.poly([(0, -0.32), (0.35, -0.24), (0, -0.2)], (245, 130, 40))


def cup(p: Pen, c: RGB, a: RGB, b: RGB, r: random.Random) -> None:
    """A cup in the main colour."""
    p.poly(arc(0.55, 0.1, 0.4, 0.4, 0, 360, 30) + arc(0.55, 0.1, 0.22, 0.22, 360, 0, 30), c)
    p.poly([(-0.75, -0.4), (0.6, -0.4), (0.45, 0.75), (-0.6, 0.75)], c)
    p.oval(-0.07, -0.4, 0.68, 0.17, shade(c, 0.6))
    p.box(-0.66, 0.05, 0.54, 0.25, a)
    for x in (-0.3, 0.1):
        p.line([(x, -0.6), (x + 0.1, -0.75), (x, -0.92)], 0.07, (225, 225, 230))


def cake(p: Pen, c: RGB, a: RGB, b: RGB, r: random.Random) -> None:
    """A cake with icing in the main colour."""
    p.box(-0.85, 0.15, 0.85, 0.85, (236, 200, 150))
    p.box(-0.85, 0.1, 0.85, 0.4, c)
    for i in range(5):
        p.disc(-0.68 + i * 0.34, 0.4, 0.17, c)
    p.box(-0.5, -0.3, 0.5, 0.15, a)
    for x in (-0.3, 0, 0.3):
        p.box(x - 0.05, -0.7, x + 0.05, -0.3, b)
        p.oval(x, -0.8, 0.07, 0.12, (252, 190, 60))


def bird(p: Pen, c: RGB, a: RGB, b: RGB, r: random.Random) -> None:
    """A bird with a body in the main colour."""
    p.poly([(0.4, 0.1), (0.98, -0.2), (0.95, 0.3)], a)
    p.oval(0.05, 0.2, 0.65, 0.48, c)
    p.disc(-0.48, -0.32, 0.36, c)
    p.poly([(-0.8, -0.4), (-1.0, -0.22), (-0.78, -0.16)], (250, 170, 40))
    p.disc(-0.55, -0.4, 0.08, DARK)
    p.oval(0.2, 0.12, 0.36, 0.24, a, 0.4)
    for x in (-0.05, 0.2):
        p.line([(x, 0.65), (x, 0.92)], 0.06, (230, 140, 40))


def balloon(p: Pen, c: RGB, a: RGB, b: RGB, r: random.Random) -> None:
    """A hot-air balloon in the main colour."""
    p.line([(-0.4, 0.1), (-0.15, 0.7)], 0.04, DARK)
    p.line([(0.4, 0.1), (0.15, 0.7)], 0.04, DARK)
    p.oval(0, -0.3, 0.68, 0.66, c)
    p.oval(0, -0.3, 0.26, 0.66, a)
    p.box(-0.2, 0.6, 0.2, 0.92, (150, 100, 60), 0.05)


def umbrella(p: Pen, c: RGB, a: RGB, b: RGB, r: random.Random) -> None:
    """An umbrella in the main colour."""
    p.line([(0, -0.8), (0, 0.7), (0.12, 0.85), (0.28, 0.75)], 0.09, (110, 74, 46))
    p.sector(0, 0.1, 0.95, 0.9, 180, 360, c)
    p.sector(0, 0.1, 0.34, 0.88, 180, 360, a)


def icecream(p: Pen, c: RGB, a: RGB, b: RGB, r: random.Random) -> None:
    """An ice-cream cone with a scoop in the main colour."""
    p.poly([(-0.5, 0), (0.5, 0), (0, 0.98)], (222, 168, 100))
    p.line([(-0.3, 0.1), (0.12, 0.7)], 0.05, (180, 120, 70))
    p.line([(0.3, 0.1), (-0.12, 0.7)], 0.05, (180, 120, 70))
    p.disc(-0.3, -0.15, 0.36, c)
    p.disc(0.3, -0.15, 0.36, a)
    p.disc(0, -0.5, 0.36, c)
    p.disc(0.05, -0.85, 0.12, (215, 40, 50))


def turtle(p: Pen, c: RGB, a: RGB, b: RGB, r: random.Random) -> None:
    """A turtle with a shell in the main colour."""
    for x, y in ((-0.5, 0.5), (0.45, 0.5)):
        p.oval(x, y, 0.18, 0.24, (120, 170, 80))
    p.disc(-0.8, 0.05, 0.22, (120, 170, 80))
    p.disc(-0.85, 0, 0.05, DARK)
    p.sector(0, 0.4, 0.75, 0.9, 180, 360, c)
    for x, y in ((-0.35, 0.1), (0.3, 0.12), (0, -0.2)):
        p.disc(x, y, 0.15, a)


def ladybug(p: Pen, c: RGB, a: RGB, b: RGB, r: random.Random) -> None:
    """A ladybug with wings in the main colour."""
    p.disc(0, -0.6, 0.35, DARK)
    p.oval(0, 0.15, 0.8, 0.75, c)
    p.box(-0.04, -0.58, 0.04, 0.9, DARK)
    for x, y in ((-0.4, -0.1), (0.4, -0.1), (-0.35, 0.45), (0.35, 0.45)):
        p.disc(x, y, 0.15, DARK)
    for x in (-0.14, 0.14):
        p.disc(x, -0.7, 0.08, LIGHT)


def train(p: Pen, c: RGB, a: RGB, b: RGB, r: random.Random) -> None:
    """A steam engine in the main colour."""
    p.box(-0.9, -0.15, 0.2, 0.4, c, 0.1)
    p.box(0.1, -0.75, 0.8, 0.4, a)
    p.box(0.25, -0.55, 0.65, -0.15, (200, 230, 245))
    p.box(-0.72, -0.55, -0.48, -0.1, b)
    p.disc(-0.5, -0.8, 0.16, (225, 225, 230))
    for x in (-0.6, -0.05, 0.5):
        p.disc(x, 0.5, 0.24, DARK)
        p.disc(x, 0.5, 0.1, (200, 60, 60))


def apple(p: Pen, c: RGB, a: RGB, b: RGB, r: random.Random) -> None:
    """An apple in the main colour."""
    p.line([(0, -0.4), (0.08, -0.9)], 0.09, (100, 64, 40))
    p.oval(0.33, -0.72, 0.26, 0.12, (60, 160, 70), -0.4)
    p.disc(-0.32, 0.12, 0.58, c)
    p.disc(0.32, 0.12, 0.58, c)
    p.oval(0, 0.4, 0.6, 0.5, c)
    p.oval(-0.5, -0.08, 0.1, 0.18, shade(c, 1.6))


def gift(p: Pen, c: RGB, a: RGB, b: RGB, r: random.Random) -> None:
    """A parcel in the main colour with a ribbon."""
    p.box(-0.75, -0.2, 0.75, 0.85, c)
    p.box(-0.85, -0.4, 0.85, -0.1, shade(c, 0.8))
    p.box(-0.14, -0.4, 0.14, 0.85, a)
    p.oval(-0.28, -0.6, 0.3, 0.18, a, 0.4)
    p.oval(0.28, -0.6, 0.3, 0.18, a, -0.4)


FIGURES: dict[str, Figure] = {
    f.__name__: f
    for f in (
        face, house, tree, fish, car, flower, boat, cat, rocket, mushroom, butterfly, snowman, cup, cake,
        bird, balloon, umbrella, icecream, turtle, ladybug, train, apple, gift,
    )
}  # fmt: skip


def creature(p: Pen, c: RGB, a: RGB, b: RGB, r: random.Random) -> None:
    """A figure of random mirrored parts: what a word without meaning may stand for."""
    colours = [c, c, a, b, random_rgb(r)]

    def blob(cx: float, cy: float, s: float, fill: RGB, both: bool) -> None:
        kind, rx, ry = r.randrange(4), s * r.uniform(0.6, 1.2), s * r.uniform(0.6, 1.2)
        for side in (-1, 1) if both else (1,):
            x = cx * side if both else 0.0
            if kind == 0:
                p.oval(x, cy, rx, ry, fill)
            elif kind == 1:
                p.box(x - rx, cy - ry, x + rx, cy + ry, fill, r.choice((0.0, s / 3)))
            elif kind == 2:
                p.poly([(x, cy - ry), (x + rx, cy + ry), (x - rx, cy + ry)], fill)
            else:
                p.sector(x, cy, rx, ry, r.choice((0, 180)), 360, fill)

    for _ in range(r.randint(1, 4)):
        blob(r.uniform(0.4, 0.85), r.uniform(-0.7, 0.8), r.uniform(0.12, 0.3), r.choice(colours), True)
    blob(0, r.uniform(0, 0.4), r.uniform(0.4, 0.6), c, False)
    if r.random() < 0.7:
        blob(0, r.uniform(-0.6, -0.3), r.uniform(0.3, 0.5), r.choice(colours), False)
    for _ in range(r.randint(0, 3)):
        blob(r.uniform(0.1, 0.4), r.uniform(-0.6, 0.5), r.uniform(0.06, 0.16), r.choice(colours), True)
    if r.random() < 0.6:
        ex, ey, es = r.uniform(0.15, 0.3), r.uniform(-0.6, 0), r.uniform(0.09, 0.16)
        for side in (-1, 1):
            p.disc(ex * side, ey, es, LIGHT)
            p.disc(ex * side, ey, es * 0.5, DARK)


def owl(p: Pen, c: RGB, a: RGB, b: RGB, r: random.Random) -> None:
    """An owl; never shown to the base."""
    for s in (-1, 1):
        p.poly([(s * 0.62, -0.98), (s * 0.65, -0.4), (s * 0.1, -0.6)], c)
        p.oval(s * 0.62, 0.3, 0.25, 0.5, shade(c, 0.7), s * 0.2)
    p.oval(0, 0.1, 0.68, 0.82, c)
    p.oval(0, 0.4, 0.42, 0.45, a)
    for s in (-1, 1):
        p.disc(s * 0.28, -0.3, 0.28, LIGHT)
        p.disc(s * 0.28, -0.3, 0.13, DARK)
        p.oval(s * 0.22, 0.93, 0.15, 0.07, (245, 160, 40))
    p.poly([(-0.1, -0.15), (0.1, -0.15), (0, 0.08)], (245, 160, 40))


def teapot(p: Pen, c: RGB, a: RGB, b: RGB, r: random.Random) -> None:
    """A teapot; never shown to the base."""
    p.poly(arc(0.62, 0.1, 0.36, 0.42, 0, 360, 30) + arc(0.62, 0.1, 0.22, 0.28, 360, 0, 30), c)
    p.poly([(-0.4, 0.3), (-0.98, -0.4), (-0.78, -0.45), (-0.4, -0.05)], c)
    p.oval(0, 0.2, 0.68, 0.58, c)
    p.box(-0.6, 0.1, 0.6, 0.3, a)
    p.sector(0, -0.25, 0.42, 0.3, 180, 360, b)
    p.disc(0, -0.62, 0.12, a)


UNSEEN: dict[str, Figure] = {"owl": owl, "teapot": teapot}
