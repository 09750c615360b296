"""What the Captions room knows and asks for: choices, and the thread bodies that find things out.

Nothing here touches a widget; `post` may be called from any thread.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from textual.message import Message

from loratui.caption.settings import CaptionSettings
from loratui.captioners.options import option_table, option_values
from loratui.captioners.spec import CAPTIONERS, CaptionerSpec, captioner_spec
from loratui.config.docs import FieldInfo
from loratui.errors import LoratuiError, Problem
from loratui.runs.state import ENDED, RunState
from loratui.ui.widgets.form_rows import Group

if TYPE_CHECKING:
    from loratui.caption.choosing import Readiness
    from loratui.caption.describe import Answer, Describer, Question
    from loratui.caption.plan import CaptionPlan
    from loratui.caption.review import Waiting
    from loratui.dataset.scan import Scan
    from loratui.project import Project
    from loratui.project.history import History, Outcome
    from loratui.runs.directory import RunDir

POLL_S = 0.25
STEPS = ("Taken back", "Done again")
"""How undo and redo are told."""
_SETTINGS = (
    "mode", "template", "insert_trigger", "class_word", "prefix", "suffix", "blacklist", "max_tags",
    "max_tokens", "lines", "workers",
)  # fmt: skip
Scope = Literal["all", "marked", "filtered"]
Post = Callable[[Message], Any]
Gone = Callable[[], bool]


@dataclass
class Choices:
    """What the user has chosen.

    Attributes:
        names: captioners, in the order in which they speak.
        edits: `mode` or `blip.beams` -> the value as it was typed.
        only: the pictures that were marked, or that the filter shows; None for all.
        scope: which of these, in words.
    """

    names: list[str] = field(default_factory=list)
    edits: dict[str, str] = field(default_factory=dict)
    only: frozenset[Path] | None = None
    scope: Scope = "all"

    def values(self) -> dict[str, Any]:
        """The edits as `prepare_captions` takes them, those of the chosen captioners alone."""
        table = self.table()
        return {
            path: _parts(text) if table[path].kind == "list" else text
            for path, text in self.edits.items()
            if path in table
        }

    def table(self) -> dict[str, FieldInfo]:
        """Path -> field of all settings of the chosen captioners."""
        own = option_table(CaptionSettings)
        out = {key: own[key] for key in _SETTINGS}
        for name in self.names:
            row = captioner_spec(name)
            for key, info in option_table(row.options).items() if row is not None else ():
                out[f"{name}.{key}"] = replace(info, path=f"{name}.{key}", section=name)
        return out

    def lines(self) -> list[FieldInfo | Group]:
        """The form: how captions are made, then each captioner's options."""
        out: list[FieldInfo | Group] = [Group("captions")]
        section = ""
        for info in self.table().values():
            if info.section != section:
                section = info.section
                out.append(Group(section))
            out.append(info)
        return out

    def shown(self) -> dict[str, Any]:
        """Path -> value as the form shows it."""
        return {path: self.edits.get(path, info.default) for path, info in self.table().items()}

    def toggle(self, name: str) -> None:
        """Choose a captioner, or do without it."""
        if name in self.names:
            self.names.remove(name)
        else:
            self.names.append(name)

    @property
    def mode(self) -> str:
        """What becomes of captions that are there."""
        return self.edits.get("mode", "missing")


def _parts(text: str) -> list[str]:
    """`a, b; c` as a list."""
    return [part.strip() for part in re.split(r"[;,]", text) if part.strip()]


# what the threads tell


@dataclass
class CatalogRead(Message):
    """All captioners, those that can start first; and the choices of the newest caption run."""

    rows: Sequence[tuple[CaptionerSpec, Readiness]]
    last: Choices | None


@dataclass
class PlanChecked(Message):
    """What a start would do now; `number` tells which change this answers."""

    number: int
    plan: CaptionPlan | None
    problems: Sequence[Problem]


@dataclass
class TryTold(Message):
    """How far a try is; or its end, with an answer or an error."""

    number: int
    progress: str = ""
    answer: Answer | None = None
    error: str = ""
    advice: str = ""


@dataclass
class CaptionRunSeen(Message):
    """The state of the caption run that is followed."""

    run: RunDir
    state: RunState

    def can_replace(self, message: Message) -> bool:
        """Only the newest state matters."""
        return isinstance(message, CaptionRunSeen) and message.run == self.run


@dataclass
class CaptionsStarted(Message):
    """A caption run was launched."""

    run: RunDir


@dataclass
class ReviewRead(Message):
    """What waits for a verdict."""

    items: Sequence[Waiting]


@dataclass
class Judged(Message):
    """A verdict was given, or taken back."""

    said: str = ""
    severity: str = "information"


@dataclass
class BeforeRead(Message):
    """What a caption was before its run; None when there was none."""

    item: Waiting
    text: str | None


# thread bodies


def read_catalog(project: Project | None, post: Post, gone: Gone) -> None:
    """Which captioners are at hand, and what was chosen last time."""
    from loratui.caption.choosing import readiness

    last = _last_choices(project) if project is not None else None
    edits = last.edits if last is not None else {}
    rows = [(row, readiness(row, edits.get(f"{row.name}.model", ""))) for row in CAPTIONERS]
    rows.sort(key=lambda pair: not pair[1].ready)
    if not gone():
        post(CatalogRead(rows, last))


def _last_choices(project: Project) -> Choices | None:
    """Captioners and changed options of the newest caption run."""
    from loratui.caption.plan import read_plan
    from loratui.caption.results import NAME
    from loratui.runs.directory import list_runs

    for run in list_runs(project.runs_dir):
        if not (run.path / NAME).is_file():
            continue
        try:
            _, plan = read_plan(run.path)
        except LoratuiError:
            continue
        edits = _changed("", plan.settings)
        edits.pop("mode", None)  # replacing again must be asked for again
        for chosen in plan.captioners:
            edits |= _changed(f"{chosen.row.name}.", chosen.options)
        return Choices([c.row.name for c in plan.captioners], edits)
    return None


def _changed(prefix: str, options: Any) -> dict[str, str]:
    table = option_table(type(options))
    values = {k: v for k, v in option_values(options).items() if v != table[k].default}
    return {prefix + key: as_text(value) for key, value in values.items()}


def as_text(value: Any) -> str:
    """A value as the form takes it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, tuple | list):
        return "; ".join(map(str, value))
    return "" if value is None else f"{value:g}" if isinstance(value, float) else str(value)


def check(project: Project, scan: Scan | None, choices: Choices, number: int, post: Post, gone: Gone) -> None:
    """What a start would do."""
    from loratui.caption.start import prepare_captions

    only = choices.only
    try:
        plan = prepare_captions(
            project,
            choices.names,
            choices.values(),
            None if only is None else lambda path: path in only,
            scan,
        )
    except LoratuiError as error:
        own = error.problems or (Problem("", "unready", "error", error.message, advice=error.advice),)
        if not gone():
            post(PlanChecked(number, None, own))
        return
    if not gone():
        post(PlanChecked(number, plan, ()))


def start(project: Project, plan: CaptionPlan, post: Post, gone: Gone) -> None:
    """Launch a plan that was checked."""
    from loratui.caption.start import start_captions
    from loratui.ui.messages import Said

    try:
        run = start_captions(project, plan)
    except LoratuiError as error:
        post(Said(error.message, error.advice, "error"))
        return
    post(CaptionsStarted(run))


def try_on(describer: Describer, question: Question, number: int, post: Post, gone: Gone) -> None:
    """Ask the child process about one picture."""
    from loratui.ui import figures

    began = time.monotonic()

    def told(what: str) -> None:
        post(TryTold(number, f"{what} {figures.duration(time.monotonic() - began)}"))

    try:
        answer = describer.ask(question, told)
    except (LoratuiError, OSError) as error:
        post(TryTold(number, error=str(error), advice=getattr(error, "advice", "")))
        return
    post(TryTold(number, answer=answer))


def follow(run: RunDir, post: Post, gone: Gone) -> None:
    """Watch a caption run until it has ended."""
    from loratui.runs.status import Watch
    from loratui.ui.feed import frozen

    watch = Watch(run)
    shown = ""
    while not gone():
        events = watch.poll()
        state = watch.state
        mark = f"{state.state} {state.reason}"
        if events or mark != shown:
            shown = mark
            post(CaptionRunSeen(run, frozen(state)))
        if state.state in ENDED:
            return
        time.sleep(POLL_S)


def read_review(project: Project, post: Post, gone: Gone) -> None:
    """What waits for a verdict."""
    from loratui.caption.review import waiting

    items = waiting(project, open_history(project))
    if not gone():  # else a newer look is under way
        post(ReviewRead(items))


def judge(project: Project, act: Callable[[History], Outcome], done: str, post: Post, gone: Gone) -> None:
    """Give a verdict, or take one back."""
    from loratui.ui import figures

    history = open_history(project)
    severity, said = "information", done
    try:
        outcome = act(history)
    except LoratuiError as error:
        severity, said = "error", f"{error.message}\n{error.advice}"
    else:
        refused = [f"{path.name} {why}" for path, why in outcome.left]
        refused += [f"{conflict.path.name} was changed since" for conflict in outcome.conflicts]
        if refused:
            severity, said = "warning", f"Left alone: {', '.join(refused[:3])}{'…' * (len(refused) > 3)}"
        elif not outcome.entry:
            said = "There is nothing to take back." if done.startswith("Taken") else "Nothing was changed."
        elif done in STEPS:
            files = f", {figures.plural(len(outcome.written), 'file')}" if outcome.written else ""
            said = f"{done}: {outcome.label}{files}."
    post(Judged(said, severity))


def read_before(project: Project, item: Waiting, post: Post, gone: Gone) -> None:
    """What a caption was before its run."""
    from loratui.caption.review import text_before

    try:
        before = text_before(open_history(project), item)
    except LoratuiError:
        before = None
    if not gone():
        post(BeforeRead(item, before))


def open_history(project: Project) -> History:
    """The project's history, with the folders it may write to."""
    from loratui.project.history import History

    return History(project.root, [source.path for source in project.scan_sources()])
