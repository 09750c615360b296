"""Following a journal as it grows."""

from __future__ import annotations

from loratui.runs.directory import RunDir
from loratui.runs.events import Event, read_events


class Tail:
    """The new events since the last look; a look at a journal that did not grow costs one `stat`.

    Attributes:
        offset: bytes read so far.
        bad_lines: unsound lines met so far.
        restarted: the last poll found another, shorter journal and began again; fold from nothing.
    """

    def __init__(self, run: RunDir, offset: int = 0) -> None:
        self.run = run
        self.offset = offset
        self.bad_lines = 0
        self.restarted = False

    def poll(self, max_bytes: int | None = None) -> list[Event]:
        """New whole events, oldest first; `max_bytes` bounds one look (ask again for the rest)."""
        self.restarted = False
        try:
            size = self.run.events_path.stat().st_size
        except OSError:
            return []
        if size < self.offset:
            self.offset, self.bad_lines, self.restarted = 0, 0, True
        if size == self.offset:
            return []
        try:
            read = read_events(self.run.events_path, self.offset, max_bytes)
        except OSError:  # a network disk that went away: nothing new for now
            return []
        self.offset = read.offset
        self.bad_lines += read.bad_lines
        return read.events
