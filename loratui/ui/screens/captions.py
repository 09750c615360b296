"""Room 2: choose captioners and try them on a picture, watch a run, look over what it wrote."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from rich.cells import cell_len
from rich.style import Style
from textual import events, on
from textual.app import ComposeResult
from textual.containers import Horizontal
from textual.widget import Widget

from loratui.runs.state import ENDED
from loratui.ui import captioning, figures
from loratui.ui.actions import Action, bindings
from loratui.ui.captioning import Choices, Scope
from loratui.ui.drawing import Row
from loratui.ui.panels.caption_review import CaptionReview
from loratui.ui.panels.caption_run import CaptionRun
from loratui.ui.panels.caption_setup import CaptionSetup
from loratui.ui.panels.caption_try import CaptionTry
from loratui.ui.screens.captions_keys import ACTIONS, LAYOUT, PAGE_ACTIONS
from loratui.ui.screens.captions_review import ReviewPart
from loratui.ui.theme import Palette
from loratui.ui.widgets.facts import Facts
from loratui.ui.widgets.form import Form
from loratui.ui.widgets.line_list import LineList

if TYPE_CHECKING:
    from collections.abc import Sequence

    from loratui.caption.describe import Describer
    from loratui.caption.plan import CaptionPlan
    from loratui.errors import Problem

_PAGES = (("setup", "set up"), ("live", "run"), ("review", "look over"))
_FIRST = {"setup": "captioners", "live": "live-captions", "review": "queue"}
_MODES = ("missing", "replace", "append", "prepend")


class CaptionsRoom(ReviewPart):
    """Three pages: set up, run, look over; a try on one picture beside the first."""

    AUTO_FOCUS = ""
    ACTIONS: ClassVar[tuple[Action, ...]] = ACTIONS
    BINDINGS = bindings(ACTIONS)
    DEFAULT_CSS = LAYOUT

    def __init__(self) -> None:
        super().__init__()
        self._choices = Choices()
        self._number = 0
        self._tries = 0
        self._trying = False
        self._plan: CaptionPlan | None = None
        self._problems: Sequence[Problem] = ()
        self._read = False
        self._describer: Describer | None = None
        self._asked: tuple[Path, str] = (Path(), "")
        self._spots: list[tuple[int, int, str]] = []

    def body(self) -> ComposeResult:
        """The pages, one in sight."""
        yield Facts(self._summary, id="summary")
        with Horizontal(id="setup-page"):
            yield CaptionSetup(self._choices)
            yield CaptionTry()
        yield CaptionRun(self.studio.root)
        yield CaptionReview()

    def on_mount(self) -> None:
        """Start with the captioners; what the other classes do on mounting, Textual calls by itself."""
        if self.studio.caption_scope is not None:
            self.follow("caption_scope")
        self.query_one("#captioners", LineList).focus()

    def follow(self, what: str) -> None:
        """The project, its pictures, its runs, the machine."""
        project = self.studio.project
        if what in {"project", "scan"} and project is not None and not self._read:
            self._read = True
            self._thread(partial(captioning.read_catalog, project), "captioners")
        if what == "scan" and self.studio.scan is not None:
            self._show_pictures()
            self._check()
            self._read_review()
        elif what == "runs":
            self._find_run()
        elif what == "machine":
            self.query_one(CaptionSetup).reading = self.studio.reading
        elif what == "shown" and self._choices.scope == "filtered" and self.is_current:
            before = self._choices.only
            self._scope("filtered")
            if self._choices.only != before:
                self._show_pictures()
                self._check()
        elif what == "caption_scope":
            self._scope(self.studio.caption_scope or "all")
            self._show_page("setup")
            self._show_pictures()
            if self.studio.caption_here is not None:
                self.query_one(CaptionTry).go_to(self.studio.caption_here, self._key())
            self._check()

    def on_screen_resume(self) -> None:
        """Marks and filter may be others now."""
        self._scope(self._choices.scope)

    def on_unmount(self) -> None:
        """No model stays loaded for a window that is gone."""
        if self._describer is not None:
            self._describer.close()

    # pages

    def _show_page(self, page: str) -> None:
        self._page = page
        for name, _ in _PAGES:
            self.set_class(name == page, f"-{name}")
        self.remove_class("-trying")
        self.query_one(f"#{_FIRST[page]}", LineList).focus()
        self.refresh_bindings()
        self.query_one("#summary", Facts).redraw()

    def action_page(self, page: str) -> None:
        """Go to a page."""
        self._show_page(page)
        if page == "review":
            self._read_review()

    def action_leave_page(self) -> None:
        """Stop a try, or go back to choosing."""
        if self._trying:
            self._trying = False
            self._tries += 1
            if self._describer is not None:
                self._describer.stop()
            self.query_one(CaptionTry).go(0, self._key())
            self.refresh_bindings()
        elif self.has_class("-trying") or self._page != "setup":
            self._show_page("setup")
        elif isinstance(self.focused, Widget) and self.focused.id != "captioners":
            self.query_one("#captioners", LineList).focus()

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Only what the page has is offered; None keeps it in the help."""
        for page, actions in PAGE_ACTIONS.items():
            if action in actions and page != self._page:
                return False
        alive = self._state is not None and self._state.state not in ENDED
        if action in {"pause", "stop"}:
            return True if alive else None
        if action == "resume_run":
            return self._state is not None and self._state.state in ENDED - {"finished"}
        if action == "page":
            page = str(parameters[0]) if parameters else ""
            return page != self._page and (page != "live" or self._run is not None)
        if action == "scope":
            return len(self._scopes()) > 1
        if action in {"accept", "edit", "reject", "skip", "accept_all", "order"}:
            return True if self._waiting else None
        if action in {"try", "compare", "picture"}:
            return True if self.query_one(CaptionTry).picture is not None else None
        return super().check_action(action, parameters)

    def _summary(self, width: int, height: int, colours: Palette) -> list[Row]:
        """The pages, and how things stand."""
        row: Row = []
        self._spots = []
        at = 0
        for page, words in _PAGES:
            label = words
            if page == "live" and self._state is not None:
                label += f" {figures.count(self._state.step)}/{figures.count(self._state.steps)}"
            elif page == "review" and self._waiting:
                label += f" {figures.count(self._waiting)}"
            here = page == self._page
            tint = colours.accent + Style(bold=True) if here else colours.muted
            if page == "live" and self._state is not None and self._state.state not in ENDED and not here:
                tint = colours.green
            piece = f"{'▸' if here else ' '}{label}"
            self._spots.append((at, at + cell_len(piece), page))
            at += cell_len(piece) + 2
            row += [(piece, tint), ("  ", None)]
        tail = self._counts()
        room = width - at - cell_len(tail)
        return [[*row, (" " * room, None), (tail, colours.muted)]] if room > 0 else [row]

    def _counts(self) -> str:
        scan = self.studio.scan
        if scan is None:
            return "reading…"
        only = self._choices.only
        pictures = [p for p in scan.pictures if only is None or p.path in only]
        bare = sum(1 for picture in pictures if not picture.caption)
        what = "picture" if only is None else f"{self._choices.scope} picture"
        return f"{figures.plural(len(pictures), what)} · {figures.count(bare)} without a caption"

    @on(events.Click, "#summary")
    def _clicked(self, event: events.Click) -> None:
        offset = event.get_content_offset(self.query_one("#summary"))
        for start, end, page in self._spots:
            if offset is not None and start <= offset.x < end and self.check_action("page", (page,)):
                self.action_page(page)

    # setting up

    def on_catalog_read(self, message: captioning.CatalogRead) -> None:
        """The captioners; at first what was chosen last time, or one that can start."""
        if not self._choices.names and not self._choices.edits:
            if message.last is not None:
                self._choices.names[:] = message.last.names
                self._choices.edits |= message.last.edits
            else:
                self._choices.names[:] = [row.name for row, ready in message.rows if ready.ready][:1]
        self.query_one(CaptionSetup).show_catalog(message.rows)
        self._check()

    @on(CaptionSetup.Changed)
    def _changed(self) -> None:
        self._check()
        self.query_one(CaptionTry).go(0, self._key())

    def _show_pictures(self) -> None:
        scan, only = self.studio.scan, self._choices.only
        if scan is not None:
            shown = [p for p in scan.pictures if only is None or p.path in only]
            self.query_one(CaptionSetup).pictures = len(scan.pictures)
            self.query_one(CaptionSetup).redraw()
            self.query_one(CaptionTry).show_pictures(shown)
            self.query_one(CaptionTry).go(0, self._key())
        self.query_one("#summary", Facts).redraw()

    def _check(self) -> None:
        """What a start would do, in a thread; the newest change wins."""
        project, scan = self.studio.project, self.studio.scan
        if project is None or scan is None:
            return
        self._number += 1
        choices = replace(self._choices, names=list(self._choices.names), edits=dict(self._choices.edits))
        if not choices.names:
            self._plan, self._problems = None, ()
            self.query_one(CaptionSetup).show_checked(None, ())
            return
        self.query_one(CaptionSetup).checking()
        self._thread(partial(captioning.check, project, scan, choices, self._number), "check")

    def on_plan_checked(self, message: captioning.PlanChecked) -> None:
        """Show it, unless something was changed since."""
        if message.number == self._number:
            self._plan, self._problems = message.plan, message.problems
            self.query_one(CaptionSetup).show_checked(message.plan, message.problems)

    def action_choose(self) -> None:
        """Choose the captioner under the cursor."""
        self.query_one(CaptionSetup).toggle()

    def action_mode(self) -> None:
        """The next mode."""
        now = self._choices.mode
        after = _MODES[(_MODES.index(now) + 1) % len(_MODES)] if now in _MODES else _MODES[0]
        self.query_one(CaptionSetup).post_message(Form.Edited("mode", after))
        self.notify(f"mode: {after}", timeout=2)

    def action_scope(self) -> None:
        """All pictures, those that are marked, those that the filter shows: the next of what there is."""
        scopes = self._scopes()
        self._scope(scopes[(scopes.index(self._choices.scope) + 1) % len(scopes)])
        self._show_pictures()
        self._check()

    def _scopes(self) -> list[Scope]:
        library = self.studio.library
        scopes: list[Scope] = ["all"]
        scopes += ["marked"] if library.marked else []
        scopes += ["filtered"] if library.filter else []
        return scopes

    def _scope(self, scope: Scope) -> None:
        """Caption these; all when there are no marks or no filter any more."""
        library = self.studio.library
        choices = self._choices
        choices.scope = scope if scope in self._scopes() else "all"
        choices.only = None
        if choices.scope == "marked":
            choices.only = frozenset(library.marked)
        elif choices.scope == "filtered":  # none is none: a filter that shows nothing captions nothing
            choices.only = frozenset(row.known.path for row in library.shown)

    def action_start(self) -> None:
        """Start, or say what keeps it."""
        from loratui.caption.start import nothing_to_do

        project, plan = self.studio.project, self._plan
        if project is None or (plan is None and not self._problems):
            self.notify("space chooses a captioner first." if self._read else "The project is not read yet.")
            return
        if plan is None:
            first = self._problems[0]
            self.notify(f"{first.message}\n{first.advice}".strip(), title="cannot start", severity="error")
            return
        if not plan.pictures:
            self.notify(f"{nothing_to_do(plan)}\nm chooses another mode.", severity="warning")
            return
        self._stop_try()
        self.notify("Starting…", timeout=2)
        self._thread(partial(captioning.start, project, plan), "start")

    def on_captions_started(self, message: captioning.CaptionsStarted) -> None:
        """Watch it; in the Monitor, too, unless another run is at work there."""
        self._follow_run(message.run)
        watched = self.studio.watched
        if watched is None or not watched.live or watched.run == message.run:
            self.studio.observe(message.run)
        self._show_page("live")

    # trying

    def _key(self) -> str:
        """The choices that an answer belongs to."""
        edits = {k: v for k, v in self._choices.edits.items() if k != "mode"}
        return json.dumps([sorted(self._choices.names), sorted(edits.items())])

    def action_picture(self, by: int) -> None:
        """To another picture; a try that goes on is for the one before."""
        self._stop_try()
        self.add_class("-trying")
        self.query_one(CaptionTry).go(by, self._key())

    def action_try(self) -> None:
        """Ask the chosen captioners, or the one under the cursor when none is chosen."""
        current = self.query_one(CaptionSetup).current
        names = list(self._choices.names) or ([current.name] if current is not None else [])
        self._ask(names, self._key())

    def action_compare(self) -> None:
        """Ask the chosen ones and the one under the cursor."""
        current = self.query_one(CaptionSetup).current
        names = list(self._choices.names)
        if current is not None and current.name not in names:
            names.append(current.name)
        if len(names) < 2:
            self.notify("Put the cursor on a second captioner to compare with.")
            return
        self._ask(names, f"{names}")

    def _ask(self, names: list[str], key: str) -> None:
        from loratui.caption.choosing import choose
        from loratui.caption.describe import Describer, Question
        from loratui.errors import LoratuiError

        picture, project = self.query_one(CaptionTry).picture, self.studio.project
        if picture is None or project is None or not names:
            return
        choices = Choices(names, self._choices.edits)
        self.add_class("-trying")
        try:
            settings, captioners = choose(names, choices.values())
        except LoratuiError as error:
            problem = next(iter(error.problems), None)
            said = (problem.message, problem.advice) if problem is not None else (error.message, error.advice)
            self.query_one(CaptionTry).fail(*said)
            return
        self._stop_try()
        self._trying = True
        self._describer = self._describer or Describer()
        question = Question(
            picture.path,
            settings,
            captioners,
            project.trigger,
            picture.caption,
            picture.frame,
            self.studio.data_settings.paper,
        )
        number, describer = self._tries, self._describer
        self._asked = (picture.path, key)
        self.query_one(CaptionTry).tell("starting…")
        self._thread(partial(captioning.try_on, describer, question, number), "try")

    def _stop_try(self) -> None:
        self._tries += 1
        if self._trying and self._describer is not None:
            self._describer.stop()
        self._trying = False

    def on_try_told(self, message: captioning.TryTold) -> None:
        """Progress, or the end of the newest try."""
        if message.number != self._tries:
            return
        panel = self.query_one(CaptionTry)
        if message.progress:
            panel.tell(message.progress)
            return
        self._trying = False
        if message.answer is not None:
            panel.keep(*self._asked, message.answer)
        else:
            panel.fail(message.error, message.advice)
