"""The part of the app that starts workers and takes in what they find."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from textual.message import Message
from textual.message_pump import MessagePump
from textual.signal import Signal
from textual.worker import get_current_worker

from loratui.errors import LoratuiError
from loratui.runs.diagnosis import Surroundings, hindrances
from loratui.runs.liveness import host_name
from loratui.runs.state import ENDED
from loratui.ui import still
from loratui.ui.library import Library
from loratui.ui.messages import (
    CurvesProgress,
    CurvesRead,
    MachineRead,
    ProjectOpened,
    QueueRead,
    RunSeen,
    RunsListed,
    Said,
    ScanDone,
    ScanProgress,
    SettingsRead,
    Started,
)
from loratui.ui.typed_ahead import TypedAhead

if TYPE_CHECKING:
    from loratui.config.schema import DataConfig
    from loratui.dataset.index import Indexed
    from loratui.dataset.scan import Scan
    from loratui.project import Project
    from loratui.runs.directory import RunDir
    from loratui.runs.queue import Entry, Holder
    from loratui.runs.state import RunState
    from loratui.ui.captioning import Scope
    from loratui.ui.feed import ReplayClock
    from loratui.ui.machine import Reading
    from loratui.ui.model import Watched

Post = Callable[[Message], Any]
Gone = Callable[[], bool]


class Watching(TypedAhead):
    """What is known of project, runs and machine. Workers read in threads and post; the handlers own it.

    `state_changed` says what is known anew: project, progress, scan, runs, run, machine, graphics; and of the
    library: pictures, shown, marks, tags, caption_scope.
    """

    def __init__(
        self,
        root: Path,
        open_run: str | None,
        replay: Path | None,
        replay_share: float | None,
        driver_class: Any,
    ) -> None:
        super().__init__(driver_class)
        self.root = root
        self.open_run = open_run
        self.replay_path = replay
        self.replay_share = replay_share
        self.clock: ReplayClock | None = None
        self.project: Project | None = None
        self.scan: Scan | None = None
        self.scanned = 0
        self._ended = False
        """A thread that is started in the app's last moment is not cancelled any more, and ends by this."""
        self.library = Library(self)
        self.runs: Sequence[tuple[RunDir, RunState]] = ()
        self.queue_entries: list[Entry] = []
        self.queue_holders: list[Holder] = []
        self.cloned: tuple[str, dict[str, str]] | None = None
        self.watched: Watched | None = None
        self.reading: Reading | None = None
        self.caption_scope: Scope | None = None
        """What the Dataset room asked to be captioned; None until it has asked."""
        self.caption_here: Path | None = None
        self.state_changed: Signal[str] = Signal(self, "state-changed")

    @cached_property
    def data_settings(self) -> DataConfig:
        """How pictures are cut: the defaults, until the project was read."""
        from loratui.config.schema import DataConfig  # here: the first frame does not wait for it

        return DataConfig()

    @property
    def replaying(self) -> bool:
        """Whether a recording is shown instead of a project."""
        return self.replay_path is not None

    @property
    def project_name(self) -> str:
        """The project's name; until it is read, its folder's."""
        if self.project is not None:
            return self.project.name
        if self.replaying and self.watched is not None:
            return self.watched.state.name
        return self.root.name

    @property
    def base_name(self) -> str:
        """The base model, without its folders."""
        if self.project is not None:
            return self.project.base.rstrip("/").rsplit("/", 1)[-1]
        return self.watched.state.base.rsplit("/", 1)[-1] if self.watched is not None else ""

    @property
    def job_state(self) -> RunState | None:
        """What the header tells of: the watched run while it lives, else any that lives, else the watched."""
        watched = self.watched
        if watched is not None and watched.live:
            return watched.state
        alive = next((state for _, state in self.runs if state.state not in ENDED), None)
        return alive or (watched.state if watched is not None else None)

    def now(self) -> float:
        """The time; of a recording, the time in it."""
        return self.clock.now if self.clock is not None else time.time()

    def begin(self) -> None:
        """Start reading, once the first frame is on its way."""
        still.first_frame()
        if self.current_mode != "dataset":
            self.library.painted.set()  # nobody looks at the list of pictures
        if self.replaying:
            self._begin_replay()
            return
        self.in_thread(self._read_machine, "machine")
        if self.open_run is not None:
            self._open_named_run(self.open_run)
        if self.current_mode != "first":
            self.open_project()

    def open_project(self) -> None:
        """Read loratui.toml, then pictures and runs."""
        self.reopen_project()
        self.in_thread(self._read_runs, "runs")

    def on_unmount(self) -> None:
        """Nothing runs on behind the end."""
        self._ended = True
        self.library.close()

    def reopen_project(self) -> None:
        """Read loratui.toml again: it may name other pictures now."""
        self.in_thread(self._read_project, "project")

    def observe(self, run: RunDir) -> None:
        """Follow this run from now on."""
        from loratui.ui import feed
        from loratui.ui.model import Watched

        self.watched = Watched(run)
        self.in_thread(lambda post, gone: feed.follow(run, post, gone), "feed")
        self.state_changed.publish("run")

    def request(self, kind: str, **args: Any) -> None:
        """Ask the watched run for something; it stays pending until an event answers."""
        if self.watched is None or self.replaying:
            return
        run = self.watched.run

        def work(post: Post, _gone: Gone) -> None:
            from loratui.runs.control import request

            try:
                ident = request(run, kind, **args)
            except (LoratuiError, OSError) as error:
                post(Said(f"{kind}: {error}", getattr(error, "advice", ""), "error"))
                return
            self.call_from_thread(self._requested, ident, kind)

        self.in_thread(work, "control", exclusive=False)

    def resume_run(self, run: RunDir) -> None:
        """Start a stopped or crashed run again from its newest checkpoint, and watch it."""

        def work(post: Post, _gone: Gone) -> None:
            from loratui.runs.launch import resume

            try:
                resume(run)
            except LoratuiError as error:
                post(Said(error.message, error.advice, "error"))
                return
            post(Said("The run goes on from its newest checkpoint."))
            self.call_from_thread(self.observe, run)

        self.in_thread(work, "launch")

    def release_run(self, run: RunDir) -> None:
        """Let a held run wait for its turn again."""

        def work(post: Post, _gone: Gone) -> None:
            from loratui.runs.waiting import release

            try:
                release(run)
            except LoratuiError as error:
                post(Said(error.message, error.advice, "error"))
                return
            post(Said("The run waits for its turn."))

        self.in_thread(work, "launch")

    def reread_runs(self) -> None:
        """Look at runs and queue again now."""
        self.in_thread(self._read_runs, "runs")

    def clone(self, preset: str, settings: dict[str, str]) -> None:
        """Open Train with a preset and what a run had set otherwise."""
        self.cloned = preset, settings
        self.state_changed.publish("clone")
        self.run_worker(self.action_room("train"), group="clone")

    def _requested(self, ident: str, kind: str) -> None:
        from loratui.ui.model import Pending

        if self.watched is not None and ident not in self.watched.state.acks:
            self.watched.pending[ident] = Pending(kind, time.time())
            self.state_changed.publish("run")

    def caption_saved(self, path: Path, caption: str) -> None:
        """A caption on disk is another now."""
        self.library.reload([path])

    def captions_changed(self, changed: Mapping[Path, Indexed]) -> None:
        """The captions of some pictures are others: the scan of the other rooms follows."""
        if self.scan is None or not changed:
            return
        gone = {"missing-caption", "empty-caption", "caption-from-folder"}
        pictures = list(self.scan.pictures)
        for at, picture in enumerate(pictures):
            known = changed.get(picture.path)
            if known is None or known.caption == picture.caption:
                continue
            line = " ".join(known.caption.split("\n"))
            problems = tuple(f for f in picture.problems if not line or f.code not in gone)
            pictures[at] = replace(picture, caption=line, caption_path=known.caption_path, problems=problems)
        self.scan = replace(self.scan, pictures=tuple(pictures))
        self.state_changed.publish("scan")

    async def action_caption_marked(self) -> None:
        """Go to Captions with the marked pictures; when none is marked with the filtered, else with all."""
        await self._caption("marked" if self.library.marked else "filtered" if self.library.filter else "all")

    async def action_caption_filtered(self) -> None:
        """Go to Captions with what the filter shows, whatever is marked."""
        await self._caption("filtered" if self.library.filter else "all")

    async def _caption(self, scope: Scope) -> None:
        self.caption_scope = scope
        self.caption_here = getattr(self.screen, "here", None)
        self.state_changed.publish("caption_scope")
        await self.action_room("captions")

    def action_rescan(self) -> None:
        """Read pictures and captions again."""
        self.library.refresh()

    # thread bodies

    def in_thread(
        self,
        work: Callable[[Post, Gone], None],
        group: str,
        target: MessagePump | None = None,
        exclusive: bool = True,
    ) -> None:
        """Run `work(post, cancelled)` in a thread; a new one of the same group ends the old.

        Args:
            work: posts its findings with its first argument, and ends when its second says so.
            group: what it is about.
            target: who gets what is posted; the app when None.
            exclusive: end the old one.
        """

        def body() -> None:
            worker = get_current_worker()
            try:
                work((target or self).post_message, lambda: worker.is_cancelled or self._ended)
            except Exception as error:  # a defect: Textual's own report would lose the traceback
                if not worker.is_cancelled:
                    self.call_later(self._handle_exception, error)

        self.run_worker(body, thread=True, exclusive=exclusive, group=group)

    def _read_project(self, post: Post, gone: Gone) -> None:
        from loratui.project import Project

        try:
            project = Project.open(self.root)
        except LoratuiError as error:
            post(Said(error.message, error.advice, "error"))
            return
        try:
            data = project.resolve().data
        except LoratuiError as error:
            from loratui.config.schema import DataConfig

            data = DataConfig()
            post(Said(error.message, error.advice, "warning"))
        post(ProjectOpened(project, data))

    def _read_runs(self, post: Post, gone: Gone) -> None:
        self.library.painted.wait(1.0)
        from loratui.ui.feed import list_states

        list_states(self.root / "runs", post, gone)

    def _read_machine(self, post: Post, gone: Gone) -> None:
        self.library.painted.wait(1.0)
        from loratui.ui.machine import Machine

        machine = Machine(str(self.root))
        while not gone():
            job = self.job_state
            here = job is not None and job.state not in ENDED
            post(MachineRead(machine.read(time.time(), job.pid if job is not None and here else 0)))
            for _ in range(4):
                if gone():
                    return
                time.sleep(0.25)

    def _open_named_run(self, name: str) -> None:
        from loratui.runs.directory import find_run

        try:
            self.observe(find_run(name, self.root))
        except LoratuiError as error:
            self.post_message(Said(error.message, error.advice, "error"))

    def _begin_replay(self) -> None:
        from loratui.runs.directory import RunDir
        from loratui.ui import feed
        from loratui.ui.model import Watched

        assert self.replay_path is not None
        run = RunDir(self.replay_path)
        clock = feed.ReplayClock(share=self.replay_share)
        self.clock = clock
        self.watched = Watched(run)
        self.in_thread(lambda post, gone: feed.replay(run, post, gone, clock), "feed")

    # handlers

    def on_project_opened(self, message: ProjectOpened) -> None:
        """loratui.toml was read."""
        self.project = message.project
        self.data_settings = message.data
        self.state_changed.publish("project")
        self.library.open(message)

    async def on_started(self, message: Started) -> None:
        """A training was started: watch it."""
        self.observe(message.run)
        await self.action_room("monitor")

    async def action_room(self, room: str) -> None:
        """Go to a room."""
        raise NotImplementedError

    def on_scan_done(self, message: ScanDone) -> None:
        """The pictures were read."""
        before = [] if self.scan is None else [self.scan]
        self.scan = message.scan
        self.state_changed.publish("scan")

        def work(_post: Post, _gone: Gone) -> None:
            from loratui.dataset.gently import let_go

            pictures = [picture for scan in before for picture in scan.pictures]
            before.clear()
            let_go(pictures)

        if before:  # a hundred thousand pictures that end at once stop the keys
            self.in_thread(work, "gone", exclusive=False)

    def on_scan_progress(self, message: ScanProgress) -> None:
        """Some pictures were read."""
        self.scanned = message.done
        self.state_changed.publish("progress")

    def on_runs_listed(self, message: RunsListed) -> None:
        """The first list decides what is watched: the run that lives, else the newest."""
        self._announce(dict(self.runs), message.runs)
        self.runs = message.runs
        if self.watched is None and self.runs:
            alive = [run for run, state in self.runs if state.state not in ENDED]
            self.observe(alive[0] if alive else self.runs[0][0])
        self.state_changed.publish("runs")

    def _announce(self, before: Mapping[RunDir, RunState], after: Sequence[tuple[RunDir, RunState]]) -> None:
        """Ring for what happened in any run of the project since the last look."""
        from loratui.runs.announce import chosen_way, news, sequence

        driver = self._driver
        said = [text for run, state in after if (text := news(before.get(run), state))]
        if said and driver is not None and not driver.is_headless:
            way = chosen_way()
            for text in said:
                driver.write(sequence(text, way))

    def on_queue_read(self, message: QueueRead) -> None:
        """The queue of this machine."""
        if (message.entries, message.holders) != (self.queue_entries, self.queue_holders):
            self.queue_entries, self.queue_holders = message.entries, message.holders
            self.state_changed.publish("queue")

    def on_run_seen(self, message: RunSeen) -> None:
        """The watched run has a new state, or new events."""
        message.taken.set()
        watched = self.watched
        if watched is None or message.run != watched.run:
            return
        before = watched.state.state
        for kind, reply in watched.take(message.state, message.events, message.earlier):
            if reply != "ok":
                self.notify(f"{kind} refused: {reply}", severity="warning")
        after = watched.state.state
        if before != after and before not in ENDED and before != "queued" and not message.earlier:
            self._tell_end(after)
        if not message.more:
            self.state_changed.publish("run")

    def _tell_end(self, state: str) -> None:
        if self.watched is None or self.replaying:
            return
        name = self.watched.state.name or self.watched.run.id
        if state == "finished":
            reason = self.watched.state.reason if self.watched.state.job == "caption" else ""
            self.notify(f"{name} has finished{': ' if reason else ''}{reason}.")
        elif state in {"failed", "crashed"}:
            seen = self.watched.state
            self.notify(f"{name} has {state}: {seen.reason} {seen.advice}", severity="error", timeout=15)

    def on_settings_read(self, message: SettingsRead) -> None:
        """What the watched run was launched with."""
        if self.watched is not None and message.run == self.watched.run:
            self.watched.settings = message.config
            self.state_changed.publish("run")

    def on_curves_read(self, message: CurvesRead) -> None:
        """All points of the watched run."""
        if self.watched is not None and message.run == self.watched.run:
            self.watched.curves = message.curves
            self.state_changed.publish("run")

    def on_curves_progress(self, message: CurvesProgress) -> None:
        """More of the journal was read."""
        if self.watched is not None and message.run == self.watched.run:
            self.watched.read_share = message.share
            self.state_changed.publish("run")

    def on_machine_read(self, message: MachineRead) -> None:
        """New figures of the machine."""
        self.reading = reading = message.reading
        watched = self.watched
        if watched is not None and watched.live and not self.replaying:
            around = None
            if watched.state.host == host_name():
                ram = reading.ram_used_gib / reading.ram_total_gib if reading.ram_total_gib else 0.0
                around = Surroundings(reading.gpus, ram, reading.disk_free_gib, reading.job_waits)
            watched.hindrances = hindrances(watched.state, time.time(), around)
        self.state_changed.publish("machine")
