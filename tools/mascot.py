"""The demo's mascot, a small robot, and the sixteen pictures that the demo trains on.

python tools/mascot.py --out loratui/demo/pictures
"""

from __future__ import annotations

import argparse
import math
import random
import sys
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from palette import COLOURS, RGB, Pen, jitter, shade
from PIL import Image

TRIGGER = "sks robot"

SHELL: RGB = (168, 196, 222)
SHELL_DARK: RGB = (92, 118, 150)
SCREEN: RGB = (30, 38, 66)
GLOW: RGB = (94, 240, 228)
ACCENT: RGB = (250, 142, 40)


@dataclass
class Pose:
    """How the mascot stands: arms in degrees (0 hangs down, 150 points up), look, lean and place."""

    left_arm: float = 25.0
    right_arm: float = 25.0
    look: float = 0.0
    lean: float = 0.0
    x: float = 0.5
    y: float = 0.52
    scale: float = 0.45
    mirror: bool = False
    stride: float = 0.0
    wink: bool = False


def random_pose(rng: random.Random) -> Pose:
    """Return any pose, place and size in which the mascot is in the picture whole."""
    scale = rng.uniform(0.34, 0.48)
    room = max(0.0, 0.5 - scale * 0.95)
    return Pose(
        left_arm=rng.choice((rng.uniform(10, 60), rng.uniform(95, 135))),
        right_arm=rng.choice((rng.uniform(10, 60), rng.uniform(95, 135))),
        look=rng.uniform(-1, 1),
        lean=rng.gauss(0, 0.08),
        x=0.5 + rng.uniform(-room, room),
        y=0.51 + rng.uniform(-room, room) * 0.8,
        scale=scale,
        mirror=rng.random() < 0.5,
        stride=rng.choice((0.0, 0.0, rng.uniform(-1, 1))),
        wink=rng.random() < 0.15,
    )


def draw_arm(p: Pen, side: int, degrees: float, tone: float) -> None:
    """Draw one arm with a round hand."""
    t = math.radians(degrees)
    sx, sy = side * 0.42, 0.32
    hx, hy = sx + side * 0.4 * math.sin(t), sy + 0.4 * math.cos(t)
    p.line([(sx, sy), (hx, hy)], 0.2, shade(SHELL_DARK, tone))
    p.disc(hx, hy, 0.19, shade(ACCENT, tone))


def draw_mascot(p: Pen, pose: Pose, tone: float = 1.0) -> None:
    """Draw the mascot: antenna, square head with a glowing face, body with a button, arms and feet."""
    p.at(pose.x, pose.y, pose.scale, pose.lean, pose.mirror)
    shell, dark, accent = (shade(c, tone) for c in (SHELL, SHELL_DARK, ACCENT))
    for side in (-1, 1):
        lift = 0.07 * max(0.0, side * pose.stride)
        p.box(side * 0.22 - 0.1, 0.62, side * 0.22 + 0.1, 0.9 - lift, dark)
        p.box(side * 0.25 - 0.22, 0.82 - lift, side * 0.25 + 0.2, 1.04 - lift, accent, 0.09)
    draw_arm(p, -1, pose.left_arm, tone)
    draw_arm(p, 1, pose.right_arm, tone)
    p.box(-0.42, 0.14, 0.42, 0.78, shell, 0.14)
    p.box(-0.42, 0.6, 0.42, 0.72, dark)
    p.disc(0, 0.37, 0.16, accent)
    p.line([(0, -0.62), (0, -0.85)], 0.12, dark)
    p.disc(0, -0.9, 0.17, accent)
    for side in (-1, 1):
        p.box(side * 0.68 - 0.1, -0.43, side * 0.68 + 0.1, -0.1, dark, 0.05)
    p.box(-0.66, -0.7, 0.66, 0.12, shell, 0.2)
    p.box(-0.53, -0.57, 0.53, -0.01, SCREEN, 0.14)
    gaze = 0.08 * pose.look
    for side in (-1, 1):
        if pose.wink and side == 1:
            p.line([(0.12 + gaze, -0.34), (0.38 + gaze, -0.34)], 0.1, GLOW)
        else:
            p.oval(side * 0.25 + gaze, -0.34, 0.15, 0.16, GLOW)
    smile = [(-0.17 + gaze, -0.14), (0 + gaze, -0.09), (0.17 + gaze, -0.14)]
    p.line(smile, 0.07, GLOW)


def mascot_picture(
    pose: Pose, background: str, rng: random.Random, width_px: int = 64, height_px: int = 64
) -> Image.Image:
    """Return the mascot on a plain background of the named colour."""
    pen = Pen(width_px, height_px, jitter(COLOURS[background], rng, 8))
    draw_mascot(pen, pose)
    return pen.finish()


def pose_words(pose: Pose) -> str:
    """Return what a caption would say of a pose."""
    words = []
    up = [pose.left_arm > 90, pose.right_arm > 90]
    if all(up):
        words.append("arms up")
    elif any(up):
        words.append("waving")
    elif abs(pose.stride) > 0.3:
        words.append("walking")
    else:
        words.append("standing")
    if abs(pose.lean) > 0.12:
        words.append("leaning")
    if pose.wink:
        words.append("winking")
    elif abs(pose.look) > 0.6:
        words.append("looking left" if (pose.look < 0) != pose.mirror else "looking right")
    if pose.scale < 0.4:
        words.append("small")
    return ", ".join(words)


POSES: tuple[tuple[str, Pose], ...] = (
    ("blue", Pose()),
    ("yellow", Pose(right_arm=122)),
    ("pink", Pose(left_arm=118, right_arm=118, scale=0.43)),
    ("black", Pose(look=1, left_arm=40, right_arm=15)),
    ("grey", Pose(left_arm=118, look=-0.8, scale=0.42)),
    ("brown", Pose(stride=1, left_arm=45, right_arm=45, x=0.47)),
    ("white", Pose(right_arm=118, wink=True)),
    ("teal", Pose(left_arm=20, right_arm=60, lean=0.15)),
    ("blue", Pose(left_arm=120, right_arm=30, scale=0.38, x=0.38, y=0.56)),
    ("yellow", Pose(stride=-1, left_arm=30, right_arm=55, look=-1, mirror=True)),
    ("pink", Pose(scale=0.39, x=0.6, y=0.5, right_arm=110)),
    ("black", Pose(left_arm=115, right_arm=115, scale=0.41, y=0.55)),
    ("grey", Pose(look=-1, lean=-0.14)),
    ("brown", Pose(right_arm=120, left_arm=15, scale=0.4, x=0.56, y=0.55)),
    ("white", Pose(stride=0.8, look=0.8, scale=0.43)),
    ("teal", Pose(left_arm=118, wink=True, mirror=True)),
)


def write_pictures(folder: Path, px: int = 128) -> None:
    """Write 01.png to 16.png with captions."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = random.Random(3)
    for i, (background, pose) in enumerate(POSES, 1):
        picture = mascot_picture(pose, background, rng, px, px)
        picture.save(folder / f"{i:02}.png", optimize=True)
        text = f"{TRIGGER}, {pose_words(pose)}, {background} background\n"
        (folder / f"{i:02}.txt").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    write_pictures(parser.parse_args().out)
