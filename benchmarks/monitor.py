"""The monitor over a pty: recorded runs of many events, a live one, and what both cost.

    python benchmarks/monitor.py [--events 100,100000,1000000] [--part open,live,keys,memory] [--json]

open: seconds from the spawn of the app until a recorded run's state and numbers, its last minutes and its
whole curve are on the screen, with the cache of curves and without, and without status.json.
live: a run that writes 10 events a second: share of a core the app takes; bytes to the terminal at 2 steps a
second. keys: key to paint while a run is live. memory: how much the app grows over many live events.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from pty_probe import PtyProgram  # noqa: E402

from loratui.runs import snapshot  # noqa: E402
from loratui.runs.directory import RunDir  # noqa: E402
from loratui.runs.events import encode_line  # noqa: E402
from loratui.runs.liveness import process_identity  # noqa: E402

STEP_S = 0.2
KEYS = ("left", "left", "right", "L", "L", "w", "w", "t", "t", "t", "v", "q", "z", "z")
"""Each changes what is seen; escape would be timed with the wait for what may follow it."""


class Recorder:
    """Writes the journal of a run whose process is ours to choose."""

    def __init__(self, root: Path, name: str, steps: int, now: float) -> None:
        self.run = RunDir(root / "runs" / f"20260101-000000-{name}")
        self.run.path.mkdir(parents=True)
        self.dice, self.n, self.now, self.step, self.steps = random.Random(3), 0, now, 0, steps
        self.pending: list[bytes] = []
        self.folded = snapshot.Folded()
        self.add(
            "opened", run_id=self.run.id, job="train", name=name, base="demo", preset="demo", family="sd15",
            attempt=1, from_step=0, steps=steps, epochs=10, prompts=["x"], version="0",
        )  # fmt: skip

    def add(self, kind: str, **fields: Any) -> None:
        """One event, kept until `flush`."""
        self.n += 1
        self.pending.append(
            encode_line({"n": self.n, "t": round(self.now, 3), "a": 1, "kind": kind, **fields})
        )

    def train(self, live: bool = False) -> None:
        """One step, with memory and quarters now and then."""
        self.step += 1
        self.now = time.time() if live else self.now + STEP_S
        loss = 0.05 + 1 / (self.step + 5) + 0.03 * self.dice.random()
        self.add(
            "step", step=self.step, epoch=1 + self.step * 10 // (self.steps + 1), loss=round(loss, 6),
            lr={"unet": 1e-4, "text": 1e-5}, grad_norm=round(0.3 + 0.1 * self.dice.random(), 4),
            step_s=STEP_S, images=4, times={"data": 0.004, "compute": 0.18, "optimizer": 0.012, "io": 0.004},
        )  # fmt: skip
        if self.step % 50 == 0:
            self.add("quarters", step=self.step, loss=[0.02, 0.05, 0.09, 0.2], count=[50] * 4)
        if self.step % 10 == 0:
            self.add("memory", device="cpu", rss_gib=1.6, peak_gib=1.8)

    def flush(self) -> None:
        """Append what waits."""
        with self.run.events_path.open("ab") as file:
            file.write(b"".join(self.pending))
        self.pending.clear()

    def status(self) -> None:
        """Leave a status.json, as the journal of a job does."""
        folded = self.folded = snapshot.advance(self.run, self.folded)
        end = snapshot.ending(self.run.events_path, folded.offset)
        self.run.status_path.write_bytes(snapshot.encode(folded.state, folded.offset, end, {}))


def recorded(root: Path, events: int) -> Recorder:
    """A finished run of about so many events."""
    out = Recorder(root, f"of-{events}", int(events / 1.12), 1_767_000_000.0)
    while out.n < events - 1:
        out.train()
        if len(out.pending) > 20_000:
            out.flush()
    out.add("state", state="finished")
    out.flush()
    out.status()
    return out


def project(folder: Path) -> Path:
    """An empty project."""
    root = folder / "bench"
    (root / "dataset").mkdir(parents=True)
    text = '[project]\nname = "bench"\nbase = "demo"\n\n[[sources]]\npath = "dataset"\n'
    (root / "loratui.toml").write_text(text)
    return root


def environment(folder: Path) -> dict[str, str]:
    """Settings, state and caches of the benchmark's own."""
    return {
        "PYTHONPATH": str(ROOT), "PATH": os.environ["PATH"], "LORATUI_STATE": str(folder / "state"),
        "LORATUI_CONFIG": str(folder / "config"), "LORATUI_CACHE": str(folder / "cache"),
    }  # fmt: skip


class Seen:
    """The terminal's screen, fed as it grows."""

    def __init__(self, program: PtyProgram) -> None:
        self.program = program

    def until(self, test: Callable[[str], bool], timeout: float = 60.0) -> float | None:
        """Seconds since the spawn until the screen passes; looked at after each piece of output."""
        end, size = time.perf_counter() + timeout, -1
        while time.perf_counter() < end:
            if len(self.program.raw) != size:
                size = len(self.program.raw)
                at = time.perf_counter() - self.program.t0
                if test("\n".join(self.program.screen())):
                    return at
            if self.program.pump(0.05) < 0:
                return None
        return None


def open_run(folder: Path, root: Path, out: Recorder) -> dict[str, Any]:
    """Spawn to state, to the last minutes, to the whole curve."""
    app = [sys.executable, "-c", _OPEN, str(root), str(out.run.path)]
    step = f"{out.step:,}"
    with PtyProgram(app, 120, 40, env=environment(folder), cwd=str(root)) as p:
        seen = Seen(p)
        state = seen.until(lambda s: "FINISHED" in s and step in s)
        minutes = seen.until(lambda s: any("\u2801" <= c <= "\u28ff" for c in s))
        whole = seen.until(lambda s: max(s) > "\u2801" and "reading all" not in s and "last 10" not in s)
        p.send(b"\x11")
        p.settle(0.3)
    return {"state_s": state, "minutes_s": minutes, "whole_s": whole}


_OPEN = """
import sys
from pathlib import Path
from loratui.ui.app import LoratuiApp
LoratuiApp(Path(sys.argv[1]), open_run=sys.argv[2]).run()
"""


def opening(folder: Path, root: Path, counts: list[int]) -> dict[str, Any]:
    """Each count without a cache, with it, and without status.json."""
    result: dict[str, Any] = {}
    blank = recorded(root, 60)
    open_run(folder, root, blank)  # warms the files of the interpreter
    for count in counts:
        out = recorded(root, count)
        shutil.rmtree(folder / "cache", ignore_errors=True)
        found = {"no_cache": open_run(folder, root, out), "cache": open_run(folder, root, out)}
        if count >= 100_000:
            out.run.status_path.unlink()
            shutil.rmtree(folder / "cache", ignore_errors=True)
            found["no_status_no_cache"] = open_run(folder, root, out)
        result[f"{count}"] = found
        shutil.rmtree(out.run.path)
    return result


class Live:
    """A run whose process is a sleeping one, and a thread that writes its steps."""

    def __init__(self, root: Path, name: str, before: int, steps: int) -> None:
        self.out = Recorder(root, name, steps, time.time() - before * STEP_S)
        self.job = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(3600)"])
        self.out.add("process", **process_identity(self.job.pid).as_dict(), device="cpu")
        self.out.add("state", state="running")
        for _ in range(before):
            self.out.train()
        self.out.flush()
        self.out.status()
        self._rate = 0.0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._write, daemon=True)
        self._thread.start()

    def at(self, steps_a_second: float) -> None:
        """Write so many steps a second from now on."""
        self._rate = steps_a_second

    def _write(self) -> None:
        while not self._over.wait(1 / self._rate if self._rate else 0.2):
            if self._rate:
                self.out.train(live=True)
                self.out.flush()

    def close(self) -> None:
        """End the writing and the process."""
        self._over.set()
        self._thread.join()
        self.job.kill()
        self.job.wait()


def living(folder: Path, root: Path, seconds: float) -> dict[str, Any]:
    """CPU at 10 events a second, bytes at 2 steps a second, keys while it is live."""
    live = Live(root, "live", 2000, 6000)
    app = [sys.executable, "-c", _OPEN, str(root), str(live.out.run.path)]
    result: dict[str, Any] = {}
    try:
        with PtyProgram(app, 120, 40, env=environment(folder), cwd=str(root)) as p:
            Seen(p).until(lambda s: "RUNNING" in s and "2,000" in s)
            p.listen(3.0)
            live.at(10 / 1.12)
            p.listen(2.0)
            before = p.cpu()
            p.listen(seconds)
            result["cpu_share_at_10_events"] = round((p.cpu() - before) / seconds, 4)
            live.at(2.0)
            p.listen(2.0)
            size = len(p.raw)
            p.listen(seconds)
            result["bytes_a_second_at_2_steps"] = round((len(p.raw) - size) / seconds)
            live.at(0.0)
            p.listen(2.0)
            before, size = p.cpu(), len(p.raw)
            p.listen(seconds)
            result["cpu_share_idle"] = round((p.cpu() - before) / seconds, 4)
            result["bytes_a_second_idle"] = round((len(p.raw) - size) / seconds)
            live.at(4.0)
            p.press("tab")  # the loss has the focus
            timed: dict[str, list[float]] = {}
            for turn in range(72):
                key = KEYS[turn % len(KEYS)]
                first = key_to_paint(p, key)
                if first is not None:
                    timed.setdefault(key, []).append(first)
            result["key_ms"] = {k: [round(1000 * min(v)), round(1000 * max(v))] for k, v in timed.items()}
            keys = sorted(first for each in timed.values() for first in each)
            result["keys"] = len(keys)
            result["key_p50_ms"] = round(1000 * keys[len(keys) // 2], 1)
            result["key_p95_ms"] = round(1000 * keys[int(0.95 * len(keys))], 1)
    finally:
        live.close()
        shutil.rmtree(live.out.run.path)
    return result


def key_to_paint(p: PtyProgram, key: str) -> float | None:
    """Seconds to the first byte, begun in a silence so that it is not a step that is painted."""
    for _ in range(200):
        if p.pump(0.06) == 0:
            break
    first, _, count = p.key(key, quiet=0.02)
    return first if count else None


def growth(folder: Path, root: Path, events: int, rate: float) -> dict[str, Any]:
    """MiB the app grows by while so many events come in."""
    live = Live(root, "grows", 2000, int(events / 1.12) + 4000)
    app = [sys.executable, "-c", _OPEN, str(root), str(live.out.run.path)]
    result: dict[str, Any] = {"events": events}
    try:
        with PtyProgram(app, 120, 40, env=environment(folder), cwd=str(root)) as p:
            Seen(p).until(lambda s: "RUNNING" in s and "2,000" in s)
            for _ in range(4000):
                live.out.train()
            live.out.flush()
            p.listen(6.0)
            start, first = time.perf_counter(), live.out.n
            result["rss_before_mib"] = round(p.rss(), 1)
            most = 0.0
            while live.out.n - first < events:
                for _ in range(int(rate * 0.25)):
                    live.out.train()
                live.out.flush()
                live.out.status()
                p.listen(0.25)
                most = max(most, p.rss())
            wanted = f"{live.out.step:,}"
            Seen(p).until(lambda s: wanted in s, 300.0)
            p.listen(3.0)
            result |= {
                "rss_after_mib": round(p.rss(), 1),
                "rss_most_mib": round(most, 1),
                "grew_mib": round(p.rss() - result["rss_before_mib"], 1),
                "took_s": round(time.perf_counter() - start, 1),
            }
    finally:
        live.close()
        shutil.rmtree(live.out.run.path)
    return result


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--events", default="100,100000,1000000", help="sizes of the recorded runs")
    parser.add_argument("--part", default="open,live,memory")
    parser.add_argument("--seconds", type=float, default=20.0, help="how long the live figures are taken")
    parser.add_argument("--live-events", type=int, default=1_000_000, help="events for the growth of memory")
    parser.add_argument("--rate", type=float, default=8000.0, help="steps a second while memory is measured")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    result: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        root = project(folder)
        if "open" in args.part:
            result["open"] = opening(folder, root, [int(n) for n in args.events.split(",")])
        if "live" in args.part:
            result["live"] = living(folder, root, args.seconds)
        if "memory" in args.part:
            result["memory"] = growth(folder, root, args.live_events, args.rate)
    print(json.dumps(result, indent=None if args.json else 1))


if __name__ == "__main__":
    main()
