"""Sizes of pictures from their headers, thousands a second: the plain cases of JPEG, PNG and WebP read here.

Anything that is not plain (a damaged end, EXIF in an odd place, an animation, other formats) is left to
`scan.read_header`, which asks Pillow and says what is wrong. The two agree, which a test holds.
"""

from __future__ import annotations

import os
from pathlib import Path

from loratui.dataset.scan import MAX_PIXELS, read_header
from loratui.errors import DatasetError, Problem

_ANIMATED, _EXIF = 0x02, 0x08
_HEAD, _TAIL = 16_384, 1024
_SOF = frozenset({0xC0, 0xC1, 0xC2})
_STANDALONE = frozenset({0x01, *range(0xD0, 0xD8)})


def header_size(path: Path) -> tuple[tuple[int, int], int]:
    """(width, height) in px after EXIF orientation, and the number of frames.

    Raises:
        DatasetError: not a picture, or damaged; its problem has the code.
    """
    size = _plain(path)
    if size is not None and 0 < size[0] * size[1] <= MAX_PIXELS:
        return size, 1
    return read_header(path)


def _plain(path: Path) -> tuple[int, int] | None:
    """Size of a plain picture, None for Pillow to judge."""
    try:
        with open(path, "rb", buffering=0) as file:
            head = file.read(_HEAD)
            length = os.fstat(file.fileno()).st_size
            if length <= len(head):
                tail = head[-_TAIL:]
            else:
                file.seek(max(0, length - _TAIL))
                tail = file.read(_TAIL)
    except OSError:
        return None
    if head[:2] == b"\xff\xd8":
        return _jpeg(head) if b"\xff\xd9" in tail else None
    if head[:8] == b"\x89PNG\r\n\x1a\n":
        return _png(head) if b"IEND" in tail else None
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return _webp(head) if length >= int.from_bytes(head[4:8], "little") + 8 else None
    return None


def _jpeg(head: bytes) -> tuple[int, int] | None:
    """Walk the segments to the frame header; turned by the orientation of an EXIF segment before it."""
    at, turned = 2, False
    while at + 9 <= len(head):
        if head[at] != 0xFF:
            return None
        kind = head[at + 1]
        if kind == 0xFF:
            at += 1
            continue
        if kind in _STANDALONE:
            at += 2
            continue
        length = int.from_bytes(head[at + 2 : at + 4], "big")
        body = head[at + 4 : at + 2 + length]
        if kind in _SOF:
            height, width = int.from_bytes(body[1:3], "big"), int.from_bytes(body[3:5], "big")
            return (height, width) if turned else (width, height)
        if kind == 0xE1 and body.startswith(b"Exif\0\0"):
            value = _orientation(body[6:])
            if value is None or len(body) != length - 2:
                return None
            turned = value >= 5
        if kind in {0xDA, 0xD9} or length < 2:
            return None
        at += 2 + length
    return None


def _orientation(tiff: bytes) -> int | None:
    """Orientation 1 to 8 of an EXIF block, 1 when it has none, None when it is odd."""
    order = {b"II*\0": "little", b"MM\0*": "big"}.get(tiff[:4])
    if order not in ("little", "big"):
        return None

    def number(start: int, size: int) -> int:
        return int.from_bytes(tiff[start : start + size], "little" if order == "little" else "big")

    table = number(4, 4)
    if table + 2 > len(tiff):
        return None
    for i in range(number(table, 2)):
        entry = table + 2 + 12 * i
        if entry + 12 > len(tiff):
            return None
        if number(entry, 2) == 0x0112:
            value = number(entry + 8, 2)
            plain = number(entry + 2, 2) == 3 and number(entry + 4, 4) == 1 and 1 <= value <= 8
            return value if plain else None
    return 1


def _png(head: bytes) -> tuple[int, int] | None:
    """From the first chunk; EXIF before the pixels is left to Pillow."""
    if head[12:16] != b"IHDR":
        return None
    pixels = head.find(b"IDAT")
    if pixels < 0 or any(mark in head[:pixels] for mark in (b"eXIf", b"Raw profile", b"acTL")):
        return None
    return int.from_bytes(head[16:20], "big"), int.from_bytes(head[20:24], "big")


def _webp(head: bytes) -> tuple[int, int] | None:
    kind, data = head[12:16], head[20:30]
    if len(data) < 10:
        return None
    if kind == b"VP8X" and not data[0] & (_ANIMATED | _EXIF):
        return int.from_bytes(data[4:7], "little") + 1, int.from_bytes(data[7:10], "little") + 1
    if kind == b"VP8 " and data[3:6] == b"\x9d\x01\x2a":
        return int.from_bytes(data[6:8], "little") & 0x3FFF, int.from_bytes(data[8:10], "little") & 0x3FFF
    if kind == b"VP8L" and data[0] == 0x2F:
        bits = int.from_bytes(data[1:5], "little")
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    return None


def problem_of(error: DatasetError, path: Path) -> Problem:
    """The one finding a header error carries."""
    return (
        error.problems[0] if error.problems else Problem(str(path), "corrupt-image", "error", error.message)
    )
