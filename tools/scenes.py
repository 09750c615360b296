"""Random drawn scenes, with everything a caption may say about them, and drawings for the codec.

A scene is a background with shapes or figures on it. `CODEC_KINDS` are drawings of many other kinds,
for an autoencoder that has to redraw whatever a person trains on; `UNSEEN_KINDS` only measure it.
"""

from __future__ import annotations

import hashlib
import math
import random
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from figures import FIGURES, SHAPES, UNSEEN, creature
from palette import COLOURS, RGB, Pen, arc, jitter, random_rgb, shade
from PIL import Image, ImageDraw, ImageFilter, ImageFont

NONSENSE = "creature"  # a figure that captions call by a made-up word
COLOUR_NAMES = tuple(COLOURS)


@dataclass
class Thing:
    """One object: what it is, its main colour's name, centre and scale as fractions of the picture."""

    kind: str
    colour: str
    x: float = 0.5
    y: float = 0.5
    scale: float = 0.34

    @property
    def size_word(self) -> str:
        """`small`, `large` or nothing."""
        return "small" if self.scale < 0.21 else "large" if self.scale > 0.37 else ""

    @property
    def place_words(self) -> tuple[str, str]:
        """Horizontal and vertical place, empty in the middle."""
        h = "left" if self.x < 0.4 else "right" if self.x > 0.6 else ""
        v = "top" if self.y < 0.4 else "bottom" if self.y > 0.6 else ""
        return h, v


@dataclass
class Scene:
    """A background (colour name and texture) and the things on it, first drawn first."""

    background: str
    texture: str = "plain"
    things: list[Thing] = field(default_factory=list)
    width_px: int = 64
    height_px: int = 64
    seed: int = 0


def held_out(kind: str, colour: str, background: str) -> bool:
    """Say whether a combination is kept out of training: one in eight, by hash."""
    digest = hashlib.sha256(f"{kind}/{colour}/{background}".encode()).digest()
    return digest[0] % 8 == 0


def other_colour(rng: random.Random, *used: str) -> str:
    """Return a colour name that is not in `used`."""
    return rng.choice([c for c in COLOUR_NAMES if c not in used])


def random_thing(rng: random.Random, background: str, kinds: tuple[str, ...], small: bool = False) -> Thing:
    """Return a thing on `background` whose combination may be trained on."""
    while True:
        kind, colour = rng.choice(kinds), other_colour(rng, background)
        if not held_out(kind, colour, background):
            break
    thing = Thing(kind, colour)
    figure = kind not in SHAPES
    if small:
        thing.scale = rng.uniform(0.13, 0.2)
    elif rng.random() < 0.7:
        thing.scale = rng.uniform(0.32, 0.46) if figure else rng.uniform(0.22, 0.42)
    else:
        thing.scale = rng.uniform(0.2, 0.32) if figure else rng.uniform(0.14, 0.22)
    if rng.random() < 0.6:
        thing.x, thing.y = 0.5 + rng.uniform(-0.05, 0.05), 0.5 + rng.uniform(-0.05, 0.05)
    else:
        room = max(0.0, 0.5 - thing.scale)
        thing.x, thing.y = (0.5 + rng.uniform(-room, room) for _ in range(2))
    return thing


def random_scene(rng: random.Random, width_px: int = 64, height_px: int = 64) -> Scene:
    """Return a scene of one shape, several, a figure, a made-up creature or nothing."""
    background = rng.choice(COLOUR_NAMES)
    texture = rng.choices(("plain", "soft", "striped", "dotted", "ground"), (80, 9, 4, 4, 3))[0]
    scene = Scene(background, texture, [], width_px, height_px, rng.getrandbits(48))
    roll = rng.random()
    shapes, figures = tuple(SHAPES), tuple(FIGURES)
    if roll < 0.36:
        scene.things = [random_thing(rng, background, shapes)]
    elif roll < 0.52:
        scene.things = scatter(rng, background, shapes + figures[:6])
    elif roll < 0.80:
        scene.things = [random_thing(rng, background, figures)]
    elif roll < 0.98:
        scene.things = [random_thing(rng, background, (NONSENSE,))]
    return scene


def scatter(rng: random.Random, background: str, kinds: tuple[str, ...]) -> list[Thing]:
    """Return two or three things side by side or one above the other."""
    n = rng.choice((2, 2, 3))
    upright, things = rng.random() < 0.3, []
    for i in range(n):
        thing = random_thing(rng, background, kinds, small=True)
        along, across = (i + 0.5) / n + rng.uniform(-0.03, 0.03), 0.5 + rng.uniform(-0.15, 0.15)
        thing.x, thing.y = (across, along) if upright else (along, across)
        thing.scale = rng.uniform(0.17, 0.23) if n == 2 else rng.uniform(0.13, 0.16)
        things.append(thing)
    return things


def paint_background(pen: Pen, colour: RGB, texture: str, rng: random.Random) -> None:
    """Lay a texture over the canvas; the colour stays recognisable."""
    w, h = pen.big
    tone = shade(colour, rng.choice((0.8, 0.86, 1.16, 1.24)))
    if texture == "soft":
        top, ramp = shade(colour, rng.uniform(0.75, 1.0)), shade(colour, rng.uniform(1.0, 1.25))
        for y in range(0, h, 2):
            t = y / h
            mix = tuple(int(a * (1 - t) + b * t) for a, b in zip(top, ramp, strict=True))
            pen.draw.rectangle((0, y, w, y + 2), fill=mix)
    elif texture == "striped":
        step = int(min(w, h) * rng.uniform(0.12, 0.25))
        slant = rng.choice((0, step, -step))
        for x in range(-step, w + step, step):
            pen.draw.polygon(
                [(x, 0), (x + step // 2, 0), (x + step // 2 + slant, h), (x + slant, h)], fill=tone
            )
    elif texture == "dotted":
        step = int(min(w, h) * rng.uniform(0.16, 0.25))
        for y in range(step // 2, h, step):
            for x in range(step // 2, w, step):
                r = step * 0.22
                pen.draw.ellipse((x - r, y - r, x + r, y + r), fill=tone)
    elif texture == "ground":
        pen.draw.rectangle((0, int(h * rng.uniform(0.7, 0.85)), w, h), fill=tone)


def draw_thing(pen: Pen, thing: Thing, rng: random.Random) -> None:
    """Draw one thing in its place."""
    colour = jitter(COLOURS[thing.colour], rng)
    angle = rng.gauss(0, 0.06)
    mirror = rng.random() < 0.5 and thing.kind != "arrow"
    pen.at(thing.x, thing.y, thing.scale, angle, mirror)
    if thing.kind in SHAPES:
        SHAPES[thing.kind](pen, colour)
        return
    accents = [jitter(COLOURS[other_colour(rng, thing.colour)], rng) for _ in range(2)]
    figure = creature if thing.kind == NONSENSE else FIGURES.get(thing.kind) or UNSEEN[thing.kind]
    figure(pen, colour, accents[0], accents[1], rng)


def draw(scene: Scene) -> Image.Image:
    """Return the scene's picture, the same one each time."""
    rng = random.Random(scene.seed)
    colour = jitter(COLOURS[scene.background], rng, 9)
    pen = Pen(scene.width_px, scene.height_px, colour)
    paint_background(pen, colour, scene.texture, rng)
    for thing in scene.things:
        draw_thing(pen, thing, rng)
    return pen.finish()


# Drawings for the codec -------------------------------------------------------------------------


def kind_scene(rng: random.Random, px: int) -> Image.Image:
    """A scene as the base sees it."""
    return draw(random_scene(rng, px, px))


def kind_free(rng: random.Random, px: int) -> Image.Image:
    """Figures and shapes in any colours, places, turns and numbers."""
    pen = Pen(px, px, random_rgb(rng))
    if rng.random() < 0.3:
        paint_background(pen, random_rgb(rng), rng.choice(("soft", "striped", "dotted")), rng)
    for _ in range(rng.randint(1, 5)):
        pen.at(rng.random(), rng.random(), rng.uniform(0.1, 0.5), rng.uniform(-3.2, 3.2), rng.random() < 0.5)
        if rng.random() < 0.3:
            SHAPES[rng.choice(tuple(SHAPES))](pen, random_rgb(rng))
        else:
            figure = rng.choice([*FIGURES.values(), creature, creature, creature])
            figure(pen, random_rgb(rng), random_rgb(rng), random_rgb(rng), rng)
    return pen.finish()


def kind_busy(rng: random.Random, px: int) -> Image.Image:
    """One large figure with many small parts, thin limbs and dots, in any colours."""
    pen = Pen(px, px, random_rgb(rng))
    pen.at(rng.uniform(0.4, 0.6), rng.uniform(0.4, 0.6), rng.uniform(0.3, 0.48), rng.gauss(0, 0.2))
    colours = [random_rgb(rng) for _ in range(4)]
    if rng.random() < 0.5:
        creature(pen, colours[0], colours[1], colours[2], rng)
    else:
        rng.choice(list(FIGURES.values()))(pen, colours[0], colours[1], colours[2], rng)
    for _ in range(rng.randint(3, 12)):
        x, y, s = rng.uniform(0, 0.9), rng.uniform(-0.9, 0.9), rng.uniform(0.05, 0.25)
        fill, kind = rng.choice(colours), rng.randrange(4)
        for side in (-1, 1):
            if kind == 0:
                pen.line(
                    [(side * x, y), (side * (x + rng.uniform(-0.4, 0.4)), y + s * 2)],
                    rng.uniform(0.05, 0.16),
                    fill,
                )
            elif kind == 1:
                pen.box(side * x - s, y - s / 2, side * x + s, y + s / 2, fill, rng.choice((0.0, s / 3)))
            else:
                pen.oval(side * x, y, s, s * rng.uniform(0.6, 1.0), fill)
    return pen.finish()


def kind_polygons(rng: random.Random, px: int) -> Image.Image:
    """Many polygons and ellipses in any colours, large to tiny."""
    pen = Pen(px, px, random_rgb(rng))
    for _ in range(rng.randint(3, 24)):
        size = 0.6 * rng.random() ** 2 + 0.03
        pen.at(rng.random(), rng.random(), size, rng.uniform(-3.2, 3.2))
        if rng.random() < 0.5:
            pen.oval(0, 0, 1, rng.uniform(0.2, 1), random_rgb(rng))
        else:
            n = rng.randint(3, 7)
            turns = sorted(rng.uniform(0, 6.28) for _ in range(n))
            pen.poly([(math.cos(t), math.sin(t)) for t in turns], random_rgb(rng))
    return pen.finish()


def kind_lines(rng: random.Random, px: int) -> Image.Image:
    """Lines and curves of all widths."""
    pen = Pen(px, px, random_rgb(rng))
    for _ in range(rng.randint(2, 14)):
        pen.at(rng.random(), rng.random(), rng.uniform(0.1, 0.6), rng.uniform(-3.2, 3.2))
        width = rng.choice((0.04, 0.08, 0.15, 0.3))
        if rng.random() < 0.5:
            pen.line(
                [(rng.uniform(-1, 1), rng.uniform(-1, 1)) for _ in range(rng.randint(2, 4))],
                width,
                random_rgb(rng),
            )
        else:
            pen.line(arc(0, 0, 1, rng.uniform(0.3, 1), 0, rng.uniform(60, 360)), width, random_rgb(rng))
    return pen.finish()


def kind_gradient(rng: random.Random, px: int) -> Image.Image:
    """Smooth colour fields, with something on them half of the time."""
    n = rng.choice((2, 3, 4))
    grid = np.array([[random_rgb(rng) for _ in range(n)] for _ in range(n)], dtype=np.uint8)
    image = Image.fromarray(grid).resize((px, px), Image.Resampling.BICUBIC)
    if rng.random() < 0.5:
        mask = Image.new("L", (px, px), 0)
        x, y, r = rng.random() * px, rng.random() * px, rng.uniform(0.1, 0.4) * px
        ImageDraw.Draw(mask).ellipse((x - r, y - r, x + r, y + r), fill=255)
        image.paste(kind_polygons(rng, px), (0, 0), mask.filter(ImageFilter.GaussianBlur(rng.random())))
    return image


def kind_noise(rng: random.Random, px: int) -> Image.Image:
    """Soft noise over a drawing, or a noise field of its own."""
    state = np.random.default_rng(rng.getrandbits(32))
    n = rng.choice((6, 10, 16, 24))
    field_ = state.integers(0, 256, (n, n, 3), dtype=np.uint8)
    if rng.random() < 0.5:
        field_ = np.repeat(field_.mean(axis=2, keepdims=True), 3, axis=2).astype(np.uint8)
    noise = Image.fromarray(field_).resize((px, px), Image.Resampling.BICUBIC)
    return Image.blend(kind_free(rng, px), noise, rng.choice((0.15, 0.3, 0.6)))


def kind_letters(rng: random.Random, px: int) -> Image.Image:
    """Letters and digits on a drawing or a plain field."""
    image = Image.new("RGB", (px * 2, px * 2), random_rgb(rng))
    draw_ = ImageDraw.Draw(image)
    for _ in range(rng.randint(1, 5)):
        text = "".join(
            rng.choice("ABCDEFGHKMNPRSTXYZabdegkmrst0123456789&%?!") for _ in range(rng.randint(1, 4))
        )
        font = ImageFont.load_default(rng.uniform(0.25, 1.2) * px)
        place = (rng.uniform(-0.1, 1.5) * px, rng.uniform(-0.1, 1.5) * px)
        draw_.text(place, text, fill=random_rgb(rng), font=font)
    return image.resize((px, px), Image.Resampling.BOX)


def kind_checks(rng: random.Random, px: int) -> Image.Image:
    """Checks, bricks and stripes in any colours and turns."""
    pen = Pen(px, px, random_rgb(rng))
    pen.at(0.5, 0.5, 1.0, rng.uniform(-0.8, 0.8))
    step, two = rng.uniform(0.12, 0.5), (random_rgb(rng), random_rgb(rng))
    stripes = rng.random() < 0.4
    n = int(2 / step) + 2
    for i in range(-n // 2, n // 2 + 1):
        if stripes:
            pen.box(i * step, -2, (i + 0.5) * step, 2, two[i % 2])
            continue
        for j in range(-n // 2, n // 2 + 1):
            if (i + j) % 2:
                pen.box(i * step, j * step, (i + 1) * step, (j + 1) * step, two[0])
    if rng.random() < 0.4:
        pen.at(0.5, 0.5, rng.uniform(0.2, 0.45))
        creature(pen, random_rgb(rng), random_rgb(rng), random_rgb(rng), rng)
    return pen.finish()


def kind_voronoi(rng: random.Random, px: int) -> Image.Image:
    """A mosaic of cells; never shown to the codec."""
    state = np.random.default_rng(rng.getrandbits(32))
    n, big = int(state.integers(6, 24)), px * 3
    points, colours = state.random((n, 2)) * big, state.integers(0, 256, (n, 3), dtype=np.uint8)
    yy, xx = np.mgrid[0:big, 0:big]
    nearest = ((yy[..., None] - points[:, 0]) ** 2 + (xx[..., None] - points[:, 1]) ** 2).argmin(-1)
    return Image.fromarray(colours[nearest]).resize((px, px), Image.Resampling.BOX)


def kind_rings(rng: random.Random, px: int) -> Image.Image:
    """Targets and spirals; never shown to the codec."""
    pen = Pen(px, px, random_rgb(rng))
    for _ in range(rng.randint(1, 3)):
        pen.at(rng.random(), rng.random(), rng.uniform(0.2, 0.6))
        two = (random_rgb(rng), random_rgb(rng))
        n = rng.randint(3, 6)
        for i in range(n):
            pen.disc(0, 0, 1 - i / n, two[i % 2])
    return pen.finish()


def kind_unseen_figures(rng: random.Random, px: int) -> Image.Image:
    """An owl or a teapot; never shown to codec or base."""
    pen = Pen(px, px, random_rgb(rng))
    pen.at(0.5, 0.5, rng.uniform(0.3, 0.46), rng.uniform(-0.2, 0.2), rng.random() < 0.5)
    rng.choice(list(UNSEEN.values()))(pen, random_rgb(rng), random_rgb(rng), random_rgb(rng), rng)
    return pen.finish()


CodecKind = Callable[[random.Random, int], Image.Image]
CODEC_KINDS: dict[str, tuple[CodecKind, float]] = {
    "scene": (kind_scene, 0.24),
    "free": (kind_free, 0.22),
    "busy": (kind_busy, 0.22),
    "polygons": (kind_polygons, 0.08),
    "lines": (kind_lines, 0.08),
    "gradient": (kind_gradient, 0.04),
    "noise": (kind_noise, 0.04),
    "letters": (kind_letters, 0.04),
    "checks": (kind_checks, 0.04),
}
UNSEEN_KINDS: dict[str, CodecKind] = {
    "voronoi": kind_voronoi,
    "rings": kind_rings,
    "owl and teapot": kind_unseen_figures,
}


def random_drawing(rng: random.Random, px: int = 64) -> Image.Image:
    """Return a drawing of any of the codec's kinds."""
    kinds = list(CODEC_KINDS.values())
    kind = rng.choices([k for k, _ in kinds], [w for _, w in kinds])[0]
    return kind(rng, px)
