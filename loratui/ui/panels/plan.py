"""The plan of a training, in words and numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.style import Style

from loratui.ui import figures, text
from loratui.ui.drawing import Row, bar
from loratui.ui.theme import Palette
from loratui.ui.widgets.canvas import Canvas

if TYPE_CHECKING:
    from loratui.plan.plan import Plan
    from loratui.project.estimating import Foreseen
    from loratui.project.start import Ready

_LABEL = 9
_MOST_BUCKETS = 4
_ROOMY = 22
"""Cells beside a label from which on there is room for words."""
_BASIS = {
    "measured": "measured here",
    "corrected": "estimated, put right by what was measured here",
    "estimated": "estimated from a step's operations",
}


class PlanPanel(Canvas):
    """What the training will do and need; a line at its end tells of a dry run."""

    DEFAULT_CSS = "PlanPanel { height: 1fr; min-height: 4; }"

    def __init__(self) -> None:
        super().__init__(id="plan", classes="panel")
        self.border_title = "plan"
        self._ready: Ready | None = None
        self._seen: Foreseen | None = None
        self._waiting = "Choose a preset."
        self._estimating = ""
        self._progress: tuple[str, float] | None = None
        self._capacity_gib = 0.0

    def show(self, ready: Ready | None, seen: Foreseen | None = None, words: str = "") -> None:
        """Show a plan, or the words that say why there is none."""
        self._ready, self._seen, self._estimating = ready, seen, ""
        self._waiting = words or self._waiting
        self.redraw()

    def foresee(self, seen: Foreseen | None, words: str = "") -> None:
        """Memory and speed are known, or why not."""
        self._seen, self._estimating = seen or self._seen, words
        self.redraw()

    def measure(self, what: str, share: float = 0.0) -> None:
        """How far a dry run is; empty words end it."""
        self._progress = (what, share) if what else None
        self.redraw()

    def capacity(self, gib: float) -> None:
        """Memory of the device that the plan is for, in GiB; 0 when it is not known."""
        if abs(gib - self._capacity_gib) > 0.05:
            self._capacity_gib = gib
            self.redraw()

    def wait(self, words: str) -> None:
        """Say that the plan is being made."""
        self._waiting = words
        if self._ready is None:
            self.redraw()

    def draw(self, width: int, height: int, colours: Palette) -> list[Row]:
        """The lines."""
        if self._ready is None:
            return [[(part, colours.muted)] for part in text.wrap(text.plain(self._waiting), width)]
        foot: list[Row] = []
        if self._progress is not None:
            what, share = self._progress
            foot = [
                [
                    ("dry run ", colours.accent),
                    (text.plain(what), colours.text),
                    ("  D ends it" if width >= 34 else "", colours.muted),
                ],
                bar(share, width, colours.accent, colours.faint),
            ]
        plan, room = self._ready.plan, height - len(foot)
        rows = plan_rows(plan, width, colours) + self._memory(plan, width, colours)
        needs = _needs(plan, width, colours)
        if len(rows) + len(needs) > room:  # too low for the arithmetic: what it comes to is enough
            rows = [row for row in rows if row and row[0][0].strip()]
            needs = _needs(plan, width, colours, moments=False)
        rows += needs
        if room > len(rows) + 4 and self._progress is None:
            keys = (("s", "starts it"), ("D", "dry run"), ("M", "make it fit"), ("F", "mend"))
            rows += [[], *_keys(keys, width, colours)]
        return rows[:room] + foot

    def _memory(self, plan: Plan, width: int, colours: Palette) -> list[Row]:
        room = width - _LABEL
        seen, capacity = self._seen, self._capacity_gib
        total = seen.peak_gib if seen is not None else plan.memory.total_gib if plan.memory else 0.0
        if not total:
            return [_line("memory", [("unknown", colours.muted)], colours)]
        over = bool(capacity) and total > capacity
        tint = colours.red if over else colours.bold
        about = "about " if room >= _ROOMY else ""
        row: Row = [(f"{about}{figures.gib(total)} G" if total >= 0.05 else "below 0.1 G", tint)]
        if capacity:
            row.append((f" of {figures.gib(capacity)} G", colours.red if over else colours.text))
        if over:
            row.append(("  M mends it" if room >= _ROOMY else "  M", colours.red))
        rows = [_line("memory", row, colours)]
        parts = dict(seen.parts) if seen is not None else {}
        if not parts and plan.memory is not None:
            found = plan.memory.as_json()
            parts = {k.removesuffix("_gib"): float(v) for k, v in found.items() if not isinstance(v, str)}
        pieces = [
            f"{name} {figures.gib(value)}"
            for name, value in parts.items()
            if name not in {"total", "peak"} and value >= 0.05
        ]
        rows += _words(", ".join(pieces), room, colours)
        basis = self._estimating or (
            _BASIS.get(seen.basis, seen.basis) if seen else "rough, from sizes alone"
        )
        rows += _words(text.plain(basis), room, colours)
        if seen is not None and seen.step_s:
            from loratui.project.estimating import run_seconds

            took: Row = [(figures.duration(run_seconds(plan, seen)), colours.bold)]
            took += [(f" at {figures.speed(seen.step_s)}", colours.text)]
            rows.append(_line("time", took, colours))
        return rows


def plan_rows(plan: Plan, width: int, colours: Palette) -> list[Row]:
    """Steps, buckets and network."""
    config, room = plan.config, width - _LABEL
    batch, more, repeats = config.data.batch_size, config.optimizer.accumulation, config.data.repeats
    rows = [_line("steps", [(figures.count(plan.steps), colours.bold), (" steps", colours.text)], colours)]
    pictures = figures.plural(plan.images, "picture")
    if plan.repeated == plan.images * repeats:
        pictures += f" × {repeats}" if repeats > 1 else ""
    else:  # folders have repeats of their own
        pictures += f", {figures.count(plan.repeated)} with repeats"
    batches = figures.plural(plan.per_epoch, "batch", "batches")
    how = f"{pictures} = {batches} of {batch}; × {figures.plural(plan.epochs, 'epoch')}"
    rows += _words(how + (f" / {more}" if more > 1 else ""), room, colours)
    left = sum(b.leftover for b in plan.buckets)
    for number, bucket in enumerate(plan.buckets[:_MOST_BUCKETS]):
        size = f"{bucket.width}×{bucket.height}"
        words = f"{size:<10}{bucket.images:>5}  {figures.plural(bucket.batches, 'batch', 'batches')}"
        words += f", {bucket.leftover} left" if bucket.leftover else ""
        row: Row = [(text.crop(words, room), colours.text)]
        rows.append(_line("buckets" if number == 0 else "", row, colours))
    if not plan.buckets:
        rows.append(_line("buckets", [("no pictures", colours.amber)], colours))
    elif len(plan.buckets) > _MOST_BUCKETS:
        rest = len(plan.buckets) - _MOST_BUCKETS
        rows += _words(f"and {rest} more; {left} pictures in smaller last batches", room, colours)
    return rows + _network(plan, room, colours)


def _network(plan: Plan, room: int, colours: Palette) -> list[Row]:
    network, size = plan.config.network, plan.sizes
    rows: list[Row] = []
    if network.tokens:
        words = figures.plural(network.tokens, "new token")
        if size is not None:
            words += f", {figures.count(size.tokens)} numbers, {figures.size(plan.tokens_bytes)}"
        rows += _lines("tokens", words, room, colours)
    if network.tokens_only:
        return [*rows, _line("network", [(text.crop("none: the tokens alone", room), colours.text)], colours)]
    name = f"{network.kind} rank {network.rank}"
    name += f" alpha {network.alpha:g}" if room >= _ROOMY else ""
    rows.append(_line("network", [(text.crop(name, room), colours.text)], colours))
    if size is None:
        return rows
    if size.example and network.kind in {"lora", "dora"}:
        out, into = size.example
        whole, low = out * into, network.rank * (out + into)
        fewer = f", {whole / low:.0f} times fewer" if whole > 1.5 * low else ""
        sum_of = f"a matrix of {out:,} × {into:,} = {whole:,} numbers"
        rows += _words(f"{sum_of} gets {network.rank} × ({out:,} + {into:,}) = {low:,}{fewer}", room, colours)
    about = "" if size.exact else "about "
    total = f"{about}{figures.count(size.lora)} numbers in {figures.plural(size.layers, 'layer')}"
    rows += _words(total, room, colours)
    rows.append(_line("file", [("about " + figures.size(plan.lora_bytes), colours.text)], colours))
    return rows


def _needs(plan: Plan, width: int, colours: Palette, moments: bool = True) -> list[Row]:
    """How often, and with `moments` when, it saves and samples; the disk that takes."""
    room, config = width - _LABEL, plan.config
    saves = figures.plural(plan.saves, "checkpoint")
    saves += _moments(config.saving.every, plan.steps) if moments else ""
    rows = _lines("saves", saves, room, colours)
    if plan.pictures:
        every = _moments(config.samples.every, plan.steps, first=True) if moments else ""
        rows += _lines("samples", f"{figures.plural(plan.pictures, 'picture')}{every}", room, colours)
    else:
        rows += _lines("samples", "none", room, colours)
    if plan.class_pictures:
        drawn = f"{figures.plural(plan.class_pictures, 'picture')}, drawn by the base first"
        rows += _lines("class", drawn, room, colours)
    disk = f"{figures.size(plan.disk['total'])} of {figures.size(plan.disk['free'])} free"
    tint = colours.red if plan.disk["total"] > plan.disk["free"] else colours.text
    rows.append(_line("disk", [(text.crop(disk, room), tint)], colours))
    return rows


def _moments(every: int, steps: int, first: bool = False) -> str:
    """`: 250, 500 … 2,000`: the steps at which something happens."""
    if every <= 0 or steps <= 0:
        return ""
    at = [*([0] if first else []), *range(every, steps + 1, every)][:4]
    if len(at) < 4 and (not at or at[-1] != steps):
        at.append(steps)
    if at[-1] == steps:
        return ": " + ", ".join(figures.count(n) for n in at)
    return f": {', '.join(figures.count(n) for n in at[:2])} … {figures.count(steps)}"


def _keys(keys: Sequence[tuple[str, str]], width: int, colours: Palette) -> list[Row]:
    row: Row = []
    used = 0
    for key, words in keys:
        if used + len(key) + len(words) + 3 > width:
            break
        row += [(key, colours.accent + Style(bold=True)), (f" {words}  ", colours.muted)]
        used += len(key) + len(words) + 3
    return [row]


def _words(words: str, room: int, colours: Palette) -> list[Row]:
    """Muted lines below a label."""
    if not words:
        return []
    return [[(" " * _LABEL, None), (part, colours.muted)] for part in text.wrap(words, max(8, room))]


def _lines(label: str, words: str, room: int, colours: Palette) -> list[Row]:
    parts = text.wrap(words, max(8, room))
    return [
        [((label if n == 0 else "").ljust(_LABEL), colours.muted), (part, colours.text)]
        for n, part in enumerate(parts)
    ]


def _line(label: str, row: Row, colours: Palette) -> Row:
    return [(label.ljust(_LABEL), colours.muted), *row]
