"""A picture of the app's screen, cell by cell: braille and blocks are drawn, not looked up in a font.

    python tests/snapshot/picture.py OUT.png 120x40 PROJECT [replay=RUN replay_share=0.6] [keys...]

`type:TEXT` types, `wait:SECONDS` waits, anything else is a key.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw, ImageFont
from rich.cells import cell_len
from rich.style import Style

WIDTH, HEIGHT = 10, 20
_FONTS = "/usr/share/fonts/truetype/dejavu/DejaVuSansMono{}.ttf"
_EIGHTHS = {chr(0x2580 + n): n for n in range(1, 9)}
_DOTS = ((0, 0, 1), (0, 1, 2), (0, 2, 4), (1, 0, 8), (1, 1, 16), (1, 2, 32), (0, 3, 64), (1, 3, 128))
_LINES = {"━": (0, 1, 3), "─": (0, 1, 1), "╸": (0, 0.5, 3)}


def draw(app: Any) -> Image.Image:
    """The screen as it stands."""
    strips = app.screen._compositor.render_strips(app.size)
    theme = app.theme_variables
    back, fore = theme["background"], theme["foreground"]
    image = Image.new("RGB", (app.size.width * WIDTH, app.size.height * HEIGHT), back)
    pen = ImageDraw.Draw(image)
    fonts = {bold: _font("-Bold" if bold else "") for bold in (False, True)}
    for y, strip in enumerate(strips):
        x = 0
        for text, style, control in strip:
            if control is not None:
                continue
            style = style or Style()
            ink = _rgb(style.color, fore)
            paper = _rgb(style.bgcolor, back)
            if style.reverse:
                ink, paper = paper, ink
            for char in text:
                wide = cell_len(char)
                box = (x * WIDTH, y * HEIGHT, (x + wide) * WIDTH - 1, (y + 1) * HEIGHT - 1)
                pen.rectangle(box, fill=paper)
                _glyph(pen, char, box, ink, fonts[bool(style.bold)])
                if style.underline:
                    pen.line((box[0], box[3] - 1, box[2], box[3] - 1), fill=ink)
                x += wide
    return image


def _font(variant: str) -> Any:
    try:
        return ImageFont.truetype(_FONTS.format(variant), 16)
    except OSError:
        return ImageFont.load_default(16)


def _rgb(color: Any, default: str) -> Any:
    return tuple(color.get_truecolor()) if color is not None and not color.is_default else default


def _glyph(pen: Any, char: str, box: tuple[int, int, int, int], ink: Any, font: Any) -> None:
    left, top, right, bottom = box
    if char == " ":
        return
    code = ord(char)
    if 0x2800 <= code <= 0x28FF:
        for dx, dy, bit in _DOTS:
            if (code - 0x2800) & bit:
                x, y = left + 2 + dx * 5, top + 2 + dy * 5
                pen.rectangle((x, y, x + 2, y + 2), fill=ink)
    elif char == "▀":
        pen.rectangle((left, top, right, top + HEIGHT // 2 - 1), fill=ink)
    elif char in _EIGHTHS:
        pen.rectangle((left, bottom - HEIGHT * _EIGHTHS[char] // 8 + 1, right, bottom), fill=ink)
    elif 0x2589 <= code <= 0x258F:
        pen.rectangle((left, top, left + WIDTH * (0x2590 - code) // 8 - 1, bottom), fill=ink)
    elif char in _LINES:
        start, end, thick = _LINES[char]
        middle = (top + bottom) // 2
        pen.line((left + start * WIDTH, middle, left + end * WIDTH, middle), fill=ink, width=thick)
    else:
        pen.text((left, top), char, fill=ink, font=font)


async def shoot(out: str, size: tuple[int, int], project: Path, keys: list[str], **options: Any) -> None:
    """Run the app headless, press keys, save the picture."""
    from loratui.ui.app import LoratuiApp

    app = LoratuiApp(project, **options)
    async with app.run_test(size=size) as pilot:
        await pilot.pause(1.2)
        for key in keys:
            if key.startswith("wait:"):
                await pilot.pause(float(key[5:]))
            elif key.startswith("type:"):
                for char in key[5:]:
                    await pilot.press("space" if char == " " else char)
            else:
                await pilot.press(key)
                await pilot.pause(0.2)
        await pilot.pause(0.6)
        draw(app).save(out)


def main() -> None:
    """Read the arguments."""
    out, size, project, *rest = sys.argv[1:]
    options: dict[str, Any] = {}
    while rest and "=" in rest[0]:
        name, _, value = rest.pop(0).partition("=")
        options[name] = Path(value) if name == "replay" else float(value) if name == "replay_share" else value
    width, height = map(int, size.split("x"))
    asyncio.run(shoot(out, (width, height), Path(project), rest, **options))


if __name__ == "__main__":
    main()
