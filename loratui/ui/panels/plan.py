"""The plan of a training, in words and numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.style import Style

from loratui.errors import Problem
from loratui.ui import figures, text
from loratui.ui.drawing import Row
from loratui.ui.theme import Palette
from loratui.ui.widgets.canvas import Canvas

if TYPE_CHECKING:
    from loratui.plan.plan import Plan
    from loratui.project.start import Ready

_LABEL = 9


class PlanPanel(Canvas):
    """What the training will do and need, then what speaks against it."""

    def __init__(self) -> None:
        super().__init__(id="plan", classes="panel")
        self.border_title = "plan"
        self._ready: Ready | None = None
        self._problems: Sequence[Problem] = ()
        self._waiting = ""

    def show(self, ready: Ready | None, problems: Sequence[Problem] = ()) -> None:
        """Show a plan, or why there is none."""
        self._ready, self._problems, self._waiting = ready, problems, ""
        self.redraw()

    def wait(self, words: str) -> None:
        """Say that the plan is being made."""
        self._waiting = words
        if self._ready is None:
            self.redraw()

    def draw(self, width: int, height: int, colours: Palette) -> list[Row]:
        """The lines."""
        rows: list[Row] = []
        if self._ready is not None:
            rows += _plan_rows(self._ready.plan, width, colours)
            problems: Sequence[Problem] = self._ready.problems
        else:
            problems = self._problems
            if not problems:
                return [[(self._waiting or "Choose a preset.", colours.muted)]]
        errors = [p for p in problems if p.severity == "error"]
        others = [p for p in problems if p.severity != "error"]
        if rows:
            rows.append([])
        if errors:
            rows.append([("Keeps it from starting", colours.red + Style(bold=True))])
            rows += _problem_rows(errors, width, colours.red, colours)
        rows += _problem_rows([p for p in others if p.severity == "warning"], width, colours.amber, colours)
        rows += _problem_rows([p for p in others if p.severity == "info"], width, colours.muted, colours)
        if self._ready is not None and not errors:
            rows += [[], [("s", colours.accent + Style(bold=True)), (" starts the training", colours.text)]]
        return rows


def _plan_rows(plan: Plan, width: int, colours: Palette) -> list[Row]:
    config = plan.config
    steps: Row = [(figures.count(plan.steps), colours.bold), (" steps", colours.text)]
    batch, more = config.data.batch_size, config.optimizer.accumulation
    how = f" = {figures.plural(plan.repeated, 'picture')} in {plan.per_epoch} batches of {batch}"
    how += f" × {plan.epochs} epochs" + (f" / {more}" if more > 1 else "")
    rows = [_line("steps", steps, colours)]
    rows += [[(" " * _LABEL, None), (part, colours.muted)] for part in text.wrap(how.strip(), width - _LABEL)]
    room = width - _LABEL
    buckets: Row = []
    for bucket in plan.buckets:
        piece = f"{bucket.width}×{bucket.height}: {bucket.images}"
        if len(piece) + 3 > room:
            buckets.append(("…", colours.muted))
            break
        buckets += [(piece, colours.text), ("   ", None)]
        room -= len(piece) + 3
    rows.append(_line("buckets", buckets or [("no pictures", colours.amber)], colours))
    room = width - _LABEL
    network = f"{config.network.kind} rank {config.network.rank} alpha {config.network.alpha:g}"
    rows += _lines("network", network, room, colours)
    if plan.sizes is not None:
        weight = f"{figures.count(plan.sizes.lora)} numbers in {plan.sizes.layers} layers"
        rows += [[(" " * _LABEL, None), (part, colours.muted)] for part in text.wrap(weight, room)]
        rows.append(_line("file", [("about " + figures.size(plan.lora_bytes), colours.text)], colours))
    if plan.memory is not None:
        rows += _memory(plan, width, colours)
    saves = f"{figures.plural(plan.saves, 'checkpoint')}, {figures.plural(plan.pictures, 'sample')}"
    rows += _lines("saves", saves, room, colours)
    disk = f"{figures.size(plan.disk['total'])} of {figures.size(plan.disk['free'])} free"
    rows += _lines("disk", disk, room, colours)
    return rows


def _memory(plan: Plan, width: int, colours: Palette) -> list[Row]:
    assert plan.memory is not None
    parts = {k: v for k, v in plan.memory.as_json().items() if isinstance(v, int | float)}
    total = next((float(v) for k, v in parts.items() if k.startswith(("total", "peak"))), 0.0)
    row: Row = [(f"about {figures.gib(total)} G", colours.text)] if total else []
    pieces: Row = []
    room = width - _LABEL
    for name, value in parts.items():
        label = name.removesuffix("_gib").replace("_", " ")
        piece = f"{label} {figures.gib(float(value))}"
        if not name.endswith("_gib") or label in {"total", "peak"} or value < 0.05 or len(piece) + 2 > room:
            continue
        pieces += [(piece, colours.muted), ("  ", None)]
        room -= len(piece) + 2
    out = [_line("memory", row or [("unknown", colours.muted)], colours)]
    return [*out, [(" " * _LABEL, None), *pieces]] if pieces else out


def _lines(label: str, words: str, room: int, colours: Palette) -> list[Row]:
    parts = text.wrap(words, max(8, room))
    return [
        [((label if n == 0 else "").ljust(_LABEL), colours.muted), (part, colours.text)]
        for n, part in enumerate(parts)
    ]


def _line(label: str, row: Row, colours: Palette) -> Row:
    return [(label.ljust(_LABEL), colours.muted), *row]


def _problem_rows(problems: Sequence[Problem], width: int, tint: Style, colours: Palette) -> list[Row]:
    rows: list[Row] = []
    for problem in problems:
        path = f"{text.plain(problem.path)}: " if problem.path and problem.severity == "error" else ""
        words = f"{path}{text.plain(problem.message)} {text.plain(problem.advice)}".strip()
        for number, part in enumerate(text.wrap(words, max(10, width - 2), most=5)):
            rows.append([("· " if number == 0 else "  ", tint), (part, tint)])
    return rows
