"""Room 3: choose a preset, change what matters, see the plan, start."""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING, Any, ClassVar

from textual import on
from textual.app import ComposeResult
from textual.containers import Horizontal, Vertical
from textual.content import Content
from textual.message import Message

from loratui.config.docs import FieldInfo, field_table
from loratui.config.schema import RunConfig
from loratui.errors import LoratuiError, Problem
from loratui.ui import text
from loratui.ui.actions import Action, bindings
from loratui.ui.drawing import Row
from loratui.ui.panels.plan import PlanPanel
from loratui.ui.screens.room import Room
from loratui.ui.theme import Palette
from loratui.ui.widgets.facts import Facts
from loratui.ui.widgets.form import Form, Group
from loratui.ui.widgets.line_list import LineList

if TYPE_CHECKING:
    from loratui.config.presets import Preset
    from loratui.project.start import Ready
    from loratui.ui.watching import Gone, Post

_FORM: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("how long", ("optimizer.steps", "optimizer.epochs", "data.repeats", "data.batch_size")),
    (
        "how it learns",
        ("optimizer.lr", "optimizer.schedule", "optimizer.warmup_steps", "objective.min_snr_gamma"),
    ),
    (
        "the LoRA",
        (
            "network.kind",
            "network.rank",
            "network.alpha",
            "network.target",
            "network.text_encoder",
            "saving.name",
        ),
    ),
    ("pictures", ("data.resolution", "data.flip", "data.caption_dropout")),
    (
        "machine",
        ("memory.device", "memory.precision", "memory.gradient_checkpointing", "optimizer.accumulation"),
    ),
    ("samples and saves", ("samples.every", "saving.every", "saving.keep", "objective.seed")),
)


class PlanMade(Message):
    """The settings were resolved and assessed; `number` tells which change they answer."""

    def __init__(
        self,
        number: int,
        config: RunConfig | None,
        ready: Ready | None,
        problems: tuple[Problem, ...],
        base: Any,
    ) -> None:
        super().__init__()
        self.number, self.config, self.ready, self.problems, self.base = number, config, ready, problems, base


class PresetsRead(Message):
    """All presets there are."""

    def __init__(self, presets: list[Preset], problems: list[Problem]) -> None:
        super().__init__()
        self.presets, self.problems = presets, problems


class TrainRoom(Room):
    """Presets on the left, the form in the middle, the plan on the right."""

    ACTIONS: ClassVar[tuple[Action, ...]] = (
        Action(
            "train.start", "s", "start", "start", "Start the training; it is detached and needs no window"
        ),
        Action(
            "train.reset",
            "R",
            "reset_all",
            "all as preset",
            "Take the preset's values for all settings",
            show=False,
        ),
    )
    BINDINGS = bindings(ACTIONS)
    DEFAULT_CSS = """
    TrainRoom #split { height: 1fr; }
    TrainRoom .panel { padding: 0; }
    TrainRoom #presets-panel { width: 8fr; min-width: 24; }
    TrainRoom #form-panel { width: 10fr; }
    TrainRoom #plan { width: 12fr; padding: 0 1; }
    TrainRoom #help { height: 4; padding: 0 1; border-top: solid $faint; }
    TrainRoom #about { height: 5; padding: 0 1; border-top: solid $faint; }
    TrainRoom.-low #help { height: 3; }
    TrainRoom.-low #about { height: 4; }
    TrainRoom.-narrow #presets-panel { width: 20; min-width: 20; }
    TrainRoom.-narrow #form-panel { width: 1fr; }
    TrainRoom.-narrow #plan { width: 1fr; }
    """

    def __init__(self) -> None:
        super().__init__()
        self._presets: list[Preset] = []
        self._edits: dict[str, str] = {}
        self._config: RunConfig | None = None
        self._ready: Ready | None = None
        self._family = ""
        self._asked = 0
        self._reading = False
        self._base_values: dict[str, Any] = {}

    def body(self) -> ComposeResult:
        """Three columns."""
        with Horizontal(id="split"):
            with Vertical(id="presets-panel", classes="panel"):
                yield LineList(self._preset_row, None, "Reading the presets…", id="presets")
                yield Facts(self._about, id="about")
            with Vertical(id="form-panel", classes="panel"):
                yield Form(id="form")
                yield Facts(self._help, id="help")
            yield PlanPanel()

    def on_mount(self) -> None:
        """Start with the presets."""
        self.query_one("#presets-panel").border_title = "presets"
        self.query_one("#form-panel").border_title = "settings"
        super().on_mount()
        self.query_one("#presets", LineList).focus()

    def follow(self, what: str) -> None:
        """The project and its pictures decide the plan."""
        if what == "project" and self.studio.project is not None and not self._reading:
            self._reading = True
            self.studio.in_thread(self._read_presets, "presets", self)
        elif what == "scan" and self._presets:
            self._plan()
        elif what == "clone" and self._presets:
            self._take_clone()

    # presets

    def _read_presets(self, post: Post, _gone: Gone) -> None:
        from loratui.config.presets import list_presets

        post(PresetsRead(*list_presets(self.studio.root)))

    def on_presets_read(self, message: PresetsRead) -> None:
        """Show them, the project's own choice under the cursor."""
        self._presets = message.presets
        project = self.studio.project
        chosen = project.preset if project is not None else ""
        if not chosen and project is not None:
            chosen = "demo" if project.base == "demo" else ""
        at = next((i for i, p in enumerate(self._presets) if p.name == chosen), 0)
        view = self.query_one("#presets", LineList)
        view.say("No presets were found. Put recipes as TOML files into the folder presets of this project.")
        view.show_rows(len(self._presets), at)
        self.query_one("#about", Facts).redraw()
        for problem in message.problems:
            self.notify(str(problem), severity="warning")
        if self.studio.cloned is not None:
            self._take_clone()
        else:
            self._plan()

    def _take_clone(self) -> None:
        """Take over preset and settings of a run that is to be changed and started anew."""
        if self.studio.cloned is None:
            return
        preset, self._edits = self.studio.cloned
        self.studio.cloned = None
        at = next((i for i, p in enumerate(self._presets) if p.name == preset), None)
        view = self.query_one("#presets", LineList)
        view.show_rows(len(self._presets), at)
        self._plan()
        self.notify("The settings of that run; change what should differ, then s starts it.")

    @property
    def _preset(self) -> Preset | None:
        cursor = self.query_one("#presets", LineList).cursor
        return self._presets[cursor] if cursor < len(self._presets) else None

    def _preset_row(self, index: int, width: int, colours: Palette) -> Row:
        preset = self._presets[index]
        fits = not self._family or not preset.family or preset.family == self._family
        tail = (
            f"{preset.memory_gib:.0f} G"
            if preset.memory_gib and fits
            else ""
            if fits
            else text.plain(preset.family)
        )
        name = text.fit(text.plain(preset.name), max(6, width - len(tail) - 2))
        return [(name, colours.text if fits else colours.faint), (" ", None), (tail, colours.muted)]

    def _about(self, width: int, height: int, colours: Palette) -> list[Row]:
        preset = self._preset
        if preset is None:
            return []
        words = text.plain(preset.about or preset.title)
        return [[(part, colours.muted)] for part in text.wrap(words, width, most=height)]

    @on(LineList.Moved, "#presets")
    def _chose(self) -> None:
        self.query_one("#about", Facts).redraw()
        self._plan()

    @on(LineList.Chosen, "#presets")
    def _to_form(self) -> None:
        self.query_one(Form).focus()

    # the form

    @on(LineList.Moved, "#form")
    def _moved(self) -> None:
        self.query_one("#help", Facts).redraw()

    @on(Form.Edited)
    def _edited(self, message: Form.Edited) -> None:
        if message.value is None:
            self._edits.pop(message.path, None)
            project = self.studio.project
            if project is not None and message.path in project.overrides:
                self._edits[message.path] = _written(self._base_values.get(message.path))
        else:
            self._edits[message.path] = message.value
        self._plan()

    def action_reset_all(self) -> None:
        """All settings as the preset has them."""
        self._edits.clear()
        self._plan()

    def _help(self, width: int, height: int, colours: Palette) -> list[Row]:
        field = self.query_one(Form).current
        if field is None:
            return []
        words = field.help
        if field.choices:
            words += f" One of {', '.join(field.choices)}."
        rows: list[Row] = [
            [(part, colours.muted)] for part in text.wrap(words, width, most=max(1, height - 1))
        ]
        if field.path in self._base_values:
            rows.append(
                [("preset ", colours.muted), (_written(self._base_values[field.path]) or "–", colours.text)]
            )
        return rows[:height]

    def _show_form(self, bad: frozenset[str]) -> None:
        table = field_table()
        lines: list[FieldInfo | Group] = []
        for title, paths in _FORM:
            lines.append(Group(title))
            lines += [table[path] for path in paths]
        values: dict[str, Any] = _values(self._config) if self._config is not None else {}
        values |= {path: value for path, value in self._edits.items() if path in bad or self._config is None}
        own = frozenset(p for p, v in values.items() if _written(v) != _written(self._base_values.get(p)))
        self.query_one(Form).show(lines, values, own, bad)
        self.query_one("#help", Facts).redraw()

    # the plan

    def _plan(self) -> None:
        """Resolve and assess in a thread; the newest change wins."""
        project, preset = self.studio.project, self._preset
        if project is None:
            return
        self._asked += 1
        number, edits, scan = self._asked, dict(self._edits), self.studio.scan
        seen = self.studio.data_settings
        self.query_one(PlanPanel).wait("Making the plan…")

        def work(post: Post, _gone: Gone) -> None:
            from loratui.config.presets import resolve
            from loratui.project.start import assess

            name = preset.name if preset is not None else None
            base: dict[str, Any] = {}
            try:
                base = _values(resolve(preset, {}, {}))
                config = project.resolve(name, edits)
            except LoratuiError as error:
                own = error.problems or (
                    Problem("", "bad-settings", "error", error.message, advice=error.advice),
                )
                post(PlanMade(number, None, None, own, base))
                return
            same = scan if scan is not None and config.data == seen else None
            try:
                post(PlanMade(number, config, assess(project, config, scan=same), (), base))
            except LoratuiError as error:
                own = error.problems or (Problem("", "no-plan", "error", error.message, advice=error.advice),)
                post(PlanMade(number, config, None, own, base))

        self.studio.in_thread(work, "plan", self)

    def on_plan_made(self, message: PlanMade) -> None:
        """Show it, unless something was changed since."""
        if message.number != self._asked:
            return
        if message.config is not None:
            self._config = message.config
        self._ready, self._base_values = message.ready, message.base
        problems = message.ready.problems if message.ready is not None else message.problems
        if message.ready is not None and message.ready.family != self._family:
            self._family = message.ready.family
            self.query_one("#presets", LineList).refresh()
        bad = frozenset(p.path for p in problems if p.severity == "error")
        self._show_form(bad)
        self.query_one(PlanPanel).show(message.ready, message.problems)
        panel = self.query_one("#form-panel")
        changed = len(self._edits)
        panel.border_subtitle = Content.styled(f"{changed} changed", "$accent") if changed else Content("")

    # starting

    def action_start(self) -> None:
        """Start the training, or say what keeps it."""
        ready, project, preset = self._ready, self.studio.project, self._preset
        if project is None or ready is None:
            self.notify(
                "The plan is not ready yet." if project is not None else "The project is not read yet."
            )
            return
        if ready.errors:
            first = ready.errors[0]
            self.notify(f"{first.message}\n{first.advice}".strip(), title="cannot start", severity="error")
            return
        self.notify("Starting…", timeout=2)
        edits, config = dict(self._edits), ready.config
        name = preset.name if preset is not None else ""

        def work(post: Post, _gone: Gone) -> None:
            from loratui.project.start import start_training
            from loratui.ui.messages import ProjectOpened, Said, Started

            try:
                run = start_training(project, config, preset=name)
            except LoratuiError as error:
                post(Said(error.message, error.advice, "error"))
                return
            self.studio.post_message(Started(run))
            if edits or project.preset != name:
                try:
                    kept = project.update(
                        preset=name, overrides={**project.overrides, **_typed(config, edits)}
                    )
                    self.studio.post_message(ProjectOpened(kept, config.data))
                except LoratuiError as error:
                    post(Said(error.message, error.advice, "warning"))

        self.studio.in_thread(work, "launch", self.studio)


def _values(config: RunConfig) -> dict[str, Any]:
    """Dotted path -> value."""
    out: dict[str, Any] = {}
    for section in fields(config):
        part = getattr(config, section.name)
        out |= {f"{section.name}.{f.name}": getattr(part, f.name) for f in fields(part)}
    return out


def _typed(config: RunConfig, edits: dict[str, str]) -> dict[str, Any]:
    """The edits with the values they were resolved to."""
    values = _values(config)
    return {path: values[path] for path in edits if path in values}


def _written(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return f"{value:g}" if isinstance(value, float) else "" if value is None else str(value)
