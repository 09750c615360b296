"""GPUs, the job's process and the host."""

from __future__ import annotations

from textual.content import Content

from loratui.runs.state import RunState
from loratui.ui import figures, text
from loratui.ui.drawing import Row, meter, spark
from loratui.ui.machine import Reading
from loratui.ui.panels.gpu_rows import LABEL, gpu_line, gpu_rows
from loratui.ui.theme import Palette
from loratui.ui.widgets.canvas import Canvas


class MachinePanel(Canvas, can_focus=True):
    """A block a GPU; without one, why there is none, and the process; the host below."""

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
            name = text.shorten(text.plain(first.name), 30)
            self.entitle(Content(f"GPU {first.index}  {name}{more}"))
        else:
            self.entitle(Content("machine"))
        self.redraw()

    def draw(self, width: int, height: int, colours: Palette) -> list[Row]:
        """GPUs first, then process and host."""
        reading = self._reading
        memory = self._state.memory if self._state is not None else {}
        if height <= 2:
            return [self._one_line(reading, memory, width, colours)]
        below = self._process_rows(reading, memory, width, colours)
        if reading is not None:
            below.append(_host(reading, width, colours))
        if reading is None or not reading.gpus:
            return below
        room = max(1, height - len(below))
        return gpu_rows(reading.gpus, reading.histories, memory, width, room, colours) + below

    def _one_line(
        self, reading: Reading | None, memory: dict[str, object], width: int, colours: Palette
    ) -> Row:
        row: Row = []
        if reading is not None and len(reading.gpus) == 1 and reading.gpus[0].lost:
            return gpu_line(reading.gpus[0], width, colours)
        if reading is not None and reading.gpus:
            lost = sum(1 for gpu in reading.gpus if gpu.lost)
            gpu = max(reading.gpus, key=lambda g: (g.ours_gib or 0.0, not g.lost))
            row = [
                (f"GPU{gpu.index} ", colours.muted),
                (f"{figures.gib(gpu.used_gib)}/{gpu.total_gib:.0f} G", colours.text),
            ]
            if gpu.busy is not None:
                row += [("  busy ", colours.muted), (figures.percent(gpu.busy), colours.text)]
            if gpu.temperature_c is not None:
                row += [(f"  {gpu.temperature_c:.0f} °C", colours.text)]
            if len(reading.gpus) > 1:
                row += [(f"  of {len(reading.gpus)}", colours.muted)]
            if lost:
                row += [(f"  {lost} lost", colours.red)]
            row.append(("   ", None))
        own = _own(reading, memory)
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
        own = _own(reading, memory)
        rows: list[Row] = []
        gpus = reading is not None and bool(reading.gpus)
        if reading is not None and not gpus and reading.gpus_why:
            words = text.crop(f"none: {text.plain(reading.gpus_why)}", width - LABEL)
            rows.append([("GPU".ljust(LABEL), colours.muted), (words, colours.muted)])
        if own is not None and not gpus:
            total = reading.ram_total_gib if reading is not None else 0.0
            words = f" {figures.gib(own)}" + (f" / {total:.0f} G" if total else " G")
            row: Row = [("process".ljust(LABEL), colours.muted)]
            if total:
                row += meter(own / total, max(4, width - LABEL - 14), colours.accent, colours.track)
            rows.append([*row, (words, colours.text)])
            peak = _number(memory.get("peak_gib"))
            device = text.plain(memory.get("device") or "")
            parts: Row = [(" " * LABEL, None)]
            if device:
                parts += [("on ", colours.muted), (text.crop(device, 20), colours.text), ("   ", None)]
            if peak:
                parts += [("peak ", colours.muted), (f"{figures.gib(peak)} G", colours.text)]
            if reading is not None and reading.job_cpu is not None:
                cores = f"{reading.job_cpu:.1f} of {figures.plural(reading.cores, 'core')}"
                parts += [("   uses ", colours.muted), (cores, colours.text)]
            if len(parts) > 1:
                rows.append(parts)
        elif own is not None and reading is not None:
            row = [("process".ljust(LABEL), colours.muted), (f"{figures.gib(own)} G of RAM", colours.text)]
            if reading.job_cpu is not None:
                row += [(f"   {reading.job_cpu:.1f} cores", colours.text)]
            rows.append(row)
        if reading is not None and not gpus:
            graph = spark(reading.history, max(8, min(40, width - LABEL - 22)))
            row = [("busy".ljust(LABEL), colours.muted), (graph, colours.accent)]
            row += [(figures.percent(reading.cpu).rjust(6), colours.text)]
            row += [(f" of {figures.plural(reading.cores, 'core')}", colours.muted)]
            rows.append(row)
        return rows


def _own(reading: Reading | None, memory: dict[str, object]) -> float | None:
    """Resident GiB of the job."""
    if reading is not None and reading.job_rss_gib is not None:
        return reading.job_rss_gib
    return _number(memory.get("rss_gib"))


def _host(reading: Reading, width: int, colours: Palette) -> Row:
    row: Row = [("host".ljust(LABEL), colours.muted), ("RAM ", colours.muted)]
    row += [(f"{figures.gib(reading.ram_used_gib)} / {reading.ram_total_gib:.0f} G", colours.text)]
    low, scarce = reading.disk_free_gib < 2, reading.disk_free_gib < 10
    tint = colours.red if low else colours.amber if scarce else colours.text
    row += [("   disk ", colours.muted), (f"{reading.disk_free_gib:.0f} G left", tint)]
    if reading.gpus and width >= 50:
        row += [("   CPU ", colours.muted), (figures.percent(reading.cpu), colours.text)]
    return row


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None
