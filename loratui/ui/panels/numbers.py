"""The figures of the watched run."""

from __future__ import annotations

from rich.style import Style

from loratui.runs.state import RunState
from loratui.ui import figures, text
from loratui.ui.drawing import Row, bar, whole
from loratui.ui.model import Watched
from loratui.ui.theme import Palette
from loratui.ui.widgets.canvas import Canvas

_LABEL = 9
_PARTS = {
    "data": "data",
    "compute": "fwd+bwd",
    "optimizer": "opt",
    "io": "io",
    "save": "save",
    "sample": "sample",
}


class NumbersPanel(Canvas, can_focus=True):
    """Step, epoch, loss, rate, speed, time split, saves, file, scores: a line each, in fixed columns."""

    def __init__(self) -> None:
        super().__init__(id="numbers", classes="panel")
        self.border_title = "run"
        self._watched: Watched | None = None

    def update(self, watched: Watched | None) -> None:
        """Draw what is known of this run."""
        self._watched = watched
        self.redraw()

    def draw(self, width: int, height: int, colours: Palette) -> list[Row]:
        """The lines, the most telling first: a low panel drops the last."""
        if self._watched is None:
            return [[("no run yet", colours.muted)]]
        state = self._watched.state
        rows = [self._step(state, width, colours)]
        rows.append(_epoch(state, width, colours))
        rows.append(_loss(state, width, colours))
        if any(value is not None for value in state.quarters):
            rows.append(_quarters(state, width, colours))
        rows.append(_rates(state, width, colours))
        rows.append(_speed(state, width, colours))
        rows.append(_times(state, width, colours))
        rows.append(self._saved(state, width, colours))
        if state.exported or state.verified:
            rows += _file(state, width, colours)
        if state.scores:
            rows.append(_line("score", [(_scores(state), colours.green)], colours))
        if state.attempt > 1:
            rows.append(_line("attempt", [(str(state.attempt), colours.text)], colours))
        if state.warnings:
            words = text.crop(text.plain(state.warnings[-1]), max(4, width - _LABEL))
            rows.append(_line("warned", [(words, colours.amber)], colours))
        return rows

    def _step(self, state: RunState, width: int, colours: Palette) -> Row:
        progress = state.progress
        if progress is not None and progress.total and not state.step:
            share = progress.done / progress.total
            head = text.crop(text.plain(progress.what), 18)
            done = f" {progress.done}/{progress.total} "
        else:
            share = state.step / state.steps if state.steps else 0.0
            total = figures.count(state.steps)
            head, done = figures.count(state.step).rjust(len(total)) + f" / {total}", ""
        room = width - _LABEL - len(head) - len(done) - 8
        row: Row = [
            ("step".ljust(_LABEL), colours.muted),
            (head, colours.bold),
            (done, colours.muted),
            ("  ", None),
        ]
        if room >= 6:
            tint = colours.green if state.state in {"running", "finished"} else colours.state(state.state)
            row += bar(share, room, tint, colours.track)
        return [*row, (figures.percent(share).rjust(6), colours.text)]

    def _saved(self, state: RunState, width: int, colours: Palette) -> Row:
        saved = figures.count(state.checkpoints[-1].step) if state.checkpoints else "nothing yet"
        row: Row = [(saved, colours.text)]
        assert self._watched is not None
        settings = self._watched.settings
        if settings is not None and settings.saving.every and self._watched.live:
            every = settings.saving.every
            following = min(state.steps or 1 << 60, (state.step // every + 1) * every)
            row += [("   next ", colours.muted), (figures.count(following), colours.text)]
        return _line("saved", row, colours)


def _line(label: str, row: Row, colours: Palette) -> Row:
    return [(label.ljust(_LABEL), colours.muted), *row]


def _epoch(state: RunState, width: int, colours: Palette) -> Row:
    """Which epoch, and how far in it."""
    total = figures.count(state.epochs)
    head = f"{figures.count(state.epoch).rjust(len(figures.count(state.steps)))} / {total}"
    row: Row = [(head, colours.text)]
    if state.steps and state.epochs and state.step:
        per = state.steps / state.epochs
        share = min(1.0, max(0.0, (state.step - (state.epoch - 1) * per) / per))
        room = width - _LABEL - 2 * len(figures.count(state.steps)) - 3 - 8
        if room >= 6:
            row.append((" " * (2 + 2 * len(figures.count(state.steps)) + 3 - len(head)), None))
            row += bar(share, room, colours.muted, colours.track)
            row.append((figures.percent(share).rjust(6), colours.muted))
    return _line("epoch", row, colours)


def _quarters(state: RunState, width: int, colours: Palette) -> Row:
    """The loss of each quarter of the timesteps."""
    if width - _LABEL < 38:  # `.086` is enough to compare
        short = ["–" if v is None else f"{v:.3f}".removeprefix("0") for v in state.quarters]
        return _line(
            "by noise", whole([[(word, colours.text)] for word in short], width - _LABEL, 1), colours
        )
    groups: list[Row] = [[("clean", colours.muted)]]
    groups += [[(figures.loss(value).rjust(6), colours.text)] for value in state.quarters]
    groups.append([("noisy", colours.muted)])
    return _line("by noise", whole(groups, width - _LABEL, 1), colours)


def _loss(state: RunState, width: int, colours: Palette) -> Row:
    smooth = state.loss_smooth if state.loss_smooth is not None else state.loss
    groups: list[Row] = [[(figures.loss(smooth), colours.accent + Style(bold=True))]]
    groups.append([("now ", colours.muted), (figures.loss(state.loss), colours.text)])
    if state.val_loss is not None:
        groups.append([("val ", colours.muted), (figures.loss(state.val_loss), colours.text)])
    if state.best_loss is not None:
        groups.append([("best ", colours.muted), (figures.loss(state.best_loss), colours.text)])
    return _line("loss", whole(groups, width - _LABEL), colours)


def _rates(state: RunState, width: int, colours: Palette) -> Row:
    groups: list[Row] = []
    for group, value in list(state.lr.items())[:3]:
        name = text.crop(text.plain(group), 8)
        lead = f"{name} " if name and len(state.lr) > 1 else ""
        groups.append([(lead, colours.muted), (figures.rate(value), colours.text)])
    if state.grad_norm is not None:
        groups.append([("grad ", colours.muted), (figures.loss(state.grad_norm), colours.text)])
    return _line("lr", whole(groups, width - _LABEL) or [("–", colours.muted)], colours)


def _speed(state: RunState, width: int, colours: Palette) -> Row:
    groups: list[Row] = [[(figures.speed(state.step_s), colours.text)]]
    if state.eta_s is not None:
        groups.append([("ETA ", colours.muted), (figures.duration(state.eta_s), colours.text)])
    if state.images_s:
        groups.append([(f"{state.images_s:.1f} img/s", colours.text)])
    if state.step_s and state.step_s <= 1:
        groups.append([(f"{state.step_s:.3f} s/step", colours.muted)])
    return _line("speed", whole(groups, width - _LABEL), colours)


def _times(state: RunState, width: int, colours: Palette) -> Row:
    groups: list[Row] = []
    # where time goes first: a narrow panel drops the small parts
    for key in sorted(_PARTS, key=lambda part: -state.times.get(part, 0.0)):
        if key in state.times:
            share = figures.percent(state.times[key])
            groups.append([(_PARTS[key] + " ", colours.muted), (share, colours.text)])
    return _line("time", whole(groups, width - _LABEL, 2) or [("–", colours.muted)], colours)


def _file(state: RunState, width: int, colours: Palette) -> list[Row]:
    rows: list[Row] = []
    if state.exported:
        name = text.plain(state.exported).rsplit("/", 1)[-1]
        rows.append(_line("file", [(text.shorten(name, width - _LABEL), colours.text)], colours))
    if state.verified:
        groups: list[Row] = []
        for consumer, pair in state.verified.items():
            tint = colours.green if pair[0] == pair[1] else colours.red
            groups.append([(f"{text.plain(consumer)} {pair[0]}/{pair[1]}", tint)])
        rows.append(_line("loads in", whole(groups, width - _LABEL, 2), colours))
    return rows


def _scores(state: RunState) -> str:
    return "  ".join(f"{text.plain(name)} {value:.2f}" for name, value in state.scores.items())
