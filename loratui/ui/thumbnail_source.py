"""Thumbnails from the cache on disk; a missing one is made by a process that may be killed."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import TYPE_CHECKING

from loratui.dataset.measure_pool import MEMORY, SECONDS, Work, Worker
from loratui.errors import DatasetError

if TYPE_CHECKING:
    from PIL.Image import Image

    from loratui.project.collection import Collection


class ThumbnailSource:
    """Gives the thumbnail of a picture, in a thread.

    Args:
        collection: whose cache it is.
        stop: set when the app ends: a file that is being decoded is given up.
    """

    def __init__(self, collection: Collection, stop: threading.Event) -> None:
        self._index = collection.index
        self._lock = threading.Lock()
        self._worker = Worker(SECONDS, MEMORY, stop)

    def get(self, picture: Path) -> Image:
        """The thumbnail of a picture as it is now, at most 256 px.

        Raises:
            DatasetError: the picture cannot be decoded.
            OSError: the cache cannot be read.
        """
        from PIL import Image as Pillow

        place = self._index.thumbnail_path(picture)
        if not place.exists():
            with self._lock:
                found = self._worker.measure(Work(picture, place, self._index.paper))
            if not place.exists():
                raise DatasetError(found.error or "There is no room for thumbnails.")
            self._index.keep(found)
            self._index.flush()
        with Pillow.open(place) as image:
            return image.convert("RGB")

    def close(self) -> None:
        """End the process."""
        with self._lock:
            self._worker.close(kill=True)
