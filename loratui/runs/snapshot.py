"""status.json: a cache of the folded journal and the writer's heartbeat. No fact lives only here.

It says how many bytes of the journal it stands for and how they end, so a reader goes on from there, and
folds from the beginning when the journal is another one.
"""

from __future__ import annotations

import contextlib
import mmap
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from loratui.runs.directory import RunDir
from loratui.runs.events import read_lines
from loratui.runs.fold import fold, from_status, memo_to_json, to_status
from loratui.runs.state import RunState
from loratui.runs.steps import Record, Step, decode, read_records

FORMAT = 2
"""Raised when `fold` comes to mean something else: caches of another format are not used."""
_MARK = 18
_PIECE = 1 << 19
_GLIMPSE = 1 << 16
_OPENED = b'"kind":"opened"'
_STATE = b'"kind":"state"'
_STEP = b'"kind":"step"'


@dataclass(slots=True)
class Folded:
    """A state and how far into the journal it reaches."""

    state: RunState = field(default_factory=RunState)
    offset: int = 0


def load(run: RunDir) -> Folded:
    """The fold of the whole journal, by way of the cache when it fits."""
    folded = cached(run) or Folded()
    return advance(run, folded)


def advance(run: RunDir, folded: Folded) -> Folded:
    """Fold what the journal has beyond `folded` into it."""
    while True:  # in pieces: a long journal as one list of events would fill the memory
        read = read_records(run.events_path, folded.offset, _PIECE)
        if read.offset == folded.offset:
            return folded
        fold(read.records, folded.state)
        folded.state.bad_lines += read.bad_lines
        folded.offset = read.offset


def glimpse(run: RunDir) -> RunState | None:
    """What the newest attempt's first events and the journal's last ones tell: at once, however long it is.

    Lists are of these events alone, and the best loss is not known. None when there is nothing to see.
    """
    with contextlib.suppress(OSError, ValueError), run.events_path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as text:
            begun = max(0, text.rfind(b"\n", 0, max(0, text.rfind(_OPENED))) + 1)
            head = read_records(run.events_path, begun, _GLIMPSE)
            start = max(head.offset, size - 4 * _GLIMPSE)
            between = [_last(text, kind, head.offset, start) for kind in (_STATE, _STEP)]
        state = fold(head.records, RunState(run_id=run.id))
        tail, whole = read_lines(run.events_path, start)
        lines = tail[: max(0, whole - 1)].split(b"\n")
        records = decode(lines[1:] if start > head.offset else lines)[0]
        if start > head.offset:
            _skip(state, decode([line for line in between if line])[0], records)
        fold(records, state)
        state.best_loss = None
        return state if state.events else None
    return None


def _last(text: mmap.mmap, kind: bytes, start: int, end: int) -> bytes:
    """The last whole line of a kind between two places, or nothing."""
    at = text.rfind(kind, start, end)
    if at < 0:
        return b""
    return text[text.rfind(b"\n", start, at) + 1 : max(at, text.find(b"\n", at))]


def _skip(state: RunState, left_out: list[Record], records: list[Record]) -> None:
    """Stand where `records` go on, by the last of what was left out; its steps cost no time of theirs."""
    fold([record for record in left_out if _step_of(record) is None], state)
    first = next((step for record in records if (step := _step_of(record)) is not None), None)
    at = first - 1 if first is not None else max((_step_of(r) or 0 for r in left_out), default=0)
    if at > state.step:
        state.step = at
        state.memo.clock_at = 0.0


def _step_of(record: Record) -> int | None:
    if isinstance(record, Step):
        return record.step
    step = record.get("step")
    return step if record.get("kind") == "step" and isinstance(step, int) else None


def cached(run: RunDir) -> Folded | None:
    """What status.json holds, or None when it does not fit the journal."""
    try:
        status = msgspec.json.decode(run.status_path.read_bytes())
        offset = status["events_bytes"]
        if status["format"] != FORMAT or status["events_end"] != ending(run.events_path, offset):
            return None
        return Folded(from_status(status), offset)
    except (OSError, ValueError, KeyError, TypeError, msgspec.DecodeError):
        return None


def ending(events_path: Path, offset: int) -> str:
    """The last bytes of the journal's first `offset` ones: they hold a CRC, so they tell journals apart."""
    if offset <= 0:
        return ""
    fd = os.open(events_path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        start = max(0, offset - _MARK)
        return os.pread(fd, offset - start, start).decode("utf-8", "replace")
    finally:
        os.close(fd)


def encode(state: RunState, offset: int, end: str, heartbeat: dict[str, Any]) -> bytes:
    """The text of status.json."""
    status = to_status(state)
    status |= {
        "format": FORMAT,
        "events_bytes": offset,
        "events_end": end,
        "heartbeat": heartbeat,
        "memo": memo_to_json(state),
    }
    return msgspec.json.encode(status) + b"\n"
