"""The loop of a caption run: pictures decoded ahead in threads, batches that fit, answers handed on at once.

Torch-free: the captioners it is given hold the models. It knows memory errors by their names.
"""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from loratui.caption.results import Result
from loratui.captioners.protocol import Captioner, Said
from loratui.config.colours import WHITE, Paper
from loratui.dataset.baking import framed_picture
from loratui.dataset.framing import PLAIN, Frame
from loratui.errors import DatasetError, JobError

LARGEST_BATCH = 64
_AHEAD = 3
"""Batches of decoded pictures that wait for the model."""
_ROOM = 0.42
"""Share of the device's memory in use below which a batch may double."""


@dataclass(frozen=True, slots=True)
class Picture:
    """One picture of the run: its place in the manifest, where it lies, its name, its turn and crop, and what
    shows through its transparent pixels."""

    index: int
    path: Path
    rel: str
    frame: Frame = PLAIN
    paper: Paper = WHITE


@dataclass(slots=True)
class _Ready:
    """A decoded picture: what each captioner made of it, or why it could not be read."""

    picture: Picture
    prepared: dict[str, Any] = field(default_factory=dict)
    problem: str = ""


@dataclass(slots=True)
class BatchSize:
    """How many pictures one captioner takes at once.

    Attributes:
        value: now.
        grows: whether it may still double (no number was given, and memory never ran out).
    """

    value: int
    grows: bool = False

    def halve(self) -> None:
        """After memory ran out."""
        self.value = max(1, self.value // 2)
        self.grows = False

    def passed(self, taken: int, used: float | None) -> None:
        """After a pass over `taken` pictures that took `used` (0 to 1) of the device's memory at its peak."""
        if self.grows and used is not None and taken == self.value:
            if used < _ROOM and self.value < LARGEST_BATCH:
                self.value = min(LARGEST_BATCH, self.value * 2)
            elif used >= _ROOM:
                self.grows = False


class Engine:
    """Describes pictures with one or several loaded captioners.

    Args:
        captioners: by name, in the order in which they speak.
        sizes: the batch size of each.
        workers: threads that decode.
        peak: share of the device's memory that the newest pass used at most, None where it does not count.
        on_smaller: called with a captioner's name and its new batch size after memory ran out.
    """

    def __init__(
        self,
        captioners: Mapping[str, Captioner],
        sizes: Mapping[str, BatchSize],
        workers: int = 0,
        peak: Callable[[], float | None] = lambda: None,
        on_smaller: Callable[[str, int], None] = lambda name, size: None,
    ) -> None:
        self.captioners = captioners
        self.sizes = sizes
        self.workers = workers or max(2, min(8, os.cpu_count() or 2))  # the first batch waits for them
        self._peak = peak
        self._on_smaller = on_smaller

    def run(self, pictures: Sequence[Picture], wanted: Callable[[], bool]) -> Iterator[list[Result]]:
        """Answers for the pictures, batch after batch, in order; ends early when `wanted` says False."""
        pool = ThreadPoolExecutor(self.workers, thread_name_prefix="decode")
        try:
            ahead = self._ahead(pictures, pool)
            while wanted():
                began = time.monotonic()
                batch = self._gather(ahead)
                if not batch:
                    return
                results = self._describe(batch)
                each = (time.monotonic() - began) / len(batch)
                for result in results:
                    result.seconds = each
                yield results
        finally:
            pool.shutdown(wait=True, cancel_futures=True)

    def _ahead(self, pictures: Sequence[Picture], pool: ThreadPoolExecutor) -> Iterator[_Ready]:
        waiting: deque[Future[_Ready]] = deque()
        rest = iter(pictures)
        while True:
            room = max(self.workers, self._window() * _AHEAD) - len(waiting)
            for _, picture in zip(range(room), rest, strict=False):
                waiting.append(pool.submit(self._prepare, picture))
            if not waiting:
                return
            yield waiting.popleft().result()

    def _window(self) -> int:
        return max(size.value for size in self.sizes.values())

    def _gather(self, ahead: Iterator[_Ready]) -> list[_Ready]:
        return [ready for _, ready in zip(range(self._window()), ahead, strict=False)]

    def _prepare(self, picture: Picture) -> _Ready:
        ready = _Ready(picture)
        try:
            image = framed_picture(picture.path, picture.frame, picture.paper)
            for name, captioner in self.captioners.items():
                ready.prepared[name] = captioner.prepare(image)
        except DatasetError as error:
            ready.problem = error.message
        except (ValueError, ZeroDivisionError, OSError) as error:  # image processors refuse odd shapes so
            why = (str(error) or repr(error)).splitlines()[0]
            ready.problem = f"{picture.path} cannot be prepared: {why}."
        return ready

    def _describe(self, batch: list[_Ready]) -> list[Result]:
        results = {ready.picture.index: Result(ready.picture.index, ready.picture.rel) for ready in batch}
        for ready in batch:
            if ready.problem:
                result = results[ready.picture.index]
                result.state, result.reason = "failed", ready.problem
        sound = [ready for ready in batch if not ready.problem]
        for name in self.captioners:
            answers = self._ask(name, [ready.prepared[name] for ready in sound])
            for ready, answer in zip(sound, answers, strict=True):
                result = results[ready.picture.index]
                result.said[name] = answer
                if answer.error:
                    result.state, result.reason = "failed", answer.error
        return list(results.values())

    def _ask(self, name: str, prepared: list[Any]) -> list[Said]:
        """Answers of one captioner, in passes of its batch size; smaller ones where memory runs out."""
        captioner, size = self.captioners[name], self.sizes[name]
        answers: list[Said] = []
        while len(answers) < len(prepared):
            part = prepared[len(answers) : len(answers) + size.value]
            try:
                said = captioner.caption(part)
            except Exception as error:
                if not out_of_memory(error):
                    raise
                if size.value == 1:
                    raise JobError(
                        f"Memory does not suffice for {name} with a single picture.",
                        "Close other programs, choose a smaller model, a lower precision or fewer pixels.",
                    ) from error
            else:
                assert len(said) == len(part), f"{name} gave {len(said)} answers for {len(part)} pictures"
                answers += said
                size.passed(len(part), self._peak())
                continue
            size.value = min(size.value, len(part))
            size.halve()
            captioner.free()
            self._on_smaller(name, size.value)
        return answers


def out_of_memory(error: BaseException) -> bool:
    """Whether an error means that the device or the machine had no memory left."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    text = str(error)
    return any(
        sign in text
        for sign in (
            "out of memory",
            "can't allocate memory",
            "Failed to allocate memory",
            "CUBLAS_STATUS_ALLOC_FAILED",
        )
    )
