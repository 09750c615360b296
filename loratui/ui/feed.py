"""Where the app's knowledge of runs comes from: thread bodies that read run directories and post.

Nothing here touches a widget. `post` may be called from any thread.
"""

from __future__ import annotations

import contextlib
import copy
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from textual.message import Message

from loratui.errors import LoratuiError, RunError
from loratui.runs import curve_cache, queue, snapshot
from loratui.runs.curves import Curves
from loratui.runs.directory import RunDir, list_runs
from loratui.runs.events import read_events
from loratui.runs.fold import apply, fold
from loratui.runs.liveness import observed_state
from loratui.runs.state import ENDED, RunState
from loratui.runs.status import Watch, looked, status
from loratui.runs.steps import read_records
from loratui.ui.messages import CurvesProgress, CurvesRead, QueueRead, RunSeen, RunsListed, Said, SettingsRead

POLL_S = 0.25
PAINT_S = 0.45
"""Figures that follow each other faster are told together."""
WINDOW_S = 600.0
"""The last minutes: what is shown of a long run while the rest is read, and with `w` at any time."""
_LOG_BYTES = 65536
_FEW = 200
_PIECE = 1 << 18
_LONG = 1 << 22
"""Bytes of a journal that are not read before something is shown."""
_LIVE_PIECE = 1 << 16

Post = Callable[[Message], Any]
Cancelled = Callable[[], bool]


def follow(run: RunDir, post: Post, cancelled: Cancelled) -> None:
    """Watch a run until cancelled: state first, then the last minutes, then every point, then what comes."""
    try:
        folded = _folded(run, post, cancelled)
        watch = Watch.onward(run, folded)
        watch.poll()
        post(RunSeen(run, frozen(watch.state)))
        end = watch.tail.offset
        post(RunSeen(run, frozen(watch.state), _last_events(run, end), earlier=True))
        _post_settings(run, post)
        kept = _post_curves(watch, end, post, cancelled)
    except OSError as error:
        post(Said(f"The run {run.id} cannot be read: {error.strerror or error}.", "", "error"))
        return
    keeper = curve_cache.Keeper(run, kept, cancelled)
    try:
        _follow_on(watch, keeper, post, cancelled)
    finally:
        keeper.close()


def _follow_on(watch: Watch, keeper: curve_cache.Keeper, post: Post, cancelled: Cancelled) -> None:
    """Post what comes."""
    run = watch.run
    shown, shown_at, painted_at = "", 0.0, 0.0
    held: list[dict[str, Any]] = []
    while not cancelled():
        fresh = watch.poll(_LIVE_PIECE if _behind(watch) else None)
        events, held = fresh if watch.tail.restarted else held + fresh, []
        if watch.tail.restarted:  # another journal lies there now
            curves = Curves()
            for event in events:
                curves.apply(event)
            post(CurvesRead(run, curves))
        mark = f"{watch.state.state} {watch.state.reason}"
        if mark == shown and time.monotonic() - shown_at < PAINT_S and _is_quiet(events):
            held = [] if watch.tail.restarted else events
        elif events or mark != shown:
            more = _behind(watch) and time.monotonic() - painted_at < POLL_S
            painted_at = painted_at if more else time.monotonic()
            shown, shown_at = mark, time.monotonic()
            seen = RunSeen(run, frozen(watch.state), () if watch.tail.restarted else events, more=more)
            post(seen)
            for _ in range(20):
                if seen.taken.wait(0.05) or cancelled():
                    break
        keeper.look(watch.tail.offset)
        if not _behind(watch):
            time.sleep(POLL_S)


def _is_quiet(events: list[dict[str, Any]]) -> bool:
    """Whether these may wait a moment: figures, of which the newest counts."""
    few = len(events) < _FEW  # many are not kept waiting, as they take memory
    return few and all(event.get("kind") in {"step", "memory", "quarters"} for event in events)


def _behind(watch: Watch) -> bool:
    """Whether so much was written since the last look that it is better read in pieces."""
    try:
        return watch.run.events_path.stat().st_size - watch.tail.offset > _LIVE_PIECE
    except OSError:
        return False


def _folded(run: RunDir, post: Post, cancelled: Cancelled) -> snapshot.Folded:
    """The fold of the journal; without a status.json that fits, read from the beginning with progress."""
    folded = snapshot.cached(run) or snapshot.Folded()
    end = run.events_path.stat().st_size if run.events_path.exists() else 0
    looked = time.monotonic()
    if end - folded.offset > _LONG and (seen := snapshot.glimpse(run)) is not None:
        post(RunSeen(run, observed_state(seen, None, run), earlier=True))
        post(CurvesRead(run, curve_cache.newest(run, end, WINDOW_S)))
    while folded.offset < end and not cancelled():
        read = read_records(run.events_path, folded.offset, _PIECE)
        if read.offset == folded.offset:
            break
        fold(read.records, folded.state)
        folded.state.bad_lines += read.bad_lines
        folded.offset = read.offset
        if time.monotonic() - looked > POLL_S:
            looked = time.monotonic()
            post(CurvesProgress(run, folded.offset / end))
            time.sleep(0.001)
    return folded


def _post_curves(watch: Watch, end: int, post: Post, cancelled: Cancelled) -> int:
    """Post the last minutes at once, then all points of the journal's first `end` bytes.

    What is written meanwhile is posted as it comes, and belongs after these points.

    Returns:
        The byte of the journal that the cache of its curves reaches to.
    """
    run = watch.run
    curves, offset = curve_cache.load(run) or (Curves(), 0)
    if offset > end:
        curves, offset = Curves(), 0
    before, looked = offset, time.monotonic()
    later: list[dict[str, Any]] = []
    if end - offset > curve_cache.WORTH:
        post(CurvesRead(run, curve_cache.newest(run, end, WINDOW_S)))

    def between(at: int) -> bool:
        nonlocal looked
        if time.monotonic() - looked > POLL_S:
            looked = time.monotonic()
            before_state = watch.state.state
            fresh = watch.poll(_PIECE if _behind(watch) else None)
            later.extend(fresh)
            post(CurvesProgress(run, at / end))
            if fresh or watch.state.state != before_state:
                post(RunSeen(run, frozen(watch.state), fresh))
        time.sleep(0.0002)  # the keys get their turn
        return not cancelled()

    _, offset = curve_cache.read(run, curves, offset, end, between)
    if cancelled():
        return before
    if offset - before > curve_cache.WORTH:
        curve_cache.save(run, curves, offset)
        before = offset
    for event in later:
        curves.apply(event)
    post(CurvesRead(run, curves))
    return before


def _post_settings(run: RunDir, post: Post) -> None:
    from loratui.config.load import load_run

    try:
        post(SettingsRead(run, *load_run(run.config_path)))
    except (LoratuiError, OSError):
        return  # the monitor does without: it then cannot say when the next save comes


def replay(run: RunDir, post: Post, cancelled: Cancelled, clock: ReplayClock) -> None:
    """Play a recorded run by `clock`; the state is what it was then, liveness is not judged."""
    events = read_events(run.events_path).events
    if not events:
        return
    _post_settings(run, post)
    clock.open(float(events[0].get("t", 0.0)), float(events[-1].get("t", 0.0)))
    state, curves, next_one = RunState(), Curves(), 0
    first = True
    while not cancelled():
        now = clock.tick()
        batch: list[dict[str, Any]] = []
        while next_one < len(events) and float(events[next_one].get("t", 0.0)) <= now:
            batch.append(events[next_one])
            next_one += 1
        for event in batch:
            apply(state, event)
        if first:
            for event in batch:
                curves.apply(event)
            post(CurvesRead(run, curves))
            post(RunSeen(run, frozen(state), batch, earlier=True))
            first = False
        elif batch:
            post(RunSeen(run, frozen(state), batch))
        if clock.frozen:
            return
        time.sleep(POLL_S)


class ReplayClock:
    """The time inside a recording: frozen at a share of it, or running `speed` times as fast."""

    def __init__(self, speed: float = 20.0, share: float | None = None) -> None:
        self.speed = speed
        self.share = share
        self.paused = False
        self.now = 0.0
        self._end = 0.0

    @property
    def frozen(self) -> bool:
        """Whether the time stands still for good."""
        return self.share is not None

    def open(self, start: float, end: float) -> None:
        """Set to the recording's start, or to the share of it that was asked for."""
        self.now = start if self.share is None else start + (end - start) * self.share
        self._end = end

    def tick(self) -> float:
        """Let one poll's time pass."""
        if not self.frozen and not self.paused:
            self.now = min(self._end + 1.0, self.now + POLL_S * self.speed)
        return self.now


def list_states(runs_dir: Path, post: Post, cancelled: Cancelled) -> None:
    """Post all runs of a project with their states and the queue, each 1 s while one lives, else each 2 s."""
    ended: dict[str, tuple[float, RunState]] = {}
    living: dict[str, Watch] = {}
    glimpsed: set[str] = set()
    while not cancelled():
        found: list[tuple[RunDir, RunState]] = []
        for run in list_runs(runs_dir) if runs_dir.is_dir() else []:
            stamp = _stamp(run)
            kept = ended.get(run.id)
            if kept is not None and kept[0] == stamp:
                found.append((run, kept[1]))
                continue
            try:
                if run.id not in glimpsed and run.id not in living and _is_long(run):
                    glimpsed.add(run.id)  # read as a whole in the next round, when all are listed
                    if (seen := snapshot.glimpse(run)) is not None:
                        found.append((run, observed_state(seen, None, run)))
                        continue
                state = _state(run, living)
            except RunError:  # being removed, or unreadable
                continue
            if state.state in ENDED:
                ended[run.id] = (stamp, state)
            found.append((run, state))
        living = {run.id: living[run.id] for run, _ in found if run.id in living}
        post(RunsListed(found))
        with contextlib.suppress(LoratuiError, OSError):  # `loratui queue` says what is wrong with it
            post(QueueRead(queue.entries(), queue.holders()))
        alive = any(state.state not in ENDED for _, state in found)
        for _ in range(4 if alive else 8):
            if cancelled():
                return
            time.sleep(POLL_S)


def _is_long(run: RunDir) -> bool:
    """Whether there is much to read before the state of a run is known for sure."""
    folded = snapshot.cached(run)
    try:
        return run.events_path.stat().st_size - (folded.offset if folded is not None else 0) > _LONG
    except OSError:
        return False


def _state(run: RunDir, living: dict[str, Watch]) -> RunState:
    """The state of a run; one that lives is read on from where the last look ended.

    Raises:
        RunError: it cannot be read.
    """
    watch = living.get(run.id)
    if watch is None:
        state, folded = looked(run)
        if state.state not in ENDED:
            living[run.id] = Watch.onward(run, folded)
            return frozen(state)
        return state
    while watch.poll(_PIECE):  # the last look, without events, says who lives
        continue
    if watch.state.state in ENDED:
        del living[run.id]
        return status(run)
    return frozen(watch.state)


def _stamp(run: RunDir) -> float:
    try:
        return run.events_path.stat().st_mtime
    except OSError:
        return 0.0


def _last_events(run: RunDir, end: int) -> list[dict[str, Any]]:
    """The events in the last 64 KiB before `end`: later ones come by themselves."""
    start = max(0, end - _LOG_BYTES)
    try:
        if start:
            with run.events_path.open("rb") as file:
                file.seek(start)
                start += len(file.readline())
        return list(read_events(run.events_path, start, end - start).events) if end > start else []
    except OSError:
        return []


def frozen(state: RunState) -> RunState:
    """A copy whose lists no worker changes any more."""
    made = copy.copy(state)
    for name in (
        "lr",
        "times",
        "memory",
        "checkpoints",
        "samples",
        "prompts",
        "acks",
        "verified",
        "scores",
        "warnings",
        "captions",
        "counts",
    ):
        setattr(made, name, copy.copy(getattr(state, name)))
    return made
