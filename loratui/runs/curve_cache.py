"""The curves of a run kept between two looks, in the user's cache: never in the run directory.

A cache says how many bytes of the journal it stands for and how they end, as status.json does; one that does
not fit is left unused, and the journal is read again.
"""

from __future__ import annotations

import hashlib
import os
import threading
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import msgspec

from loratui.files import replace_file
from loratui.paths import cache_dir
from loratui.runs.curves import Curves
from loratui.runs.directory import RunDir
from loratui.runs.events import decode_line, read_lines
from loratui.runs.snapshot import ending

FORMAT = 2
"""Raised when curves come to mean something else."""
PIECE = 1 << 19
WORTH = 1 << 20
"""Bytes read beyond a cache that are worth a new one."""
AGAIN_S = 30.0
"""The cache of a run that is watched is not written more often."""
_KEPT = 48
_LARGEST_TAIL = 8 << 20
_LEFT_S = 3600.0


class _Kept(msgspec.Struct):
    """A cache as it lies on the disk.

    Attributes:
        format: see `FORMAT`.
        upto: bytes of the journal that the curves stand for.
        end: how those bytes end.
        crc: of `curves`.
        curves: packed.
    """

    format: int
    upto: Annotated[int, msgspec.Meta(ge=0, le=2**53)]
    end: str
    crc: int
    curves: bytes


_decoder = msgspec.msgpack.Decoder(_Kept)


def place(run: RunDir) -> Path:
    """Where the cache of a run lies."""
    name = hashlib.sha256(os.fsencode(run.path.resolve())).hexdigest()[:24]
    return cache_dir() / "curves" / f"{name}.bin"


def load(run: RunDir) -> tuple[Curves, int] | None:
    """The curves up to a byte of the journal, or None when nothing is kept that fits."""
    kept = _fitting(run)
    try:
        return (Curves.unpacked(msgspec.msgpack.decode(kept.curves)), kept.upto) if kept is not None else None
    except (ValueError, KeyError, TypeError, msgspec.DecodeError):
        return None


def _fitting(run: RunDir) -> _Kept | None:
    """What is kept, when it is whole and of this journal."""
    try:
        kept = _decoder.decode(place(run).read_bytes())
        fits = kept.format == FORMAT and kept.end == ending(run.events_path, kept.upto)
        return kept if fits and kept.crc == zlib.crc32(kept.curves) else None
    except (OSError, msgspec.DecodeError):
        return None


def save(run: RunDir, curves: Curves, offset: int) -> None:
    """Keep `curves`, which stand for the journal's first `offset` bytes; a disk that refuses is no matter.

    What somebody else has kept meanwhile and reaches as far stays.
    """
    path = place(run)
    try:
        there = _fitting(run)
        if there is not None and there.upto >= offset:
            return
        packed = msgspec.msgpack.encode(curves.packed())
        end = ending(run.events_path, offset)
        path.parent.mkdir(parents=True, exist_ok=True)
        made = _Kept(FORMAT, offset, end, zlib.crc32(packed), packed)
        replace_file(path, msgspec.msgpack.encode(made))
        _sweep(path.parent)
    except OSError:
        return


def _sweep(folder: Path) -> None:
    """Remove the oldest caches, and what was left by those that were killed while they wrote."""
    ages = {path: path.stat().st_mtime for path in folder.iterdir()}
    kept = sorted((path for path in ages if path.suffix == ".bin"), key=ages.__getitem__, reverse=True)
    left = [p for p, at in ages.items() if p.suffix == ".tmp" and time.time() - at > _LEFT_S]
    for old in (*kept[_KEPT:], *left):
        old.unlink(missing_ok=True)


def renew(run: RunDir, between: Callable[[int], bool] = lambda at: True) -> int:
    """Bring what is kept up to the journal's end, where there is enough beyond it.

    Args:
        run: the run.
        between: called with the byte reached after each piece; False stops, and nothing is written.

    Returns:
        The byte that what is kept reaches to.
    """
    curves, before = load(run) or (Curves(), 0)
    goes_on = True

    def piece(at: int) -> bool:
        nonlocal goes_on
        goes_on = between(at)
        return goes_on

    _, offset = read(run, curves, before, between=piece)
    if not goes_on or offset - before <= WORTH:
        return before
    save(run, curves, offset)
    return offset


class Keeper:
    """Renews what is kept of a run while somebody watches it, so that who looks next reads little.

    Reading, and a slow disk, would hold up whoever follows the run: it is done in a thread of its own.
    Several may keep the same run: each goes on from what the others kept.

    Args:
        run: the run.
        reached: byte that what is kept reaches to.
        cancelled: whether to leave off.
    """

    def __init__(self, run: RunDir, reached: int, cancelled: Callable[[], bool]) -> None:
        self.run = run
        self._reached = reached
        self._cancelled = cancelled
        self._tried_at = time.monotonic()
        self._thread: threading.Thread | None = None

    def look(self, offset: int) -> None:
        """Renew when it is time; `offset` is how far the journal was read."""
        if offset < self._reached:  # another journal lies there now
            self._reached = 0
        due = offset - self._reached > WORTH and time.monotonic() - self._tried_at >= AGAIN_S
        if due and (self._thread is None or not self._thread.is_alive()):
            self._tried_at = time.monotonic()
            self._thread = threading.Thread(target=self._renew, name="curves", daemon=True)
            self._thread.start()

    def close(self) -> None:
        """Wait a moment for the thread, which is to be cancelled by now."""
        if self._thread is not None:
            self._thread.join(1.0)

    def _renew(self) -> None:
        def between(_at: int) -> bool:
            time.sleep(0.0005)  # the keys get their turn
            return not self._cancelled()

        try:
            self._reached = renew(self.run, between)
        except OSError:  # a disk that went away: tried again
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
