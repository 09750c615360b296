"""Damaged pictures and bombs, made from a seed, and what the measuring of them must hold to."""

from __future__ import annotations

import io
import random
import struct
import threading
import time
import zlib
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image

from loratui.dataset.headers import header_size
from loratui.dataset.measure_pool import MEMORY, SECONDS, Work, Worker
from loratui.errors import DatasetError

FORMATS = {"JPEG": ".jpg", "PNG": ".png", "WEBP": ".webp", "GIF": ".gif", "BMP": ".bmp", "TIFF": ".tif"}


def whole(kind: str, seed: int) -> bytes:
    """A real picture."""
    pixels = np.random.default_rng(seed).integers(0, 256, (40, 48, 3), dtype=np.uint8)
    out = io.BytesIO()
    Image.fromarray(pixels).resize((96, 80)).save(out, kind)
    return out.getvalue()


def mutated(data: bytes, rng: random.Random) -> bytes:
    """Bytes flipped, cut off, doubled, dropped, overwritten, or the head of another."""
    raw = bytearray(data)
    how = rng.randrange(6)
    at = rng.randrange(len(raw))
    if how == 0:
        for _ in range(rng.randint(1, 40)):
            raw[rng.randrange(len(raw))] ^= 1 << rng.randrange(8)
    elif how == 1:
        del raw[at:]
    elif how == 2:
        raw[at:at] = raw[at : at + rng.randint(1, 200)]
    elif how == 3:
        del raw[at : at + rng.randint(1, 200)]
    elif how == 4:
        raw[at : at + 8] = rng.randbytes(8)
    else:
        head = rng.randrange(4, 64)
        raw[:head] = rng.randbytes(head)
    return bytes(raw)


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png_bomb(width: int, height: int, bits: int = 8, kind: int = 2) -> bytes:
    """A PNG of zeros that says it is huge."""
    line = zlib.compressobj(9)
    row = b"\0" * (1 + (width * {0: 1, 2: 3, 6: 4}[kind] * bits + 7) // 8)
    body = (
        b"".join(line.compress(row) for _ in range(min(height, 60_000_000 // max(1, len(row)))))
        + line.flush()
    )
    head = struct.pack(">IIBBBBB", width, height, bits, kind, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", head) + _chunk(b"IDAT", body) + _chunk(b"IEND", b"")


def _resized(kind: str, size: tuple[int, int]) -> bytes:
    """A small picture whose header says another size."""
    data = bytearray(whole(kind, 1))
    if kind == "JPEG":
        at = data.index(b"\xff\xc0") + 5
        data[at : at + 4] = struct.pack(">HH", *size)
    elif kind == "GIF":
        data[6:10] = struct.pack("<HH", *size)
    else:
        data[18:26] = struct.pack("<ii", *size)
    return bytes(data)


def bombs() -> dict[str, bytes]:
    """Twenty files that are small on the disk and say, or are, much more."""
    sides = (12_000, 17_000, 30_000, 65_000, 2**31 - 1)
    out = {f"png-{side}.png": png_bomb(side, side) for side in sides}
    out |= {f"deep-{side}.png": png_bomb(side, side, 16, 6) for side in (9_000, 16_000, 30_000)}
    out |= {f"long-{side}.png": png_bomb(side, 1, 8, 0) for side in (10_000_000, 299_000_000)}
    out |= {f"tall-{side}.png": png_bomb(1, side, 8, 0) for side in (10_000_000, 299_000_000)}
    out |= {f"jpeg-{side}.jpg": _resized("JPEG", (side, side)) for side in (16_000, 40_000, 65_500)}
    out |= {f"gif-{side}.gif": _resized("GIF", (side, side)) for side in (16_000, 65_000)}
    out |= {f"bmp-{side}.bmp": _resized("BMP", (side, side)) for side in (12_000, 17_000, 40_000)}
    return out


@dataclass
class Report:
    """What became of hostile files.

    Attributes:
        found: how many were measured, and how many refused by code.
        peak_bytes: most that a worker held in memory (`VmHWM`), of those that lived to be asked.
        slowest_s: longest that one file took, its killed worker included.
        killed: workers that were gone or had to be killed, whose peak only `RLIMIT_AS` bounds.
    """

    found: Counter[str] = field(default_factory=Counter)
    peak_bytes: int = 0
    slowest_s: float = 0.0
    killed: int = 0


def peak_bytes(pid: int) -> int:
    """The most memory a process has held so far."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(next(x for x in status.splitlines() if x.startswith("VmHWM")).split()[1]) * 1024


def measured(files: list[Path]) -> Report:
    """Each file by a worker of the pool, which is watched: how much it holds, how long it takes."""
    report = Report()
    worker = Worker(SECONDS, MEMORY, threading.Event())
    try:
        worker.start()
        for path in files:
            start = time.perf_counter()
            one = worker.measure(Work(path))
            report.slowest_s = max(report.slowest_s, time.perf_counter() - start)
            assert one.path == path
            assert one.quality is not None or (one.error and one.code), f"{path.name}: refused, no reason"
            report.found[one.code or "measured"] += 1
            if worker.process is None:
                report.killed += 1
                worker.start()
            else:
                report.peak_bytes = max(report.peak_bytes, peak_bytes(worker.process.pid))
    finally:
        worker.close(kill=True)
    return report


def campaign(folder: Path, mutants: int, some_bombs: int, seed: int) -> Report:
    """Measure damaged files and bombs; each is measured or named with a reason, by its header too."""
    rng = random.Random(seed)
    names = list(FORMATS)
    originals = {kind: [whole(kind, i) for i in range(4)] for kind in names}
    files: list[Path] = []
    for number in range(mutants):
        kind = names[number % len(names)]
        path = folder / f"{number:05}{FORMATS[kind]}"
        path.write_bytes(mutated(rng.choice(originals[kind]), rng))
        files.append(path)
    for name, data in list(bombs().items())[:some_bombs] if some_bombs else ():
        (folder / name).write_bytes(data)
        files.append(folder / name)
    for path in files:
        try:
            (width, height), frames = header_size(path)
            assert width > 0 and height > 0 and frames >= 1, path
        except DatasetError as error:
            assert error.message, path
    assert SECONDS <= 10 and MEMORY <= 1024**3
    return measured(files)
