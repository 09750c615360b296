"""The loop of a caption run when memory runs out: smaller passes, every picture described once, in order."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import caption_kit as kit
import pytest

from loratui.caption.engine import BatchSize, Engine, Picture
from loratui.captioners.protocol import Said
from loratui.errors import JobError


class Narrow:
    """Memory for `room` pictures at once."""

    first_batch = 8

    def __init__(self, room: int) -> None:
        self.room = room
        self.passes: list[int] = []
        self.freed = 0

    def prepare(self, image: Any) -> Any:
        return image.getpixel((0, 0))

    def caption(self, prepared: list[Any]) -> list[Said]:
        if len(prepared) > self.room:
            raise RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB")
        self.passes.append(len(prepared))
        return [Said(str(one)) for one in prepared]

    def free(self) -> None:
        self.freed += 1


def test_memory_that_runs_out_costs_no_picture(tmp_path: Path) -> None:
    paths = kit.pictures(tmp_path, 21)
    model = Narrow(3)
    told: list[tuple[str, int]] = []
    size = BatchSize(8)
    engine = Engine({"x": model}, {"x": size}, 2, on_smaller=lambda name, now: told.append((name, now)))
    pictures = [Picture(i, path, path.name) for i, path in enumerate(paths)]
    results = [one for batch in engine.run(pictures, lambda: True) for one in batch]
    assert [r.index for r in results] == list(range(21)) and all(r.state == "said" for r in results)
    wanted = [Narrow(1).caption([engine._prepare(p).prepared["x"]])[0] for p in pictures]
    assert [r.said["x"] for r in results] == wanted
    assert told == [("x", 4), ("x", 2)] and model.freed == 2 and size.value == 2
    assert sum(model.passes) == 21 and max(model.passes) <= 3


def test_no_room_for_one_picture_ends_with_advice(tmp_path: Path) -> None:
    (path,) = kit.pictures(tmp_path, 1)
    engine = Engine({"x": Narrow(0)}, {"x": BatchSize(4)}, 1)
    with pytest.raises(JobError, match="single picture") as error:
        list(engine.run([Picture(0, path, path.name)], lambda: True))
    assert error.value.advice
