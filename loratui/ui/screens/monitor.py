"""Room 4: one run, live, dead or recorded, on one page."""

from __future__ import annotations

from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.containers import Horizontal

from loratui.runs.diagnosis import Finding
from loratui.runs.state import ENDED
from loratui.ui import text
from loratui.ui.actions import Action, bindings
from loratui.ui.drawing import Row
from loratui.ui.panels.caption_run import CaptionRun
from loratui.ui.panels.gradients import GradientsPanel
from loratui.ui.panels.log import LogPanel
from loratui.ui.panels.loss import LossPanel
from loratui.ui.panels.machine import MachinePanel
from loratui.ui.panels.memory import MemoryPanel
from loratui.ui.panels.newest import NewestPanel
from loratui.ui.panels.numbers import NumbersPanel
from loratui.ui.panels.quarters import QuartersPanel
from loratui.ui.panels.rates import RatesPanel
from loratui.ui.panels.speed import SpeedPanel
from loratui.ui.screens.monitor_controls import CONTROLS, TRAINING_KEYS
from loratui.ui.screens.monitor_view import CURVES, VIEWS, Views
from loratui.ui.theme import Palette
from loratui.ui.widgets.facts import Facts
from loratui.ui.widgets.header import state_mark
from loratui.ui.widgets.line_list import LineList

_LIVE_KEYS = {"pause", "save_now", "sample_now", "stop", "prompts"}
_OF_TRAINING = {"save_now", "sample_now", "prompts", "panels", *CURVES}
_NOTICE_ROWS = 4


class MonitorRoom(Views):
    """Loss, figures, machine, newest samples, log; controls answer when the job has answered.

    A caption run has its figures, its newest captions and their pictures in place of loss and samples.
    """

    AUTO_FOCUS = ""
    ACTIONS: ClassVar[tuple[Action, ...]] = (
        Action("monitor.pause", "p", "pause", "pause", "Pause the run, or let it go on"),
        Action("monitor.save", "s", "save_now", "save now", "Write a checkpoint after this step"),
        Action("monitor.sample", "i", "sample_now", "sample now", "Draw the sample prompts after this step"),
        Action("monitor.prompts", "e", "prompts", "prompts", "Edit the sample prompts of this run"),
        Action("monitor.stop", "x", "stop", "stop…", "Finish the step, save, end; it can be resumed"),
        Action("monitor.resume", "r", "resume_run", "resume", "Go on from the newest checkpoint"),
        *VIEWS,
        Action(
            "monitor.samples",
            "enter",
            "results",
            "results",
            "Go to the samples, or to the captions",
            show=False,
        ),
        *CONTROLS,
    )
    BINDINGS = bindings(ACTIONS)
    DEFAULT_CSS = """
    MonitorRoom #notice { height: 1; padding: 0 2; display: none; }
    MonitorRoom #notice.-shown { display: block; }
    MonitorRoom .-hidden { display: none; }
    MonitorRoom #charts { height: 11; }
    MonitorRoom #charts > * { width: 1fr; }
    MonitorRoom #top { height: 14; }
    MonitorRoom #middle { height: 1fr; min-height: 6; }
    MonitorRoom #loss { width: 13fr; }
    MonitorRoom #numbers { width: 11fr; }
    MonitorRoom #machine { width: 13fr; height: 1fr; }
    MonitorRoom #newest { width: 11fr; height: 1fr; }
    MonitorRoom #log { height: 9; }
    MonitorRoom.-wide #top { height: 2fr; }
    MonitorRoom.-wide #charts { height: 1fr; min-height: 9; }
    MonitorRoom.-wide #middle { height: 2fr; }
    MonitorRoom.-wide #log { height: 1fr; min-height: 9; }
    MonitorRoom.-low #top, MonitorRoom.-low #charts { height: 1fr; }
    MonitorRoom.-low #middle { height: 1; min-height: 1; }
    MonitorRoom.-low #machine { border: none; width: 1fr; padding: 0 2; }
    MonitorRoom.-low #newest { border: none; height: 1; padding: 0 1; }
    MonitorRoom.-low #log { height: 6; }
    MonitorRoom.-charts #top, MonitorRoom.-charts #charts, MonitorRoom.-charts #middle { height: 1fr; }
    MonitorRoom.-charts #top { min-height: 8; }
    MonitorRoom.-charts #charts { min-height: 7; }
    MonitorRoom.-charts #log { height: 6; min-height: 5; }
    MonitorRoom.-charts.-wide #top, MonitorRoom.-charts.-wide #middle { height: 2fr; }
    MonitorRoom.-charts.-wide #log { height: 1fr; min-height: 9; }
    MonitorRoom.-charts.-low #middle { height: 1; min-height: 1; }
    MonitorRoom.-charts.-low #top, MonitorRoom.-charts.-low #charts { min-height: 5; }
    MonitorRoom.-charts.-low #log { height: 4; min-height: 3; max-height: 4; }
    MonitorRoom CaptionRun { display: none; }
    MonitorRoom.-caption CaptionRun { display: block; }
    MonitorRoom.-caption #top, MonitorRoom.-caption #charts, MonitorRoom.-caption #newest { display: none; }
    MonitorRoom.-caption #middle { height: 6; min-height: 1; }
    MonitorRoom.-caption.-low #middle { height: 1; }
    MonitorRoom.-caption.-low #log { height: 5; }
    MonitorRoom.-caption.-low #live-figures { height: 7; }
    MonitorRoom .-zoomed { display: block !important; width: 1fr !important; height: 1fr !important;
        max-height: 100vh !important; border: round $accent !important; padding: 0 1 !important; }
    MonitorRoom .-holds { display: block !important; width: 1fr !important; height: 1fr !important; }
    MonitorRoom .-beside { display: none !important; }
    """

    def __init__(self) -> None:
        super().__init__()
        self._told: list[Finding] = []
        self._keys_for: tuple[object, str] | None = ("", "")

    def body(self) -> ComposeResult:
        """Rows of panels over the log."""
        yield Facts(self._notice, id="notice")
        yield CaptionRun(self.studio.root)
        with Horizontal(id="top"):
            yield LossPanel()
            yield NumbersPanel()
        with Horizontal(id="charts"):
            yield QuartersPanel()
            yield RatesPanel()
            yield GradientsPanel()
            yield SpeedPanel()
            yield MemoryPanel()
        with Horizontal(id="middle"):
            yield MachinePanel()
            yield NewestPanel()
        yield LogPanel()

    def on_mount(self) -> None:
        """Arrange, then follow the app's state."""
        self.place_panels()
        super().on_mount()

    def follow(self, what: str) -> None:
        """New events, or new figures of the machine."""
        if not self.is_current and what in {"run", "machine"}:
            return  # drawn when the room is entered: a hidden page costs nothing
        watched = self.studio.watched
        if what == "run":
            if self.captioning != self.has_class("-caption"):
                self.unzoom()
                self.set_class(self.captioning, "-caption")
                self.place_panels()
            if watched is not None and self.captioning:
                self.query_one(CaptionRun).update(watched.state)
            else:
                self.update_curves()
                self.query_one(NumbersPanel).update(watched)
                self.query_one(NewestPanel).update(watched)
            log = self.query_one(LogPanel)
            log.update(watched.log if watched is not None else (), watched.told if watched is not None else 0)
            self._update_notice()
            self._update_keys()
        if what in {"run", "machine"}:
            live = watched is not None and watched.live
            self.query_one(MachinePanel).update(
                self.studio.reading,
                watched.state if watched is not None and (live or self.studio.replaying) else None,
            )
        if what == "machine" and watched is not None and watched.hindrances != self._told:
            self._update_notice()

    def _update_keys(self) -> None:
        """What can be done changes with the state of the run alone."""
        watched = self.studio.watched
        now = (watched.run, watched.state.state) if watched is not None else None
        if now != self._keys_for:
            self._keys_for = now
            self.refresh_bindings()

    # the notice: what needs attention

    def _update_notice(self) -> None:
        notice = self.query_one("#notice", Facts)
        news = self._news()
        self._told = self.studio.watched.hindrances if self.studio.watched is not None else []
        width = max(20, self.size.width - 6)
        rows = sum(len(text.wrap(words, width, most=2)) for _, words in news)
        notice.set_class(bool(news), "-shown")
        notice.styles.height = min(_NOTICE_ROWS, max(1, rows))
        notice.redraw()

    def _news(self) -> list[tuple[str, str]]:
        """(level, sentence) lines: what happened, and what waits."""
        watched = self.studio.watched
        if watched is None:
            return [("muted", "No run yet. 3 chooses a preset, enter there starts the training.")]
        state, captions = watched.state, self.captioning
        where = f"{'picture' if captions else 'step'} {state.step:,}"
        out: list[tuple[str, str]] = []
        if state.state in {"crashed", "failed"}:
            step = f" at {where}" if state.step else ""
            out.append(("red", f"{state.state}{step}: {text.plain(state.reason) or 'no reason was left'}"))
            back = "r goes on from there." if captions else "r resumes from the newest checkpoint."
            out.append(("muted", text.plain(state.advice) or back))
        elif state.state == "stopped":
            reason = text.plain(state.reason).rstrip(".")
            there = reason if reason.startswith("stopped at") else f"stopped at {where}. {reason}"
            out.append(("muted", there.rstrip(" .") + ". r goes on from there."))
        elif state.state == "paused":
            why = f"{text.plain(state.reason)} {text.plain(state.advice)}".strip()
            asked = why.startswith("paused by request")
            out.append(("amber", "paused; p lets it go on." if asked else f"paused. {why} p lets it go on."))
        elif captions and state.state == "finished":
            out.append(("muted", "finished. enter looks over what it wrote."))
        for found in watched.hindrances[:2]:
            level = "red" if found.level == "error" else "amber"
            out.append((level, text.plain(found.message)))
            out.append(("muted", text.plain(found.advice)))
        if watched.pending:
            kinds = ", ".join(sorted({wait.kind for wait in watched.pending.values()}))
            after = "batch" if captions else "step"
            out.append(("amber", f"asked for: {kinds}. The job answers after this {after}."))
        return out

    def _notice(self, width: int, height: int, colours: Palette) -> list[Row]:
        tints = {"red": colours.red, "amber": colours.amber, "muted": colours.muted}
        watched = self.studio.watched
        mark = state_mark(watched.state.state) if watched is not None else "○"
        rows: list[Row] = []
        for number, (level, words) in enumerate(self._news()):
            lead = (mark if number == 0 and level == "red" else " ") + " "
            for line in text.wrap(words, width - 2, most=2):
                rows.append([(lead, tints[level]), (line, tints[level])])
                lead = "  "
        return rows

    # actions

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Only what can be done now is offered; None keeps it in the help."""
        watched = self.studio.watched
        if action in _OF_TRAINING and self.captioning:
            return False
        if action in _LIVE_KEYS:
            if self.studio.replaying:
                return True if action == "pause" else None
            return True if watched is not None and watched.live else None
        if action in TRAINING_KEYS:
            live = watched is not None and watched.live and not self.studio.replaying
            return True if live and not self.captioning else None
        if action == "resume_run":
            ended = watched is not None and watched.state.state in ENDED - {"finished"}
            return True if ended and not self.studio.replaying else None
        return super().check_action(action, parameters)

    def action_pause(self) -> None:
        """Pause or go on; a recording is paused by its clock."""
        if self.studio.clock is not None:
            self.studio.clock.paused = not self.studio.clock.paused
            return
        watched = self.studio.watched
        if watched is not None:
            self.studio.request("resume" if watched.state.state == "paused" else "pause")

    def action_save_now(self) -> None:
        """Ask for a checkpoint."""
        self.studio.request("save")

    def action_sample_now(self) -> None:
        """Ask for samples."""
        self.studio.request("sample")

    def action_stop(self) -> None:
        """Ask, then ask the job to stop."""
        from loratui.ui.screens.confirm import ConfirmDialog

        watched = self.studio.watched
        assert watched is not None
        question = "The job finishes the step, saves a checkpoint and ends. It can be resumed from there."
        if self.captioning:
            question = "It ends after this batch; what is captioned stays. r goes on from there."
        dialog = ConfirmDialog(f"stop {watched.state.name or watched.run.id}", question, "stop it")
        self.app.push_screen(dialog, lambda yes: self.studio.request("stop") if yes else None)

    def action_prompts(self) -> None:
        """Edit the prompts of the samples to come."""
        from loratui.ui.screens.ask_lines import LinesDialog

        watched = self.studio.watched
        assert watched is not None

        def keep(lines: list[str] | None) -> None:
            if lines:
                self.studio.request("prompts", prompts=lines)

        say = "One prompt a line. They are drawn from the next samples on; seeds stay."
        self.app.push_screen(LinesDialog("sample prompts", watched.state.prompts, say), keep)

    def action_resume_run(self) -> None:
        """Go on from the newest checkpoint."""
        watched = self.studio.watched
        if watched is not None:
            self.studio.resume_run(watched.run)

    @on(LineList.Chosen, "#live-captions")
    async def action_results(self) -> None:
        """Go to what the run has made."""
        await self.studio.action_room("captions" if self.captioning else "samples")
