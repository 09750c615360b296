"""Room 6: all runs of the project, what became of them, and the way back to each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

from rich.style import Style
from textual import on
from textual.app import ComposeResult
from textual.containers import Horizontal, Vertical
from textual.content import Content

from loratui.runs.state import ENDED, RunState
from loratui.ui import figures, text
from loratui.ui.actions import Action, bindings
from loratui.ui.drawing import Row
from loratui.ui.panels.queue import QueuePanel
from loratui.ui.screens import runs_keys
from loratui.ui.screens.runs_deeds import RunsDeeds
from loratui.ui.theme import Palette
from loratui.ui.titles import set_title
from loratui.ui.widgets.facts import Facts
from loratui.ui.widgets.header import state_mark
from loratui.ui.widgets.line_list import LineList

if TYPE_CHECKING:
    from loratui.runs.directory import RunDir

_LABEL = 10
RESUMABLE = (ENDED - {"finished"}) | {"held"}
_WITH_TIMES, _WIDE = 70, 84
"""Cells of the list from which it has best loss and duration, and the preset too."""
_JOBS = {"train": "training", "caption": "captions", "sample": "more samples"}


class RunsRoom(RunsDeeds):
    """The list, newest first; what is known of the run under the cursor beside it."""

    ACTIONS: ClassVar[tuple[Action, ...]] = runs_keys.ACTIONS
    BINDINGS = bindings(ACTIONS)
    DEFAULT_CSS = """
    RunsRoom #split { height: 1fr; }
    RunsRoom #list-panel { width: 15fr; padding: 0; }
    RunsRoom #details { width: 8fr; height: 1fr; }
    RunsRoom.-narrow #split { layout: vertical; }
    RunsRoom.-narrow #list-panel { width: 1fr; height: 1fr; }
    RunsRoom.-narrow #details { width: 1fr; height: 10; }
    """

    def __init__(self) -> None:
        super().__init__()
        self._runs: Sequence[tuple[RunDir, RunState]] = ()

    def body(self) -> ComposeResult:
        """List and details."""
        empty = (
            "No runs yet.\n3 chooses a preset; s there starts a training. It goes on when this window closes."
        )
        yield QueuePanel()
        with Horizontal(id="split"):
            with Vertical(id="list-panel", classes="panel") as panel:
                panel.border_title = "runs"
                yield LineList(self._row, self._heading, empty, id="runs")
            details = Facts(self._details, id="details", classes="panel")
            details.border_title = "run"
            yield details

    def on_mount(self) -> None:
        """Start in the list."""
        super().on_mount()
        self._show_queue()  # it is told of only when it changes, and may have been read before
        self._history.focus()

    @property
    def _history(self) -> LineList:
        return self.query_one("#runs", LineList)

    def follow(self, what: str) -> None:
        """The list changed, the state of one, or the queue."""
        if what == "queue":
            self._show_queue()
            return
        if what != "runs" and not (what == "run" and self.is_current):
            return
        before = self._current()
        self._runs = self._fresh()
        view = self._history
        at = next(
            (i for i, (run, _) in enumerate(self._runs) if before is not None and run == before[0]), None
        )
        view.show_rows(len(self._runs), at)
        self._show_details()

    def _show_queue(self) -> None:
        panel = self.query_one(QueuePanel)
        inside = panel.has_cursor
        panel.update(self.studio.queue_holders, self.studio.queue_entries, self.studio.now())
        if inside and not panel.entries:
            self._history.focus()
        self.refresh_bindings()

    def _fresh(self) -> Sequence[tuple[RunDir, RunState]]:
        """The listed states; of the watched run the newest one."""
        watched = self.studio.watched
        if watched is None:
            return self.studio.runs
        return [(run, watched.state if run == watched.run else state) for run, state in self.studio.runs]

    def under_cursor(self) -> tuple[RunDir, RunState] | None:
        """The run of the history under its cursor."""
        return self._current()

    def known(self) -> Sequence[tuple[RunDir, RunState]]:
        """All runs of the project."""
        return self._runs

    def after_mark(self) -> None:
        """Show the marks, and move on."""
        panel = self.query_one("#list-panel")
        count = sum(run in self.marked for run, _ in self._runs)
        words = Content.styled(f"{count} marked", "$accent") if count else Content("")
        set_title(panel, words, below=True)
        self._history.action_cursor(1)
        self._history.refresh()

    def _current(self) -> tuple[RunDir, RunState] | None:
        cursor = self._history.cursor
        return self._runs[cursor] if cursor < len(self._runs) else None

    @on(LineList.Moved, "#runs")
    def _show_details(self) -> None:
        details = self.query_one("#details", Facts)
        current = self._current()
        name = (current[1].name or current[0].name) if current is not None else "run"
        set_title(details, text.shorten(text.plain(name), 36))
        details.redraw()
        self.refresh_bindings()

    # drawing

    def _heading(self, _index: int, width: int, colours: Palette) -> Row:
        name = self._name_cells(width)
        right = "steps".rjust(12) + "loss".rjust(8)
        if width >= _WITH_TIMES:
            right += "best".rjust(8) + "took".rjust(9)
        if width >= _WIDE:
            right += "score".rjust(7) * self._scored + "  " + "preset".ljust(18)
        right += "  " + "started".rjust(10)
        return [("   " + text.fit("name", name) + "  " + "state".ljust(9) + right, colours.muted)]

    def _name_cells(self, width: int) -> int:
        """Cells that are left for a run's name."""
        times = 17 if width >= _WITH_TIMES else 0
        more = 20 + 7 * self._scored if width >= _WIDE else 0
        return max(8, width - 46 - times - more)

    @property
    def _scored(self) -> bool:
        """Whether any run has a score."""
        return any(state.scores for _, state in self._runs)

    def _row(self, index: int, width: int, colours: Palette) -> Row:
        run, state = self._runs[index]
        name = self._name_cells(width)
        watched = self.studio.watched
        here = watched is not None and watched.run == run
        tint = colours.state(state.state)
        steps = f"{figures.count(state.step)}/{figures.count(state.steps)}" if state.steps else "–"
        rest: Row = []
        if width >= _WITH_TIMES:
            took = figures.duration(max(0.0, state.updated_at - state.created_at))
            rest.append((figures.loss(state.best_loss).rjust(8) + took.rjust(9), colours.text))
        if width >= _WIDE:
            if self._scored:
                first = next(iter(state.scores.values()), None)
                rest.append((("–" if first is None else f"{first:.2f}").rjust(7), colours.green))
            rest.append(("  " + text.fit(text.plain(state.preset) or "–", 18), colours.muted))
        mark = ("●", colours.accent) if run in self.marked else (" ", None)
        return [
            mark,
            (f"{state_mark(state.state)} ", tint),
            (text.fit(text.plain(state.name or run.name), name), colours.bold if here else colours.text),
            ("  " + state.state.ljust(9), tint),
            (steps.rjust(12), colours.text),
            (figures.loss(state.loss_smooth).rjust(8), colours.text),
            *rest,
            ("  " + figures.ago(state.created_at, self.studio.now()).rjust(10), colours.muted),
        ]

    def _details(self, width: int, height: int, colours: Palette) -> list[Row]:
        current = self._current()
        if current is None:
            return []
        run, state = current
        rows: list[Row] = []

        def line(label: str, value: str, tint: Style | None = None) -> None:
            for number, part in enumerate(text.wrap(value, max(8, width - _LABEL), most=4)):
                rows.append(
                    [
                        ((label if number == 0 else "").ljust(_LABEL), colours.muted),
                        (part, tint or colours.text),
                    ]
                )

        line("state", f"{state_mark(state.state)} {state.state}", colours.state(state.state))
        if state.reason:
            line("why", text.plain(state.reason), colours.state(state.state))
        if state.advice:
            line("advice", text.plain(state.advice), colours.muted)
        line("what", _JOBS.get(state.job, text.plain(state.job)))
        line("preset", text.plain(state.preset) or "none")
        line("base", text.plain(state.base).rsplit("/", 1)[-1] or "–")
        line("started", figures.date(state.created_at))
        if state.started_at and state.updated_at > state.started_at:
            line("took", figures.duration(state.updated_at - state.created_at))
        if state.job == "train":
            line("loss", f"{figures.loss(state.loss_smooth)}   best {figures.loss(state.best_loss)}")
            saved = ", ".join(figures.count(c.step) for c in state.checkpoints[-4:])
            line("saved", saved or "nothing")
        line("samples", figures.count(len(state.samples)))
        if state.scores:
            line(
                "scores",
                "  ".join(f"{text.plain(k)} {v:.2f}" for k, v in state.scores.items()),
                colours.green,
            )
        if state.exported:
            line("file", text.plain(state.exported), colours.green)
        for consumer, pair in state.verified.items():
            good = pair[0] == pair[1]
            line(
                "", f"{text.plain(consumer)} {pair[0]}/{pair[1]} keys", colours.green if good else colours.red
            )
        inside = run.path.is_relative_to(self.studio.root)
        line("folder", text.plain(run.path.relative_to(self.studio.root) if inside else run.path))
        return rows

    # actions

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Only what this run's state allows is offered."""
        current = self._current() if self.is_mounted else None
        in_queue = self.is_mounted and self.query_one(QueuePanel).has_cursor
        if action in runs_keys.QUEUE_KEYS:
            return True if in_queue and self.query_one(QueuePanel).current is not None else None
        if action == "discard" and in_queue:
            return True
        if in_queue and action in {"open", "resume_run", "export", "stop", "mark", "clone"}:
            return None
        if action in {"discard", "clone", "mark", "overlay", "differ", "prune"}:
            gone = action == "discard" and current is not None and current[1].state not in ENDED
            captions = action == "clone" and current is not None and current[1].job != "train"
            return True if current is not None and not gone and not captions else None
        if action in {"open", "samples"}:
            return True if current is not None else None
        if action == "resume_run":
            return True if current is not None and current[1].state in RESUMABLE else None
        if action == "export":
            return True if current is not None and (current[1].checkpoints or current[1].exported) else None
        if action == "stop":
            return True if current is not None and current[1].state not in ENDED else None
        return super().check_action(action, parameters)

    @on(LineList.Chosen, "#runs")
    async def _chosen(self) -> None:
        await self.action_open()

    @on(LineList.Moved, "#queue")
    def _queue_moved(self) -> None:
        self.refresh_bindings()

    def on_descendant_focus(self) -> None:
        """Other keys matter in the queue."""
        self.refresh_bindings()

    def _watch_current(self) -> bool:
        current = self._current()
        if current is None:
            return False
        if self.studio.watched is None or self.studio.watched.run != current[0]:
            self.studio.observe(current[0])
        return True

    async def action_open(self) -> None:
        """Open the run in the monitor."""
        if self._watch_current():
            await self.studio.action_room("monitor")

    async def action_samples(self) -> None:
        """See its samples."""
        if self._watch_current():
            await self.studio.action_room("samples")

    def action_resume_run(self) -> None:
        """Go on from the newest checkpoint; a held run waits for its turn again."""
        current = self._current()
        if current is not None and current[1].state == "held":
            self.studio.release_run(current[0])
        elif current is not None:
            self.studio.resume_run(current[0])

    def action_stop(self) -> None:
        """Ask, then ask the job to stop."""
        from loratui.ui.screens.confirm import ConfirmDialog

        if not self._watch_current() or self.studio.watched is None:
            return
        name = self.studio.watched.state.name or self.studio.watched.run.id
        question = "The job finishes the step, saves a checkpoint and ends. It can be resumed from there."
        dialog = ConfirmDialog(f"stop {name}", question, "stop it")
        self.app.push_screen(dialog, lambda yes: self.studio.request("stop") if yes else None)
