"""What workers and the terminal tell the app: they post, handlers own the state."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from threading import Event
from typing import TYPE_CHECKING, Any

from textual.message import Message
from textual.notifications import SeverityLevel

if TYPE_CHECKING:
    from loratui.config.run import RunInfo
    from loratui.config.schema import DataConfig, RunConfig
    from loratui.dataset.scan import Scan
    from loratui.project import Project
    from loratui.runs.curves import Curves
    from loratui.runs.directory import RunDir
    from loratui.runs.queue import Entry, Holder
    from loratui.runs.state import RunState
    from loratui.ui.graphics import Graphics
    from loratui.ui.machine import Reading


@dataclass
class GraphicsKnown(Message):
    """The terminal answered what pictures it can draw."""

    graphics: Graphics


@dataclass
class MachineRead(Message):
    """New figures of the GPUs and the host."""

    reading: Reading

    def can_replace(self, message: Message) -> bool:
        """Only the newest figures matter."""
        return isinstance(message, MachineRead)


@dataclass
class ProjectOpened(Message):
    """loratui.toml was read."""

    project: Project
    data: DataConfig


@dataclass
class ScanDone(Message):
    """The pictures of the project were read."""

    scan: Scan


@dataclass
class ScanProgress(Message):
    """So many pictures were read so far."""

    done: int

    def can_replace(self, message: Message) -> bool:
        """Only the newest count matters."""
        return isinstance(message, ScanProgress)


@dataclass
class RunsListed(Message):
    """All runs of the project, newest first, each with its state."""

    runs: Sequence[tuple[RunDir, RunState]]

    def can_replace(self, message: Message) -> bool:
        """Only the newest list matters."""
        return isinstance(message, RunsListed)


@dataclass
class QueueRead(Message):
    """Who waits for a device of this machine, and who has one."""

    entries: list[Entry]
    holders: list[Holder]

    def can_replace(self, message: Message) -> bool:
        """Only the newest queue matters."""
        return isinstance(message, QueueRead)


@dataclass
class RunSeen(Message):
    """The state of the watched run; the first one comes from status.json, before the events are read."""

    run: RunDir
    state: RunState
    events: Sequence[dict[str, Any]] = ()
    """What came since the last message, for the curves and the log."""
    earlier: bool = False
    """`events` are the end of what was written before the app came, for the log alone."""
    more: bool = False
    """More comes at once: nothing needs to be painted yet."""
    taken: Event = field(default_factory=Event)
    """Set when the app has taken the events in: whoever reads does not run ahead of it."""


@dataclass
class Started(Message):
    """A training was launched."""

    run: RunDir


@dataclass
class SettingsRead(Message):
    """The settings the watched run was launched with."""

    run: RunDir
    info: RunInfo
    config: RunConfig


@dataclass
class CurvesRead(Message):
    """All points of the watched run up to now; the receiver owns them from here on."""

    run: RunDir
    curves: Curves


@dataclass
class CurvesProgress(Message):
    """How much of the journal was read, 0 to 1: there is no cache of its curves."""

    run: RunDir
    share: float

    def can_replace(self, message: Message) -> bool:
        """Only the newest share matters."""
        return isinstance(message, CurvesProgress)


@dataclass
class Said(Message):
    """A worker has something to tell the user."""

    text: str
    advice: str = ""
    severity: SeverityLevel = "information"
