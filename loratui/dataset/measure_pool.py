"""Quality figures, hashes and thumbnails of many pictures, by worker processes that may be killed.

A worker that takes longer than the limit for one file is killed and replaced; one that dies is replaced; the
file is named with the reason and the rest goes on.
"""

from __future__ import annotations

import json
import os
import queue
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Generator, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from loratui.config.colours import WHITE, Paper
from loratui.dataset.quality import Quality

SECONDS = 10.0
MEMORY = 1024**3


@dataclass(frozen=True, slots=True)
class Measured:
    """What became of one picture.

    Attributes:
        path: the picture.
        quality: its figures, None when it could not be decoded.
        phash: its perceptual hash.
        error: why it could not be decoded, empty otherwise.
        code: short name of the error.
        face: the largest face in fractions of the picture, empty when there is none; None unless asked for.
    """

    path: Path
    quality: Quality | None = None
    phash: int = 0
    error: str = ""
    code: str = ""
    face: tuple[float, ...] | None = None


@dataclass(frozen=True, slots=True)
class Work:
    """A picture to measure.

    Attributes:
        path: the picture.
        thumb: where its thumbnail goes, None for no thumbnail.
        paper: shows through it.
        face: look for its largest face, and for nothing else.
    """

    path: Path
    thumb: Path | None = None
    paper: Paper = WHITE
    face: bool = False


def default_workers() -> int:
    """One core is left for the app."""
    cores = len(os.sched_getaffinity(0))
    return max(1, min(8, cores - 1))


def measure_all(
    work: Iterable[Work], workers: int = 0, seconds: float = SECONDS, memory: int = MEMORY
) -> Generator[Measured, None, None]:
    """Figures of pictures as they are ready, in any order; closing the generator ends the workers.

    Args:
        work: the pictures, asked for one by one, from other threads, as they are measured.
        workers: processes; 0 for one less than there are cores.
        seconds: a file may take so long.
        memory: bytes of address space a worker may take; 0 for no limit.
    """
    todo, asking = iter(work), threading.Lock()
    done: queue.SimpleQueue[Measured | None] = queue.SimpleQueue()
    stop = threading.Event()

    def run() -> None:
        worker = Worker(seconds, memory, stop)
        try:
            while not stop.is_set():
                with asking:
                    item = next(todo, None)
                if item is None:
                    return
                done.put(worker.measure(item))
        finally:
            worker.close()
            done.put(None)

    threads = [threading.Thread(target=run, daemon=True) for _ in range(workers or default_workers())]
    for thread in threads:
        thread.start()
    try:
        for _ in threads:
            while (found := done.get()) is not None:
                yield found
    finally:
        stop.set()
        for thread in threads:
            thread.join()


class Worker:
    """One process, started when it is needed; used by one thread at a time."""

    def __init__(self, seconds: float, memory: int, stop: threading.Event) -> None:
        self.seconds = seconds
        self.memory = memory
        self.stop = stop
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> subprocess.Popen[bytes]:
        env = {**os.environ, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
        env["OPENCV_FOR_THREADS_NUM"] = "1"
        env["PYTHONPATH"] = os.pathsep.join(p for p in sys.path if p)
        command = [sys.executable, "-m", "loratui.dataset.measure_worker", str(self.memory)]
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=env,
            start_new_session=True,
            bufsize=0,
        )
        self._ask(self.process, Work(Path("/")), 60.0)  # until it has loaded its decoders
        return self.process

    def measure(self, work: Work) -> Measured:
        """Figures of one picture, and its thumbnail where one is wanted."""
        try:
            process = self.process or self.start()
            raw = self._ask(process, work, self.seconds)
        except OSError as error:  # no process could be started: no room, no right to, too many
            self.close(kill=True)
            why = error.strerror or str(error)
            return Measured(work.path, error=f"needs a process to decode it: {why}", code="no-worker")
        except _Slow:
            self.close(kill=True)
            return Measured(
                work.path, error=f"took longer than {self.seconds:.0f} s to decode", code="too-slow"
            )
        except _Dead:
            process_gone = self.process
            self.close(kill=True)
            number = -(process_gone.returncode or 0) if process_gone is not None else 0
            how = signal.Signals(number).name if number in set(signal.Signals) else "no answer"
            return Measured(work.path, error=f"ended its decoder ({how})", code="crashed-decoder")
        if "face" in raw:
            return Measured(work.path, face=tuple(float(x) for x in raw["face"]))
        if "figures" not in raw:
            return Measured(
                work.path, error=str(raw.get("error", "")), code=str(raw.get("code", "corrupt-image"))
            )
        figures = dict(raw["figures"])
        phash = int(figures.pop("phash"))
        return Measured(work.path, Quality(**figures), phash)

    def _ask(self, process: subprocess.Popen[bytes], work: Work, seconds: float) -> dict[str, Any]:
        assert process.stdin is not None and process.stdout is not None
        request = {
            "path": os.fsencode(work.path).hex(),
            "thumb": os.fsencode(work.thumb).hex() if work.thumb else "",
            "paper": work.paper,
            "face": work.face,
        }
        deadline = time.monotonic() + seconds
        try:
            process.stdin.write(json.dumps(request).encode() + b"\n")
        except OSError:
            raise _Dead from None
        answer = bytearray()
        poll = select.poll()
        poll.register(process.stdout, select.POLLIN)
        while not answer.endswith(b"\n"):
            left = deadline - time.monotonic()
            if left <= 0 or self.stop.is_set():
                raise _Slow
            if poll.poll(min(left, 0.2) * 1000):
                chunk = os.read(process.stdout.fileno(), 65536)
                if not chunk:
                    raise _Dead
                answer += chunk
        found = json.loads(answer)
        return found if isinstance(found, dict) else {}

    def close(self, kill: bool = False) -> None:
        """End the process and wait for it."""
        process, self.process = self.process, None
        if process is None:
            return
        if kill or self.stop.is_set():
            process.kill()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                pipe.close()
        try:
            process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


class _Slow(Exception):
    """No answer in time."""


class _Dead(Exception):
    """The worker ended."""
