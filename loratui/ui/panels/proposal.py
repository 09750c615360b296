"""A new project on one screen: what was answered, what it leads to, and the keys that go on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.style import Style

from loratui.ui import figures, text
from loratui.ui.drawing import Row, meter
from loratui.ui.theme import Palette
from loratui.ui.widgets.canvas import Canvas

if TYPE_CHECKING:
    from loratui.errors import Problem
    from loratui.project.proposal import Proposal

_LABEL = 10
_METER = 24


class ProposalPanel(Canvas, can_focus=True):
    """The proposal, or that it is being made."""

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id, classes="panel")
        self.border_title = "what will be made"
        self.proposal: Proposal | None = None
        self.waiting = ""

    def show(self, proposal: Proposal | None, waiting: str = "") -> None:
        """Show a proposal, or what is being waited for."""
        self.proposal, self.waiting = proposal, waiting
        self.redraw()

    def draw(self, width: int, height: int, colours: Palette) -> list[Row]:
        """The lines; problems get what room there is."""
        made = self.proposal
        if made is None:
            return [[(self.waiting, colours.muted)]]
        rows = [*_answers(made, width, colours), *_plan(made, width, colours)]
        last = self._keys(made, width, colours)
        room = max(1, height - len(rows) - len(last) - 1)
        found = _problems(made, width, colours)
        if len(found) > room:
            found = [*found[: room - 1], [("  …", colours.muted)]]
        return [*rows, [], *found, *last]

    def _keys(self, made: Proposal, width: int, colours: Palette) -> list[Row]:
        if self.waiting:
            return [[], [(self.waiting, colours.accent)]]
        rows: list[Row] = []
        key = colours.accent + Style(bold=True)
        if made.fix:
            words = f"{'makes it fit' if made.short is not None else 'mends it'}: {_fix(made)}"
            parts = text.wrap(words, max(10, width - 2), most=3)
            rows += [[("f " if at == 0 else "  ", key), (p, colours.text)] for at, p in enumerate(parts)]
        if not made.errors:
            rows.append([("enter", key), (" starts the training", colours.text)])
        else:
            rows.append([("esc", key), (" goes back to the answers", colours.text)])
        return [[], *rows]


def _fix(made: Proposal) -> str:
    parts = (f"{path.rpartition('.')[2]} {_value(value)}" for path, value in made.fix.items())
    after = f" → {figures.gib(made.short.after_gib)} G" if made.short is not None else ""
    return ", ".join(parts) + after


def _value(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _line(label: str, words: str, width: int, colours: Palette, tint: Style | None = None) -> Row:
    room = max(8, width - _LABEL)
    return [
        (label.ljust(_LABEL), colours.muted),
        (text.shorten(text.plain(words), room), tint or colours.text),
    ]


def _answers(made: Proposal, width: int, colours: Palette) -> list[Row]:
    from loratui.project.bases import said

    answers = made.answers
    what = said(answers.base, made.found) if made.found is not None else "not on this machine"
    trigger = f"called {answers.trigger!r}" if answers.trigger else "without a trigger"
    rows = [
        _line("base", f"{answers.base} · {what}", width, colours),
        _line("learns", f"{answers.goal}, {trigger}", width, colours),
    ]
    if made.preset is not None:
        why = f" ({made.why})" if made.why else ""
        rows.append(_line("preset", f"{made.preset.name}{why}", width, colours, colours.bold))
    return rows


def _plan(made: Proposal, width: int, colours: Palette) -> list[Row]:
    where = _line("project", str(made.project.root), width, colours)
    if made.ready is None:
        return [where]
    plan = made.ready.plan
    config = plan.config
    batch, more = config.data.batch_size, config.optimizer.accumulation
    epochs = figures.plural(plan.epochs, "epoch") + (f" / {more}" if more > 1 else "")
    steps = f"{figures.count(plan.steps)} = {plan.per_epoch} batches of {batch} × {epochs}"
    buckets = "   ".join(f"{b.width}×{b.height}: {b.images}" for b in plan.buckets[:4])
    rows = [
        _line("pictures", f"{figures.count(plan.images)}   {buckets}", width, colours),
        _line("steps", steps, width, colours),
    ]
    network = f"{config.network.kind} rank {config.network.rank}"
    if config.network.tokens_only:
        network = (
            figures.plural(config.network.tokens, "new token") + f" · file {figures.size(plan.tokens_bytes)}"
        )
    elif plan.sizes is not None:
        network += f" · {figures.count(plan.sizes.lora)} numbers · file {figures.size(plan.lora_bytes)}"
    rows.append(_line("network", network, width, colours))
    if plan.memory is not None and made.answers.card.gib:
        rows.append(_memory(made, plan.memory.total_gib, colours))
    saves = f"{figures.plural(plan.saves, 'checkpoint')}, {figures.plural(plan.pictures, 'sample')}"
    disk = f" · {figures.size(plan.disk['total'])} of {figures.size(plan.disk['free'])} free"
    rows.append(_line("saves", saves + disk, width, colours))
    changed = ", ".join(f"{k} = {_value(v)}" for k, v in made.answers.changes.items())
    if changed:
        rows.append(_line("changed", changed, width, colours, colours.accent))
    return [*rows, where]


def _memory(made: Proposal, needed: float, colours: Palette) -> Row:
    card = made.answers.card
    share = needed / card.gib
    tint = colours.red if made.short is not None else colours.green
    words = f"  about {figures.gib(needed)} of {figures.gib(card.gib)} G, "
    what = "main memory" if card.cpu else text.plain(card.name) or "the card"
    return [
        ("memory".ljust(_LABEL), colours.muted),
        *meter(share, _METER, tint, colours.track),
        (words + what, colours.text),
    ]


def _problems(made: Proposal, width: int, colours: Palette) -> list[Row]:
    tints = {"error": colours.red, "warning": colours.amber, "info": colours.muted}
    rows: list[Row] = []
    for severity in ("error", "warning", "info"):
        for problem in (p for p in made.problems if p.severity == severity):
            rows += _problem(problem, width, tints[severity])
    return rows


def _problem(problem: Problem, width: int, tint: Style) -> list[Row]:
    words = f"{text.plain(problem.message)} {text.plain(problem.advice)}".strip()
    words = words[:1].upper() + words[1:]
    parts = text.wrap(words, max(10, width - 2), most=4)
    return [[("· " if at == 0 else "  ", tint), (part, tint)] for at, part in enumerate(parts)]
