"""The step events of a training as typed records: most of a journal, read several times as fast.

A line that is just as a training writes it becomes a `Step`; every other line an event. What a `Step` says is
within bounds (finite, positive where it counts), so that many are folded at once without a look at each.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from loratui.runs.events import TAIL, Event, decode_sound, read_lines

_MARK = b'"kind":"step"'
_MARK_END = 96
_Count = Annotated[int, Meta(ge=0, le=2**53)]
_Number = Annotated[float, Meta(ge=-1e12, le=1e12)]
_Seconds = Annotated[float, Meta(ge=0, le=1e9)]
_Positive = Annotated[float, Meta(gt=0, le=1e12)]


class Times(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    """Seconds of the parts of a step; all four are there."""

    data: _Seconds
    compute: _Seconds
    optimizer: _Seconds
    io: _Seconds


class Step(msgspec.Struct, gc=False):
    """A step event with all that a training writes; see `loratui.train.loop`."""

    n: _Count
    t: _Positive
    a: _Count
    kind: Literal["step"]
    step: _Count
    epoch: _Count
    loss: _Number
    lr: dict[str, _Number]
    grad_norm: _Number
    step_s: _Positive
    images: _Positive
    times: Times


Record = Event | Step
"""What a line of a journal becomes."""
_decode_step = msgspec.json.Decoder(Step).decode


@dataclass(frozen=True, slots=True)
class Records:
    """What one read brought; see `events.Read`."""

    records: list[Record]
    offset: int
    bad_lines: int


def as_event(step: Step) -> Event:
    """The event that a step stands for."""
    event: Event = msgspec.structs.asdict(step)
    event["times"] = msgspec.structs.asdict(step.times)
    return event


def decode(lines: Iterable[bytes]) -> tuple[list[Record], int]:
    """The records of whole lines without their line breaks, and how many lines were not sound."""
    records: list[Record] = []
    keep, crc32, bad = records.append, zlib.crc32, 0
    for line in lines:
        if not line.endswith(b',"crc":"%08x"}' % crc32(line[:-TAIL])):  # as `sound`, without the call
            bad += 1
            continue
        if line.find(_MARK, 0, _MARK_END) >= 0:
            try:
                keep(_decode_step(line))
                continue
            except (msgspec.ValidationError, msgspec.DecodeError):
                pass  # of another version, or with a number that is none
        event = decode_sound(line)
        if event is None:
            bad += 1
        else:
            keep(event)
    return records, bad


def read_records(path: Path, offset: int = 0, max_bytes: int | None = None) -> Records:
    """The whole lines from byte `offset` on as records; bounded and torn as `events.read_events`."""
    data, end = read_lines(path, offset, max_bytes)
    if not end:
        return Records([], offset, 0)
    records, bad = decode(data[: end - 1].split(b"\n"))
    return Records(records, offset + end, bad)
