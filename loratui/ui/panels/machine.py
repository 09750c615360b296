"""GPUs, the job's process and the host."""

from __future__ import annotations

from loratui.runs.state import RunState
from loratui.ui import figures, text
from loratui.ui.drawing import Row, meter, spark, whole
from loratui.ui.machine import Gpu, Reading
from loratui.ui.theme import Palette
from loratui.ui.widgets.canvas import Canvas

_LABEL = 9


class MachinePanel(Canvas):
    """A block a GPU; without one, the process and the host."""

    def __init__(self) -> None:
        super().__init__(id="machine", classes="panel")
        self.border_title = "machine"
        self._reading: Reading | None = None
        self._state: RunState | None = None

    def update(self, reading: Reading | None, state: RunState | None) -> None:
        """Draw these figures; `state` brings what the job itself measured."""
        self._reading, self._state = reading, state
        if reading is not None and reading.gpus:
            first = reading.gpus[0]
            more = f" and {len(reading.gpus) - 1} more" if len(reading.gpus) > 1 else ""
            self.border_title = text.foreign(
                f"GPU {first.index}  {text.shorten(text.plain(first.name), 30)}{more}"
            )
        self.redraw()

    def draw(self, width: int, height: int, colours: Palette) -> list[Row]:
        """GPUs first, then process and host."""
        reading = self._reading
        memory = self._state.memory if self._state is not None else {}
        if height <= 2:
            return [self._one_line(reading, memory, width, colours)]
        rows: list[Row] = []
        if reading is not None:
            for gpu in reading.gpus:
                if len(rows) + 2 > height:
                    break
                rows += _gpu_rows(gpu, reading, memory, width, colours)
        rows += self._process_rows(reading, memory, width, colours)
        if reading is not None:
            rows.append(_host(reading, colours))
        return rows

    def _one_line(
        self, reading: Reading | None, memory: dict[str, object], width: int, colours: Palette
    ) -> Row:
        row: Row = []
        if reading is not None and reading.gpus:
            gpu = reading.gpus[0]
            row = [
                ("GPU ", colours.muted),
                (f"{figures.gib(gpu.used_gib)}/{gpu.total_gib:.0f} G", colours.text),
            ]
            if gpu.busy is not None:
                row += [("  busy ", colours.muted), (figures.percent(gpu.busy), colours.text)]
            if gpu.temperature_c is not None:
                row += [(f"  {gpu.temperature_c:.0f} °C", colours.text)]
            row.append(("   ", None))
        own = _number(memory.get("rss_gib"))
        if reading is not None and reading.job_rss_gib is not None:
            own = reading.job_rss_gib
        if own is not None:
            row += [("job ", colours.muted), (f"{figures.gib(own)} G", colours.text), ("   ", None)]
        if reading is not None:
            row += [("CPU ", colours.muted), (figures.percent(reading.cpu), colours.text)]
            used, total = figures.gib(reading.ram_used_gib), f"{reading.ram_total_gib:.0f}"
            row += [("   RAM ", colours.muted), (f"{used}/{total} G", colours.text)]
            row += [("   disk ", colours.muted), (f"{reading.disk_free_gib:.0f} G left", colours.text)]
        return row or [("reading the machine…", colours.muted)]

    def _process_rows(
        self, reading: Reading | None, memory: dict[str, object], width: int, colours: Palette
    ) -> list[Row]:
        own = _number(memory.get("rss_gib"))
        if reading is not None and reading.job_rss_gib is not None:
            own = reading.job_rss_gib
        rows: list[Row] = []
        if own is not None and (reading is None or not reading.gpus):
            total = reading.ram_total_gib if reading is not None else 0.0
            words = f" {figures.gib(own)}" + (f" / {total:.0f} G" if total else " G")
            row: Row = [("process".ljust(_LABEL), colours.muted)]
            if total:
                row += meter(own / total, max(4, width - _LABEL - 14), colours.accent, colours.track)
            rows.append([*row, (words, colours.text)])
            peak = _number(memory.get("peak_gib"))
            device = text.plain(memory.get("device") or "")
            parts: Row = [(" " * _LABEL, None)]
            if device:
                parts += [("on ", colours.muted), (text.crop(device, 20), colours.text), ("   ", None)]
            if peak:
                parts += [("peak ", colours.muted), (f"{figures.gib(peak)} G", colours.text)]
            if device or peak:
                rows.append(parts)
        if reading is not None and not reading.gpus:
            graph = spark(reading.history, max(8, min(40, width - _LABEL - 22)))
            row = [("busy".ljust(_LABEL), colours.muted), (graph, colours.accent)]
            row += [(figures.percent(reading.cpu).rjust(6), colours.text)]
            row += [(f" of {figures.plural(reading.cores, 'core')}", colours.muted)]
            rows.append(row)
        return rows


def _gpu_rows(
    gpu: Gpu, reading: Reading, memory: dict[str, object], width: int, colours: Palette
) -> list[Row]:
    share = gpu.used_gib / gpu.total_gib if gpu.total_gib else 0.0
    tint = colours.red if share > 0.97 else colours.amber if share > 0.9 else colours.green
    words = f" {figures.gib(gpu.used_gib).rjust(5)} / {gpu.total_gib:.1f} G {figures.percent(share).rjust(5)}"
    rows: list[Row] = [
        [
            ("memory".ljust(_LABEL), colours.muted),
            *meter(share, max(4, width - _LABEL - len(words)), tint, colours.track),
            (words, colours.text),
        ]
    ]
    peak = _number(memory.get("peak_gib"))
    if gpu.ours_gib is not None or peak:
        row: Row = [(" " * _LABEL, None)]
        if gpu.ours_gib is not None:
            others = max(0.0, gpu.used_gib - gpu.ours_gib)
            row += [("ours ", colours.muted), (figures.gib(gpu.ours_gib), colours.text)]
            row += [("  others ", colours.muted), (figures.gib(others), colours.text), ("  ", None)]
        if peak:
            row += [("peak ", colours.muted), (figures.gib(peak), colours.text)]
        rows.append(row)
    groups: list[Row] = []
    if gpu.busy is not None:
        graph = spark(reading.history, max(8, min(40, width - 50))) if gpu.index == 0 else ""
        groups.append([(graph, colours.accent), (figures.percent(gpu.busy).rjust(6), colours.text)])
    if gpu.temperature_c is not None:
        tint = colours.red if gpu.temperature_c >= 88 else colours.text
        groups.append([(f"{gpu.temperature_c:.0f} °C", tint)])
    if gpu.power_w is not None:
        limit = f" / {gpu.power_limit_w:.0f}" if gpu.power_limit_w else ""
        groups.append([(f"{gpu.power_w:.0f}{limit} W", colours.text)])
    if gpu.clock_mhz is not None:
        groups.append([(f"{gpu.clock_mhz / 1000:.1f} GHz", colours.text)])
    rows.append([("busy".ljust(_LABEL), colours.muted), *whole(groups, width - _LABEL)])
    return rows


def _host(reading: Reading, colours: Palette) -> Row:
    row: Row = [("host".ljust(_LABEL), colours.muted), ("RAM ", colours.muted)]
    row += [(f"{figures.gib(reading.ram_used_gib)} / {reading.ram_total_gib:.0f} G", colours.text)]
    tint = (
        colours.red
        if reading.disk_free_gib < 2
        else colours.amber
        if reading.disk_free_gib < 10
        else colours.text
    )
    return [*row, ("   disk ", colours.muted), (f"{reading.disk_free_gib:.0f} G left", tint)]


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None
