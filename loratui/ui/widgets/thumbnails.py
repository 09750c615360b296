"""Small pictures for grids: decoded and turned into half blocks in a thread, kept by size."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from textual.strip import Strip
from textual.worker import get_current_worker

from loratui.dataset.framing import PLAIN, Frame
from loratui.errors import LoratuiError
from loratui.ui import halfblock

if TYPE_CHECKING:
    from PIL.Image import Image
    from textual.widget import Widget

_KEPT = 400
_SIDE_PX = 192
_TOGETHER_S = 0.06
"""Thumbnails that are ready within so long are painted together: each by itself would hold up the keys."""
_MOST_WANTED = 150
"""Older wishes are of pictures that were scrolled past."""

Key = tuple[Path, int, int, Frame]


class Thumbnails:
    """Gives a picture's strips when it has them, and asks its owner to paint when it gets them."""

    def __init__(
        self,
        owner: Widget,
        picture: Callable[[Path], Image] | None = None,
        paint: Callable[[Collection[Path]], object] | None = None,
    ) -> None:
        """Begin empty.

        Args:
            owner: repainted when there are new ones.
            picture: gives a small picture of a file, in a thread; decodes the file itself when left out.
            paint: paints some pictures again; all of the owner is painted when left out.
        """
        self._owner = owner
        self._picture = picture or _decoded
        self._paint = paint or (lambda _paths: owner.refresh())
        self._made: OrderedDict[Key, list[Strip]] = OrderedDict()
        self._wanted: list[Key] = []
        self._busy = False

    def get(self, path: Path, columns: int, rows: int, frame: Frame = PLAIN) -> list[Strip] | None:
        """Strips within `columns` x `rows` cells; None while they are made, empty when they cannot be.

        The picture is turned and mirrored as `frame` says, and dark where a crop by hand cuts it off.
        """
        key = (path, columns, rows, frame)
        if key in self._made:
            self._made.move_to_end(key)
            return self._made[key]
        if key not in self._wanted and columns > 0 and rows > 0:
            self._wanted.append(key)
            del self._wanted[:-_MOST_WANTED]
            if not self._busy:
                self._busy = True
                self._owner.call_later(self._start)
        return None

    def forget(self, paths: Iterable[Path]) -> None:
        """These pictures are others now."""
        gone = set(paths)
        for key in [key for key in self._made if key[0] in gone]:
            del self._made[key]

    def _start(self) -> None:
        self._owner.run_worker(self._work, thread=True, group="thumbnails", exit_on_error=False)

    def _work(self) -> None:
        worker = get_current_worker()
        ready: dict[Key, list[Strip]] = {}
        told = time.monotonic()
        while not worker.is_cancelled:
            key = next((key for key in reversed(self._wanted) if key not in ready), None)  # newest: in sight
            if key is not None:
                ready[key] = self._make(*key)
            if ready and (key is None or time.monotonic() - told > _TOGETHER_S):
                self._owner.app.call_from_thread(self._keep, ready)
                ready, told = {}, time.monotonic()
            elif key is None:
                self._owner.app.call_from_thread(self._rest)
                return

    def _rest(self) -> None:
        """Nothing is left to do, unless something was wished for in this very moment."""
        self._busy = bool(self._wanted)
        if self._busy:
            self._start()

    def _keep(self, ready: Mapping[Key, list[Strip]]) -> None:
        self._made.update(ready)
        self._wanted = [key for key in self._wanted if key not in ready]
        while len(self._made) > _KEPT:
            self._made.popitem(last=False)
        self._paint({path for path, *_ in ready})

    def _make(self, path: Path, columns: int, rows: int, frame: Frame) -> list[Strip]:
        from loratui.dataset.pixels import turned
        from loratui.ui.preview import dimmed

        try:
            image = self._picture(path)
        except (LoratuiError, OSError):
            return []
        image = dimmed(turned(image, frame), frame.box)
        return halfblock.strips(image, *halfblock.fitted(*image.size, columns, rows))


def _decoded(path: Path) -> Image:
    from loratui.ui.preview import load

    return load(path, side=_SIDE_PX)
