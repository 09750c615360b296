"""How the monitor is shown: which panels, what x means, how smooth; remembered from one start to the next."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import Any

from loratui.files import replace_file
from loratui.paths import state_dir
from loratui.ui.widgets.plot_axis import KINDS, Kind

SMOOTHINGS = (0.0, 0.5, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995, 0.999)
CHARTS = ("quarters", "rates", "gradients", "speed", "memory")
ROWS: dict[str, tuple[str, ...]] = {
    "top": ("loss", "numbers"),
    "charts": CHARTS,
    "middle": ("machine", "newest"),
    "log": (),
}
"""The rows of the page, and the panels in each; the log is a row of its own."""
_HIDDEN = {
    "low": (*CHARTS, "newest"),
    "normal": CHARTS,
    "wide": ("memory",),
}


@dataclass(slots=True)
class ChartView:
    """The choices of the monitor.

    Attributes:
        axis: what x means: step, epoch or time since the start.
        window: show the last minutes instead of the whole run.
        smoothing: factor of the exponential mean.
        log: panels with a logarithmic scale.
        hidden: size of the terminal (low, normal, wide) -> panels that are not shown.
        order: size of the terminal -> rows and panels, each among its like in the order they stand in.
    """

    axis: Kind = "step"
    window: bool = False
    smoothing: float = 0.98
    log: list[str] = field(default_factory=list)
    hidden: dict[str, list[str]] = field(default_factory=dict)
    order: dict[str, list[str]] = field(default_factory=dict)

    def hides(self, size: str) -> list[str]:
        """The panels that are not shown at this size."""
        return list(self.hidden.get(size, _HIDDEN[size]))

    def placed(self, size: str, row: str = "") -> list[str]:
        """The rows from above, or the panels of a row from the left, at this size."""
        kept = self.order.get(size, [])
        names = ROWS[row] if row else tuple(ROWS)
        return sorted(names, key=lambda name: kept.index(name) if name in kept else names.index(name))

    def move(self, size: str, name: str, by: int, row: str = "") -> bool:
        """Let a row, or a panel of `row`, change places with the shown one before or after it."""
        names = self.placed(size, row)
        hidden = self.hides(size)
        gone = {r for r, panels in ROWS.items() if all(p in hidden for p in (panels or (r,)))}
        shown = [n for n in names if n not in (hidden if row else gone)]
        at = shown.index(name) + by if name in shown else -1
        if not 0 <= at < len(shown):
            return False
        one, other = names.index(name), names.index(shown[at])
        names[one], names[other] = names[other], names[one]
        rest = [n for r in ROWS for n in ([] if r == row else self.placed(size, r))]
        self.order[size] = [*(names if not row else self.placed(size)), *(names if row else []), *rest]
        return True

    def smoother(self, by: int) -> None:
        """The next smoothing factor, up or down."""
        at = min(range(len(SMOOTHINGS)), key=lambda n: abs(SMOOTHINGS[n] - self.smoothing))
        self.smoothing = SMOOTHINGS[max(0, min(len(SMOOTHINGS) - 1, at + by))]

    def next_axis(self) -> None:
        """Step, epoch, time, and again."""
        self.axis = KINDS[(KINDS.index(self.axis) + 1) % len(KINDS)]

    def save(self) -> None:
        """Remember the choices; a disk that refuses is no matter."""
        try:
            state_dir().mkdir(parents=True, exist_ok=True)
            replace_file(state_dir() / "monitor.json", json.dumps(asdict(self), indent=1).encode())
        except OSError:
            return


def load_view() -> ChartView:
    """The choices of the last time; what cannot be read counts as not chosen."""
    try:
        kept = json.loads((state_dir() / "monitor.json").read_text("utf-8"))
    except (OSError, ValueError):
        return ChartView()
    view = ChartView()
    if not isinstance(kept, dict):
        return view
    view.axis = kept["axis"] if kept.get("axis") in KINDS else view.axis
    view.window = kept.get("window") is True
    view.smoothing = kept["smoothing"] if kept.get("smoothing") in SMOOTHINGS else view.smoothing
    view.log = _words(kept.get("log"))
    hidden = kept.get("hidden")
    if isinstance(hidden, dict):
        view.hidden = {size: _words(names) for size, names in hidden.items() if size in _HIDDEN}
    order = kept.get("order")
    if isinstance(order, dict):
        view.order = {size: _words(names) for size, names in order.items() if size in _HIDDEN}
    return view


def _words(value: Any) -> list[str]:
    return [word for word in value if isinstance(word, str)] if isinstance(value, list) else []
