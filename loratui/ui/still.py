"""No garbage collection before the first frame, nor while a hundred thousand rows are made, nor over them.

Before the first frame next to nothing is garbage, and looking for it takes a tenth of the start.

Rows live as long as the project and hold no cycles; a collector that walks them all stops the keys for a
fifth of a second, again and again.
"""

from __future__ import annotations

import contextlib
import gc
import threading
from collections.abc import Iterator

_THRESHOLDS = 5_000, 20, 20
"""A frame makes thousands of strips that go with the next one, nearly all without a collector; at Python's
own thresholds one frame in three waits for it."""
_lock = threading.Lock()
_inside = 0
_frozen = False


def begin() -> None:
    """Collect nothing from here to `first_frame`."""
    gc.disable()


def first_frame() -> None:
    """Collect as usual; what was imported and mounted is never walked."""
    global _frozen
    with _lock:
        if not _inside:
            gc.set_threshold(*_THRESHOLDS)
            gc.freeze()
            _frozen = True
            gc.enable()


@contextlib.contextmanager
def making_rows() -> Iterator[None]:
    """Make many objects that stay: they are not walked while they are made, and never again."""
    global _inside, _frozen
    with _lock:
        if _frozen and not _inside:
            gc.collect()  # what is garbage now would be frozen with the rows, for good; those are not walked
        _inside += 1
        gc.disable()
    try:
        yield
    finally:
        with _lock:
            _inside -= 1
            if not _inside:
                gc.freeze()
                _frozen = True
                gc.enable()
