"""The curves of a run kept between two looks, in the user's cache: never in the run directory.

A cache says how many bytes of the journal it stands for and how they end, as status.json does; one that does
not fit is left unused, and the journal is read again.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable
from pathlib import Path

import msgspec

from loratui.paths import cache_dir
from loratui.runs.curves import Curves
from loratui.runs.directory import RunDir
from loratui.runs.events import decode_line, read_lines
from loratui.runs.snapshot import ending, replace_file

FORMAT = 1
"""Raised when curves come to mean something else."""
PIECE = 1 << 19
WORTH = 1 << 20
"""Bytes read beyond a cache that are worth a new one."""
_KEPT = 48
_LARGEST_TAIL = 8 << 20


def place(run: RunDir) -> Path:
    """Where the cache of a run lies."""
    name = hashlib.sha256(os.fsencode(run.path.resolve())).hexdigest()[:24]
    return cache_dir() / "curves" / f"{name}.bin"


def load(run: RunDir) -> tuple[Curves, int] | None:
    """The curves up to a byte of the journal, or None when nothing is kept that fits."""
    try:
        made = msgspec.msgpack.decode(place(run).read_bytes())
        offset = made["bytes"]
        if made["format"] != FORMAT or made["end"] != ending(run.events_path, offset):
            return None
        return Curves.unpacked(made["curves"]), offset
    except (OSError, ValueError, KeyError, TypeError, msgspec.DecodeError):
        return None


def save(run: RunDir, curves: Curves, offset: int) -> None:
    """Keep `curves`, which stand for the journal's first `offset` bytes; a disk that refuses is no matter."""
    path = place(run)
    try:
        made = {
            "format": FORMAT,
            "bytes": offset,
            "end": ending(run.events_path, offset),
            "curves": curves.packed(),
        }
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_file(path, msgspec.msgpack.encode(made))
        kept = sorted(path.parent.glob("*.bin"), key=lambda p: p.stat().st_mtime, reverse=True)
        for old in kept[_KEPT:]:
            old.unlink(missing_ok=True)
    except OSError:
        return


def read(
    run: RunDir,
    curves: Curves,
    offset: int,
    end: int | None = None,
    between: Callable[[int], bool] = lambda at: True,
) -> tuple[Curves, int]:
    """Read the journal from `offset` on into `curves`, in pieces.

    Args:
        run: the run.
        curves: changed.
        offset: byte that they reach to.
        end: byte to stop at; the end of the journal when None.
        between: called with the byte reached after each piece; False stops.

    Returns:
        The curves and the byte they reach to now.
    """
    while end is None or offset < end:
        data, whole = read_lines(run.events_path, offset, PIECE if end is None else min(PIECE, end - offset))
        if not whole:
            break
        curves.read(data[: whole - 1].split(b"\n"))
        offset += whole
        if not between(offset):
            break
    return curves, offset


def newest(run: RunDir, end: int, seconds: float) -> Curves:
    """The curves of the last `seconds` before byte `end` alone, found from there backwards.

    At most the last 8 MiB are looked at: what is shown first must not wait.
    """
    reach = PIECE
    while True:
        start = max(0, end - reach)
        data, whole = read_lines(run.events_path, start, end - start)
        lines = data[: max(0, whole - 1)].split(b"\n")
        if start:
            lines = lines[1:]  # its beginning was cut off
        first = next((e for line in lines if (e := decode_line(line)) is not None), None)
        last = next((e for line in reversed(lines) if (e := decode_line(line)) is not None), None)
        if start == 0 or reach >= _LARGEST_TAIL:
            break
        if first is not None and last is not None and _time(last) - _time(first) >= seconds:
            break
        reach *= 4
    curves = Curves()
    curves.partial = True
    if first is not None and isinstance(first.get("a"), int):
        curves.attempt = first["a"]
    curves.read(lines)
    return curves


def _time(event: dict[str, object]) -> float:
    at = event.get("t")
    return float(at) if isinstance(at, int | float) else time.time()
