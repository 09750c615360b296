"""Samples for export: small copies as data URLs, and all of them on one sheet."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from loratui.errors import SaveError
from loratui.files import replace_file
from loratui.runs.plain import clean
from loratui.runs.sheet import Column, Sheet, title

Progress = Callable[[int, int], None]
_LARGEST_PX = 100_000_000
_WIDEST_PX = 24_000
_TALLEST_PX = 24_000
_PAPER, _INK, _PALE = (250, 250, 250), (30, 30, 30), (120, 120, 120)
_FONTS = ("DejaVuSans.ttf", "NotoSans-Regular.ttf", "LiberationSans-Regular.ttf")


def data_url(path: Path, side: int, quality: int = 88) -> str:
    """A picture as `data:image/jpeg;base64,...` without its metadata; empty when it cannot be read.

    Args:
        path: of the picture.
        side: px its longer side is shrunk to, where it is longer.
        quality: of the JPEG.
    """
    small = opened(path, side)
    if small is None:
        return ""
    data = io.BytesIO()
    small.save(data, "JPEG", quality=quality, optimize=True)
    return "data:image/jpeg;base64," + base64.b64encode(data.getvalue()).decode("ascii")


def opened(path: Path, side: int) -> Image.Image | None:
    """A picture in RGB, its longer side at most `side` px; None when it cannot be read."""
    try:
        with Image.open(path, formats=("PNG", "JPEG", "WEBP")) as image:
            if image.width * image.height > _LARGEST_PX:
                return None
            small = image.convert("RGB")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return None
    small.thumbnail((side, side), Image.Resampling.LANCZOS)
    plain = Image.new("RGB", small.size)
    plain.paste(small)  # text chunks stay behind
    return plain


def spread(count: int, most: int) -> list[int]:
    """At most `most` of `count` places, evenly, the first and the last among them."""
    if count <= most:
        return list(range(count))
    if most <= 1:
        return [count - 1] * most
    return sorted({round(i * (count - 1) / (most - 1)) for i in range(most)})


def contact_sheet(
    root: Path, sheet: Sheet, heading: str, side: int = 256, progress: Progress | None = None
) -> Image.Image:
    """All samples on one picture: prompts in rows, checkpoints in columns, both named.

    Args:
        root: the run directory.
        sheet: its samples.
        heading: written on top; may be foreign.
        side: px of a cell; less where the sheet would get too large.
        progress: told (done, of).
    """
    across, down = max(1, len(sheet.columns)), max(1, len(sheet.lines))
    side = max(32, min(side, _WIDEST_PX // across - 8, _TALLEST_PX // down - 32))
    places = spread(across, _WIDEST_PX // (side + 8))
    columns: list[tuple[int, Column]] = [(i, sheet.columns[i]) for i in places if i < len(sheet.columns)]
    font, small = _font(max(11, side // 14)), _font(max(10, side // 17))
    line_px = max(16, side // 10)
    head, tall = 3 * line_px, _tallest(root, sheet, side)
    width = max(len(columns) * (side + 8) + 8, 320)
    image = Image.new("RGB", (width, head + down * (tall + line_px + 10) + 8), _PAPER)
    pen = ImageDraw.Draw(image)
    pen.text((8, line_px // 3), _fitted(clean(heading), font, width - 16), fill=_INK, font=font)
    for place, (_, column) in enumerate(columns):
        words = _fitted(clean(title(column)), small, side)
        pen.text((8 + place * (side + 8), 2 * line_px - 2), words, fill=_PALE, font=small)
    done, total = 0, len(columns) * len(sheet.lines)
    for row, line in enumerate(sheet.lines):
        top = head + row * (tall + line_px + 10)
        for place, (number, _) in enumerate(columns):
            sample = sheet.at(number, row)
            made = opened(root / sample.path, 2 * side) if sample is not None else None
            if made is not None:
                made = _scaled(made, side, tall)
                left = 8 + place * (side + 8) + (side - made.width) // 2
                image.paste(made, (left, top + (tall - made.height) // 2))
            done += 1
            if progress is not None:
                progress(done, total)
        words = _fitted(clean(f"{row + 1}  {line[1]}   (seed {line[2]})"), small, width - 16)
        pen.text((8, top + tall + 1), words, fill=_INK, font=small)
    return image


def _tallest(root: Path, sheet: Sheet, side: int) -> int:
    """Px of the tallest cell: the pictures of a run have one shape, as a rule, and the newest shows it."""
    shapes = {column: sample for (column, _), sample in sheet.cells.items()}
    heights = []
    for sample in list(shapes.values())[-8:]:
        try:
            with Image.open(root / sample.path, formats=("PNG", "JPEG", "WEBP")) as image:
                heights.append(round(side * image.height / max(image.width, image.height)))
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
            continue
    return max(heights, default=side) or side


def _scaled(image: Image.Image, width: int, height: int) -> Image.Image:
    """A picture as large as fits; what is much smaller keeps its pixels sharp."""
    share = min(width / image.width, height / image.height)
    way = Image.Resampling.NEAREST if share >= 2 else Image.Resampling.LANCZOS
    share = float(int(share)) if share >= 2 else share
    return image.resize((max(1, round(image.width * share)), max(1, round(image.height * share))), way)


def write_png(image: Image.Image, path: Path) -> None:
    """Write a picture as PNG, atomically.

    Raises:
        SaveError: it cannot be written.
    """
    data = io.BytesIO()
    image.save(data, "PNG")
    write_whole(path, data.getvalue())


def write_whole(path: Path, data: bytes) -> None:
    """Write a file so that it is there whole or not at all.

    Raises:
        SaveError: it cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_file(path, data)
    except OSError as error:
        raise SaveError(
            f"{path} cannot be written: {error.strerror or error}.", "Name another place with --out."
        ) from error


def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    for name in _FONTS:
        try:
            return ImageFont.truetype(name, size)
        except OSError:
            continue
    return ImageFont.load_default(size)


def _fitted(words: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: int) -> str:
    """Words cut to a width in px."""
    if font.getlength(words) <= width:
        return words
    low, high = 0, len(words)
    while low < high:
        middle = (low + high + 1) // 2
        if font.getlength(words[:middle] + "…") <= width:
            low = middle
        else:
            high = middle - 1
    return words[:low] + "…"
