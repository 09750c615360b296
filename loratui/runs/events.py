"""The lines of events.jsonl: how one is written, and how whole ones are read back.

A line is a compact JSON object whose last member is the CRC of everything before it, so a reader slices the
line instead of serialising it again, and other tools still see plain JSON:

    {"n":17,"t":1790000000.123,"a":1,"kind":"step","step":5,"loss":0.1,"crc":"9a0b1c2d"}

`n` counts from 1, `t` is unix time, `a` the attempt. JSON has no NaN: non-finite numbers are the strings
"nan", "inf" and "-inf", and come back as numbers in the kinds that hold measurements.
"""

from __future__ import annotations

import math
import os
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

Event = dict[str, Any]
"""One event: n, t, a, kind and the fields of its kind."""

MEASUREMENTS = frozenset({"step", "memory", "validation", "scored"})
_CRC_MEMBER = b',"crc":"'
TAIL = len(_CRC_MEMBER) + 8 + 2
"""Bytes of the CRC member and the brace at the end of a line."""
NON_FINITE = {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}
"""How numbers that JSON does not have are written."""
_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(dict[str, Any])


@dataclass(frozen=True, slots=True)
class Read:
    """What one read brought.

    Attributes:
        events: whole, sound events in order.
        offset: byte after the last whole line; the next read begins there.
        bad_lines: whole lines among these that were not sound.
    """

    events: list[Event]
    offset: int
    bad_lines: int


def plain_json(value: Any) -> Any:
    """`value` as JSON can hold it: non-finite numbers and foreign scalars plain, odd text visible."""
    if isinstance(value, bool | int) or value is None:
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else str(float(value))
    if isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError:
            return value.encode("utf-8", "backslashreplace").decode()
        return str(value)
    if isinstance(value, dict):
        return {plain_json(str(k)): plain_json(v) for k, v in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain_json(v) for v in value]
    if hasattr(value, "item"):  # a numpy or torch scalar
        return plain_json(value.item())
    return plain_json(str(value))


def with_non_finite(value: Any) -> Any:
    """The strings that stand for non-finite numbers as numbers again, at any depth."""
    if isinstance(value, str):
        return NON_FINITE.get(value, value)
    if isinstance(value, dict):
        return {k: with_non_finite(v) for k, v in value.items()}
    if isinstance(value, list):
        return [with_non_finite(v) for v in value]
    return value


def encode_line(event: Event) -> bytes:
    """The line of `event`, with its CRC and the line break."""
    body = _encoder.encode(plain_json(event))[:-1]
    return b'%b%b%08x"}\n' % (body, _CRC_MEMBER, zlib.crc32(body))


def sound(line: bytes) -> bool:
    """Whether the CRC at the end of a line is that of what stands before it."""
    return line.endswith(b',"crc":"%08x"}' % zlib.crc32(line[:-TAIL]))


def decode_line(line: bytes) -> Event | None:
    """The event of a line without its line break, or None when the line is not sound."""
    return decode_sound(line) if sound(line) else None


def decode_sound(line: bytes) -> Event | None:
    """The event of a line whose CRC was looked at, or None when it is no event all the same."""
    try:
        event = _decoder.decode(line)
    except msgspec.DecodeError:
        return None
    kind = event.get("kind")
    if not isinstance(kind, str):
        return None
    del event["crc"]
    if kind in MEASUREMENTS and (b'"nan"' in line or b'inf"' in line):
        return {k: with_non_finite(v) for k, v in event.items()}
    return event


def read_events(path: Path, offset: int = 0, max_bytes: int | None = None) -> Read:
    """The whole lines from byte `offset` on; a missing file has none.

    A last line without its line break is left for the next read: either it is being written, or the next
    writer takes it away. `max_bytes` bounds one read (a longer line is still read whole).
    """
    data, end = read_lines(path, offset, max_bytes)
    if not end:
        return Read([], offset, 0)
    lines = data[: end - 1].split(b"\n")
    events = [event for line in lines if (event := decode_line(line)) is not None]
    return Read(events, offset + end, len(lines) - len(events))


def read_lines(path: Path, offset: int = 0, max_bytes: int | None = None) -> tuple[bytes, int]:
    """The bytes from `offset` on, and how many of them are whole lines; see `read_events`."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return b"", 0
    try:
        size = os.fstat(fd).st_size
        want = size - offset if max_bytes is None else min(size - offset, max_bytes)
        data = _pread(fd, want, offset)
        while b"\n" not in data and (
            more := _pread(fd, min(want, size - offset - len(data)), offset + len(data))
        ):
            data += more
    finally:
        os.close(fd)
    return data, data.rfind(b"\n") + 1


def _pread(fd: int, count: int, offset: int) -> bytes:
    """`count` bytes at `offset`, fewer only at the end of the file."""
    parts = []
    while count > 0 and (part := os.pread(fd, count, offset)):
        parts.append(part)
        count -= len(part)
        offset += len(part)
    return b"".join(parts)
