"""What the app knows of the run it watches. Owned by the app's handlers; workers only post."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from loratui.runs.state import ENDED, RunState
from loratui.ui.story import tell
from loratui.ui.widgets.log_view import LogLine

if TYPE_CHECKING:
    from loratui.config.schema import RunConfig
    from loratui.runs.curves import Curves
    from loratui.runs.diagnosis import Finding
    from loratui.runs.directory import RunDir

_LOG_LINES = 2000


@dataclass
class Pending:
    """A request that no event has acknowledged yet."""

    kind: str
    since: float


@dataclass
class Watched:
    """One run under observation, live, dead or recorded.

    Attributes:
        run: its directory.
        state: newest state, with liveness judged.
        curves: its points; those of the last minutes until all events were read, None before.
        read_share: how much of the journal was read for them, 0 to 1.
        settings: what it was launched with; None until read.
        log: its story, oldest first.
        told: lines ever added to `log`.
        pending: request id -> what waits for an acknowledgement.
        hindrances: what keeps it from going as it should, looked at with the machine.
    """

    run: RunDir
    state: RunState = field(default_factory=RunState)
    curves: Curves | None = None
    read_share: float = 0.0
    settings: RunConfig | None = None
    log: deque[LogLine] = field(default_factory=lambda: deque(maxlen=_LOG_LINES))
    told: int = 0
    pending: dict[str, Pending] = field(default_factory=dict)
    hindrances: list[Finding] = field(default_factory=list)

    @property
    def live(self) -> bool:
        """Whether something may still happen in it."""
        return self.state.state not in ENDED

    def take(self, state: RunState, events: Sequence[dict[str, Any]], earlier: bool) -> list[tuple[str, str]]:
        """Take over a new state and new events.

        Returns:
            Requests that were answered: (kind, `ok` or the reason of the refusal).
        """
        self.state = state
        if events:
            lines = tell(events, state.job)
            if self.log and lines and lines[0].level == self.log[-1].level == "sample" and not earlier:
                lines = _grown(self.log.pop(), lines)
            self.log.extend(lines)
            self.told += max(1, len(lines)) if lines else 0
            if not earlier and self.curves is not None:
                for event in events:
                    self.curves.apply(event)
        answered = [(self.pending.pop(i).kind, reply) for i, reply in state.acks.items() if i in self.pending]
        if not self.live:
            self.pending.clear()
            self.hindrances = []
        return answered


def _grown(last: LogLine, lines: list[LogLine]) -> list[LogLine]:
    """Join the samples of one step that came in two batches."""
    head, tail = last.what.split(" ", 1)
    first, rest = lines[0].what.split(" ", 1)
    if tail.split("step")[-1] != rest.split("step")[-1]:
        return [last, *lines]
    step = rest.split("step")[-1]
    return [LogLine(lines[0].at, "sample", f"{int(head) + int(first)} samples at step{step}"), *lines[1:]]
