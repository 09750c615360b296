"""What the short and the long kill test share: a project of odd captions, and one round of killing."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

from loratui.project.history import History

CHILD = Path(__file__).with_name("kill_history.py")


def make(root: Path, count: int) -> dict[str, bytes | None]:
    """`count` pictures (empty files) with captions of all encodings and line ends, some missing."""
    styles: list[bytes | None] = [
        b"sks, cat %d\n",
        "sks, caf\xe9 %d".encode("cp1252"),
        b"\xef\xbb\xbfsks %d\r\n",
        None,
        b"one %d\rtwo\r",
        b"long " * 300 + b"%d",
    ]
    out: dict[str, bytes | None] = {}
    for i in range(count):
        style = styles[i % len(styles)]
        (root / f"{i:05}.png").touch()
        name = f"{i:05}.txt"
        out[name] = None if style is None else style % i
        if style is not None:
            (root / name).write_bytes(style % i)
    return out


def read(root: Path, names: dict[str, bytes | None]) -> dict[str, bytes | None]:
    """Captions as they are now."""
    return {n: (root / n).read_bytes() if (root / n).exists() else None for n in names}


def environment() -> dict[str, str]:
    """The child finds the package where this process does."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}


def one_kill(
    root: Path, start: dict[str, bytes | None], mark: str, delay: float, resume: bool, after: int = 0
) -> str:
    """Kill a batch after `delay` seconds, or once `after` hundreds of files are replaced; then check all.

    Every file is old or new; recovered, the batch is whole or gone; undone, each byte is back.

    Returns:
        Where the kill struck: before, ahead (nothing ready yet), middle, end or done.
    """
    command = [sys.executable, str(CHILD), str(root), mark]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment())
    assert child.stdout is not None
    assert child.stdout.readline() == "go\n"
    for _ in range(after):
        child.stdout.readline()
    time.sleep(0.0 if after else delay)
    child.send_signal(signal.SIGKILL)
    finished = "done" in child.stdout.read()
    child.wait()
    full = {name: (data or b"new") + mark.encode() for name, data in start.items()}
    now = read(root, start)
    wrong = [n for n in start if now[n] not in (start[n], full[n])]
    assert not wrong, f"neither old nor new: {wrong[:3]}"
    counts = Counter("new" if now[n] == full[n] else "old" for n in start)
    history = History(root)
    pending = history.pending()
    outcomes = history.recover(resume=resume)
    assert not any(o.conflicts or o.left for o in outcomes)
    if not pending:
        assert counts["new"] in (0, len(start)), "half a batch without a trace in the history"
    after = read(root, start)
    whole = full if (resume if pending else counts["new"]) else start
    assert after == whole, "the batch is neither whole nor gone"
    if whole is full:
        outcome = history.undo()
        assert not outcome.conflicts and not outcome.left
    assert read(root, start) == start, "undo did not bring every byte back"
    assert not [p for p in root.iterdir() if p.suffix == ".tmp"], "temporary files stay"
    assert not history.pending()
    if finished:
        return "done"
    if pending:
        return "middle" if 0 < counts["new"] < len(start) else "end" if counts["new"] else "ahead, ready"
    return "done" if counts["new"] else "ahead"


def whole_batch_s(root: Path, start: dict[str, bytes | None]) -> float:
    """Seconds a batch takes when nobody kills it; it is undone again."""
    command = [sys.executable, str(CHILD), str(root), ",timed"]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment())
    assert child.stdout is not None
    assert child.stdout.readline() == "go\n"
    begin = time.perf_counter()
    while not child.stdout.readline().startswith("done"):
        assert child.poll() in (None, 0)
    took = time.perf_counter() - begin
    child.wait()
    History(root).undo()
    assert read(root, start) == start
    return took


def campaign(root: Path, kills: int, count: int, seed: int) -> Counter[str]:
    """`kills` rounds at random moments of a batch over `count` files; where they struck."""
    rng = random.Random(seed)
    start = make(root, count)
    whole = whole_batch_s(root, start)
    struck: Counter[str] = Counter()
    for i in range(kills):
        after = rng.randrange(1, count // 100) if i % 2 else 0  # every other one among the replacing itself
        delay = rng.uniform(0.0, 1.05 * whole)
        struck[one_kill(root, start, f",mark {i}", delay, resume=i % 3 != 0, after=after)] += 1
    return struck
