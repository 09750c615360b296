"""Size of a JPEG XL picture from its first bytes: the plugin decodes all of it to tell.

The codestream begins with its size and, among its metadata, how it is turned (ISO/IEC 18181-1, annexes D and
E). In a container it lies in a `jxlc` box, or in pieces in `jxlp` boxes.
"""

from __future__ import annotations

from typing import IO

_BARE = b"\xff\x0a"
_BOXED = b"\x00\x00\x00\x0cJXL \x0d\x0a\x87\x0a"
SIGNATURES = (_BARE, _BOXED)
_RATIOS = {1: (1, 1), 2: (12, 10), 3: (4, 3), 4: (3, 2), 5: (16, 9), 6: (5, 4), 7: (2, 1)}
_BITS = (9, 13, 18, 30)


class _Bits:
    """Bits of the codestream, the lowest of each byte first."""

    def __init__(self, data: bytes) -> None:
        self._value = int.from_bytes(data, "little")
        self._left = 8 * len(data)

    def take(self, count: int) -> int:
        if count > self._left:
            raise ValueError("the header is cut off")
        self._left -= count
        found = self._value & ((1 << count) - 1)
        self._value >>= count
        return found


def jxl_size(file: IO[bytes]) -> tuple[int, int]:
    """(width, height) in px as the picture is shown, turned as its codestream says.

    Raises:
        ValueError: not a JPEG XL file, or cut off.
    """
    bits = _Bits(_codestream(file))
    small = bits.take(1)
    height = 8 * (1 + bits.take(5)) if small else _number(bits)
    ratio = bits.take(3)
    if ratio:
        over, under = _RATIOS[ratio]
        width = height * over // under
    else:
        width = 8 * (1 + bits.take(5)) if small else _number(bits)
    plain = bits.take(1)
    turn = 1 + bits.take(3) if not plain and bits.take(1) else 1
    return (height, width) if turn >= 5 else (width, height)


def _number(bits: _Bits) -> int:
    return 1 + bits.take(_BITS[bits.take(2)])


def _codestream(file: IO[bytes]) -> bytes:
    """The first bytes after the signature of the codestream."""
    head = file.read(12)
    if head.startswith(_BARE):
        return (head + file.read(20))[2:]
    if head != _BOXED:
        raise ValueError("no JPEG XL file")
    while len(box := file.read(8)) == 8:
        length, kind = int.from_bytes(box[:4], "big"), box[4:]
        inside = length - 8
        if length == 1:
            inside = int.from_bytes(file.read(8), "big") - 16
        if kind in {b"jxlc", b"jxlp"}:
            if kind == b"jxlp":
                file.read(4)  # the number of the piece
            data = file.read(32)
            if not data.startswith(_BARE):
                break
            return data[2:]
        if inside < 0 or length == 0:
            break
        file.seek(inside, 1)
    raise ValueError("the header is cut off")
